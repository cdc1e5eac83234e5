"""A fleet's volumes, made from a backup: all of them or none."""

import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from docker import DockerClient
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from gantry.deployment import fleet_objects, paths, volumes
from gantry.deployment.backup.manifest import (
    DATABASE,
    STACK_FILE,
    BackupError,
    Manifest,
    check,
    engine,
    text_of,
)
from gantry.deployment.images import ImageError, build_image
from gantry.deployment.progress import Progress, step

READY_SECONDS = 120
DATABASE_USER = 10002
SPOOL = "/var/tmp"  # noqa: S108 - a folder of a container that is our own


def restore(fleet: str, folder: Path, progress: Progress) -> Manifest:
    """Make a fleet's volumes from a backup; `gantry up` goes on with them.

    Nothing is written over: the fleet has no services and no data volumes. A restore that was
    killed leaves a marker, with which `up` refuses and the next restore begins anew.

    Raises:
        BackupError: the backup is not whole, the fleet is there, or the engine refused. What was
            made is removed again.
    """
    manifest = check(folder, progress)
    if manifest.fleet != fleet:
        raise BackupError(f"{folder} is of {manifest.fleet}, not of {fleet}")
    _refuse_over_data(fleet)
    try:
        with engine() as client, _all_or_nothing(client, fleet):
            for name in manifest.parts:
                if name.endswith(".tar"):
                    _fill(client, fleet, folder / name, progress)
            _load(client, fleet, folder / DATABASE, progress)
    except (DockerException, OSError, ImageError) as error:
        raise BackupError(f"restore of {fleet}: {error}") from error
    stack_file = paths.stack_file(fleet)
    if not stack_file.exists():
        shutil.copyfile(folder / STACK_FILE, stack_file)
        progress(f"    wrote {stack_file}, as it was then")
    return manifest


def refuse_half_restored(fleet: str) -> None:
    """
    Raises:
        BackupError: a restore was killed: what is there of the fleet's data is not all.
    """
    if _marker(fleet) in fleet_objects.of_fleet(fleet).volumes:
        raise BackupError(
            f"a restore of {fleet} did not end: `gantry restore {fleet} FOLDER` again, which "
            "begins anew"
        )


def _marker(fleet: str) -> str:
    return f"gantry-{fleet}-restoring"


def _refuse_over_data(fleet: str) -> None:
    found = fleet_objects.of_fleet(fleet)
    if found.services:
        raise BackupError(
            f"{fleet} is deployed here: a restore writes over nothing. `gantry backup {fleet}` if "
            f"its data count, then `gantry destroy {fleet}` and remove its data volumes"
        )
    if found.volumes and _marker(fleet) not in found.volumes:
        raise BackupError(
            f"data of {fleet} are here, and a restore writes over nothing. If they may go:\n"
            f"  docker volume rm {' '.join(found.volumes)}"
        )


@contextmanager
def _all_or_nothing(client: DockerClient, fleet: str) -> Iterator[None]:
    """A marker while volumes are made; all of them removed where that fails."""

    def remove() -> None:
        with suppress(NotFound):
            client.containers.get(_marker(fleet)).remove(force=True)
        left = set(fleet_objects.of_fleet(fleet).volumes)
        # The marker last: it says that the others are not to be used.
        for name in sorted(left, key=lambda each: each == _marker(fleet)):
            volumes.remove(client, name)

    remove()
    _make_volume(client, fleet, _marker(fleet))
    try:
        yield
    except BaseException:
        remove()
        raise
    client.volumes.get(_marker(fleet)).remove()


def _make_volume(client: DockerClient, fleet: str, name: str) -> None:
    client.volumes.create(name, labels={fleet_objects.FLEET_LABEL: fleet})


def _fill(client: DockerClient, fleet: str, file: Path, progress: Progress) -> None:
    name = volumes.data_volume(fleet, file.stem)
    with step(f"{file.stem}", progress):
        _make_volume(client, fleet, name)
        with volumes.opened(client, name) as shelf, file.open("rb") as stream:
            shelf.put_archive("/", stream)


def _load(client: DockerClient, fleet: str, dump: Path, progress: Progress) -> None:
    """The database, by a PostgreSQL that nobody else reaches."""
    image = build_image("postgres", progress, client=client)
    volume = volumes.data_volume(fleet, "postgres")
    with step("database", progress) as say:
        _make_volume(client, fleet, volume)
        postgres = client.containers.create(
            image.tag,
            name=_marker(fleet),
            network_mode="none",
            volumes=[f"{volume}:/var/lib/postgresql/data"],
            labels={fleet_objects.FLEET_LABEL: fleet},
        )
        try:
            # `up` sets a password of its own at the next start.
            _put(postgres, "/etc", "gantry/postgres-password", _once())
            with dump.open("rb") as stream:
                _put(postgres, SPOOL, DATABASE, stream)
            postgres.start()
            _until_ready(postgres)
            say("loading")
            words = ["pg_restore", "--username=postgres", "--dbname=gantry", "--exit-on-error"]
            status, output = postgres.exec_run([*words, f"{SPOOL}/{DATABASE}"])
            if status:
                raise BackupError(f"pg_restore: {text_of(output)}")
            postgres.stop(timeout=READY_SECONDS)
        finally:
            postgres.remove(force=True)


def _once() -> IO[bytes]:
    return io.BytesIO(os.urandom(32).hex().encode())


def _put(container: Container, folder: str, name: str, content: IO[bytes]) -> None:
    """A file for the container's user, through a temporary tar: its size has to come first."""
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.size = content.seek(0, os.SEEK_END)
            member.mode, member.uid, member.gid = 0o400, DATABASE_USER, DATABASE_USER
            content.seek(0)
            archive.addfile(member, content)
        spool.seek(0)
        container.put_archive(folder, spool)


def _until_ready(postgres: Container) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        postgres.reload()
        if postgres.status == "exited":
            break
        if postgres.exec_run(["/usr/local/bin/healthy"])[0] == 0:
            return
        time.sleep(0.5)
    said = postgres.logs(tail=5).decode(errors="replace")
    raise BackupError(f"PostgreSQL does not start: {said.strip()}")
