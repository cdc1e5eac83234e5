"""A fleet's whole state, written to a folder while the fleet runs."""

import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from gantry import __version__
from gantry.deployment import paths, volumes
from gantry.deployment.backup.manifest import (
    DATABASE,
    MANIFEST,
    MIB,
    NEEDED,
    STACK_FILE,
    BackupError,
    Manifest,
    Part,
    engine,
    text_of,
)
from gantry.deployment.progress import Progress, step

PAUSE_SECONDS = 30


def save(fleet: str, folder: Path, progress: Progress) -> Manifest:
    """Write a fleet's whole state to a new folder, while the fleet runs.

    Git waits while the database and its repositories are written, so that they fit each other; the
    stores of images and of logs wait while each is written.

    Raises:
        BackupError: the fleet does not run, the folder is there, or something could not be read.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already: name a folder that is not")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(mode=0o700, parents=True)
        with engine() as client:
            manifest = _save(client, fleet, partial, progress)
        text = json.dumps(asdict(manifest), indent=2) + "\n"
        _write(partial / MANIFEST, [text.encode()])
        partial.rename(folder)
    except (DockerException, OSError) as error:
        raise BackupError(f"backup of {fleet}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _save(client: DockerClient, fleet: str, folder: Path, progress: Progress) -> Manifest:
    postgres = _running(client, fleet, "postgres")
    schema = _schema(postgres)
    names = {each.name for each in client.volumes.list()}
    if missing := [each for each in NEEDED if volumes.data_volume(fleet, each) not in names]:
        raise BackupError(
            f"{fleet} has no volume {volumes.data_volume(fleet, missing[0])}: `gantry up {fleet}`"
        )
    parts = {STACK_FILE: _write(folder / STACK_FILE, [paths.stack_file(fleet).read_bytes()])}

    def volume(service: str) -> None:
        name = volumes.data_volume(fleet, service)
        if name not in names:
            progress(f"    {service}: no volume; images in a bucket are backed up by its own means")
            return
        with step(f"{service}", progress) as say, volumes.opened(client, name) as shelf:
            stream, _ = shelf.get_archive(volumes.FOLDER)
            file = folder / f"{service}.tar"
            parts[file.name] = _write(file, _told(stream, say))
            _read_through(file)

    volume("identity")
    # From the database on: each image that it names must be read.
    with _stopped(client, fleet, "collector"):
        with _waiting(client, fleet, "git"):
            with step("database", progress) as say:
                parts[DATABASE] = _write(folder / DATABASE, _told(_dump(client, postgres), say))
            volume("git")
        with _waiting(client, fleet, "registry"):
            volume("registry")
    with _waiting(client, fleet, "nats"):
        volume("nats")
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(fleet, made, __version__, schema, parts)


def _container(client: DockerClient, fleet: str, service: str) -> Container | None:
    try:
        return client.containers.get(f"gantry-{fleet}-{service}")
    except NotFound:
        return None


def _running(client: DockerClient, fleet: str, service: str) -> Container:
    found = _container(client, fleet, service)
    if found is None or found.status != "running":
        state = "not there" if found is None else found.status
        raise BackupError(f"{service} of {fleet} is {state}: `gantry up {fleet}` first")
    return found


@contextmanager
def _waiting(client: DockerClient, fleet: str, service: str) -> Iterator[None]:
    """A service stands still: what it wrote fits together. One that does not run does already."""
    container = _container(client, fleet, service)
    if container and container.status == "paused":
        raise BackupError(
            f"{service} of {fleet} is paused, by another backup or one that was killed: if none "
            f"runs, `docker unpause {container.name}`"
        )
    if container is None or container.status != "running":
        yield
        return
    _pause(container)
    try:
        yield
    finally:
        container.unpause()


@contextmanager
def _stopped(client: DockerClient, fleet: str, service: str) -> Iterator[None]:
    """A service that removes things is ended meanwhile, not halted amid a removal."""
    container = _container(client, fleet, service)
    if container is None or container.status != "running":
        yield
        return
    container.stop()
    try:
        yield
    finally:
        container.start()


def _pause(container: Container) -> None:
    """Docker gives up when a process begins another meanwhile, or is not scheduled soon enough."""
    deadline = time.monotonic() + PAUSE_SECONDS
    while True:
        try:
            return container.pause()
        except APIError as error:
            if "unable to freeze" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _schema(postgres: Container) -> str:
    query = "select version_num from alembic_version"
    words = ["psql", "-U", "postgres", "-d", "gantry", "-Atc", query]
    status, output = postgres.exec_run(words)
    if status:
        raise BackupError(f"the database does not answer: {text_of(output)}")
    return text_of(output)


def _dump(client: DockerClient, postgres: Container) -> Iterator[bytes]:
    words = ["pg_dump", "--username=postgres", "--format=custom", "--dbname=gantry"]
    run = client.api.exec_create(postgres.id, words)["Id"]
    said = b""
    for out, err in client.api.exec_start(run, stream=True, demux=True):
        said += err or b""
        if out:
            yield out
    if status := client.api.exec_inspect(run)["ExitCode"]:
        raise BackupError(f"pg_dump ended with {status}: {said.decode(errors='replace').strip()}")


def _told(stream: Iterable[bytes], say: Progress) -> Iterator[bytes]:
    """The stream; how much has passed is said every few seconds."""
    size, spoken = 0, time.monotonic()
    for block in stream:
        size += len(block)
        if time.monotonic() - spoken > 5:
            spoken = time.monotonic()
            say(f"{size / MIB:.0f} MiB")
        yield block
    say(f"{size / MIB:.1f} MiB")


def _write(file: Path, blocks: Iterable[bytes]) -> Part:
    size, digest = 0, hashlib.sha256()
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        for block in blocks:
            target.write(block)
            digest.update(block)
            size += len(block)
        target.flush()
        os.fsync(target.fileno())
    return Part(size, digest.hexdigest())


def _read_through(file: Path) -> None:
    """The engine ends a tar early when it cannot read on: that must not pass for a backup."""
    try:
        with tarfile.open(file) as archive:
            count = sum(1 for _ in archive)
    except tarfile.TarError as error:
        raise BackupError(f"{file.name}: the engine did not write all of it: {error}") from error
    if not count:
        raise BackupError(f"{file.name}: the engine wrote nothing")
