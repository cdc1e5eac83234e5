"""The doorway to an engine: a device's over TCP, or the one here."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from gantry.local.errors import DeviceUnreachableError, LocalError
from gantry.local.target import APP_ID

PORT = 2377
# Of one request; a slow card takes its time to load an image.
_TIMEOUT = 900
_UUID_LABEL, _SERVICE_LABEL = "io.balena.app-uuid", "io.balena.service-name"


@dataclass(frozen=True, slots=True)
class Running:
    """The container of a service of the local application."""

    id: str
    image: str
    status: str


class LocalEngine:
    """An engine. `address` is `tcp://…`, or None for the one of this machine; `name` is for
    people."""

    def __init__(self, address: str | None, name: str) -> None:
        self.address = address
        self._name = name
        try:
            self._client = (
                docker.DockerClient(base_url=address, timeout=_TIMEOUT)
                if address
                else docker.from_env(timeout=_TIMEOUT)
            )
            self._client.version()
        except (DockerException, requests.RequestException) as error:
            raise DeviceUnreachableError(
                f"no engine answers at {address or 'this machine'} ({error}): "
                + ("is the device of variant development?" if address else "`make setup` starts it")
            ) from error

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def has_image(self, reference: str) -> bool:
        """Whether an image of this name is there."""
        with self._errors():
            try:
                self._client.images.get(reference)
            except ImageNotFound:
                return False
            return True

    def image(self, reference: str) -> tuple[str, str]:
        """`(id, folder that its processes start in)` of an image."""
        with self._errors():
            found = self._client.images.get(reference)
            config: Mapping[str, Any] = found.attrs.get("Config") or {}
            return str(found.id), str(config.get("WorkingDir") or "/")

    def tag(self, reference: str, name: str) -> None:
        """Give an image another name."""
        repository, _, tag = name.rpartition(":")
        with self._errors():
            self._client.images.get(reference).tag(repository, tag)

    def untag(self, name: str) -> None:
        """Take a name away; one that is gone is fine, one that a container has stays."""
        with self._errors(), suppress(ImageNotFound):
            try:
                self._client.images.remove(name)
            except APIError as error:
                if error.status_code != 409:
                    raise

    def pull(self, name: str, username: str, password: str) -> None:
        """Download an image."""
        repository, _, tag = name.rpartition(":")
        auth = {"username": username, "password": password}
        with self._errors():
            self._client.images.pull(repository, tag, auth_config=auth)

    def save(self, name: str) -> Iterator[bytes]:
        """An image as an archive, which `load` takes."""
        with self._errors():
            yield from self._client.images.get(name).save(named=True)

    def load(self, archive: Iterator[bytes], progress: Callable[[int], None]) -> None:
        """Take an image; `progress` hears how many bytes have gone over."""
        sent = 0

        def counted() -> Iterator[bytes]:
            nonlocal sent
            for piece in archive:
                sent += len(piece)
                progress(sent)
                yield piece

        with self._errors():
            answers: Iterator[dict[str, Any]] = self._client.api.load_image(  # type: ignore[no-untyped-call]
                counted()
            )
            for message in answers:
                if "error" in message:
                    raise LocalError(f"{self._name} cannot load the image: {message['error']}")

    def services(self, images: Iterable[str]) -> dict[str, Running]:
        """The containers of the local application that were made from these images, by service."""
        wanted = set(images)
        with self._errors():
            containers = self._client.api.containers(
                all=True, filters={"label": f"{_UUID_LABEL}={APP_ID}"}
            )
        return {
            each["Labels"][_SERVICE_LABEL]: Running(each["Id"], each["Image"], each["State"])
            for each in containers
            if each["Image"] in wanted and _SERVICE_LABEL in each["Labels"]
        }

    def is_folder(self, container: str, path: str) -> bool:
        """Whether a path in a container is a folder."""
        with self._errors():
            try:
                _, status = self._client.containers.get(container).get_archive(path)
            except NotFound:
                return False
            return bool(int((status or {})["mode"]) & 1 << 31)  # Go's os.ModeDir

    def put(self, container: str, context: Path, copies: Iterable[tuple[str, str]]) -> None:
        """Copy files of a context into a container: root's there, as a build has it."""
        buffer = io.BytesIO()
        copies = tuple(copies)
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for folder in self._missing_folders(container, (place for _, place in copies)):
                member = tarfile.TarInfo(folder.lstrip("/"))
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            for source, place in copies:
                member = archive.gettarinfo(context / source, arcname=place.lstrip("/"))
                member.uid = member.gid = 0
                member.uname = member.gname = "root"
                if member.isfile():
                    with (context / source).open("rb") as content:
                        archive.addfile(member, content)
                else:
                    archive.addfile(member)
        with self._errors():
            self._client.containers.get(container).put_archive("/", buffer.getvalue())

    def _missing_folders(self, container: str, places: Iterable[str]) -> list[str]:
        """Folders to be made, the outer before the inner: left to the engine, nobody could enter
        them."""
        wanted = {str(folder) for place in places for folder in PurePosixPath(place).parents}
        found: list[str] = []
        here: set[str] = {"/"}
        for folder in sorted(wanted, key=len, reverse=True):
            if folder in here:
                continue
            if self.is_folder(container, folder):
                here |= {folder, *(str(each) for each in PurePosixPath(folder).parents)}
            else:
                found.append(folder)
        return sorted(found, key=len)

    def remove(self, container: str, paths: Iterable[str]) -> bool:
        """Remove files in a running container; False where it cannot be done."""
        with self._errors():
            try:
                result = self._client.containers.get(container).exec_run(
                    ["rm", "-f", "--", *paths], user="0"
                )
            except APIError:
                return False
            return result.exit_code == 0

    def restart(self, container: str) -> None:
        """End a container's processes and start it again."""
        with self._errors():
            self._client.containers.get(container).restart()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (DockerException, requests.RequestException) as error:
            said = getattr(error, "explanation", None) or str(error)
            raise LocalError(f"the engine of {self._name}: {said}") from error
