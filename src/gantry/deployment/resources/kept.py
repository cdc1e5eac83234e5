"""Secrets that outlive a stack's state: kept in a volume beside the data that they belong to.

`destroy` keeps the data volumes and forgets the state. What `up` cannot make anew without
breaking what was kept (the authority that devices trust, the SSH host key that users know, the
admin's password, the key that secrets in the database are encrypted under) is therefore written to
a volume of its own, which lives and dies with the data volumes.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

import docker
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from gantry.deployment import volumes

MAX_BYTES = 64 * 1024


class KeptError(Exception):
    """The volume could not be read or written; the message says which and why."""


@contextmanager
def kept_in(volume: str) -> Iterator["KeptSecrets"]:
    """The secrets kept in a volume of the engine that the environment names (DOCKER_HOST).

    Raises:
        KeptError: no engine answers.
    """
    try:
        client = docker.from_env()
    except DockerException as error:
        raise KeptError(f"no Docker engine answers ({error}): run `make setup`") from error
    with closing(client):
        yield KeptSecrets(client, volume)


class KeptSecrets:
    """Named secrets in a Docker volume that no running container mounts."""

    def __init__(self, client: docker.DockerClient, volume: str) -> None:
        self._client = client
        self._volume = volume

    def read(self, name: str) -> str | None:
        """The secret of this name, or None when it was never kept.

        Raises:
            KeptError: the engine refused, or what is there is not a small file.
        """
        with self._shelf() as shelf:
            try:
                stream, _ = shelf.get_archive(f"{volumes.FOLDER}/{name}")
            except NotFound as error:
                # A streamed answer that nobody reads would hold its connection.
                if error.response is not None:
                    error.response.close()
                return None
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                member = archive.next()
                content = archive.extractfile(member) if member and member.isfile() else None
                if content is None or member is None or member.size > MAX_BYTES:
                    raise KeptError(f"{name} in volume {self._volume} is not a small file")
                return content.read().decode()

    def write(self, name: str, secret: str) -> None:
        """Keep a secret under this name, in place of what was there.

        Raises:
            KeptError: the engine refused.
        """
        content = secret.encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
        with self._shelf() as shelf:
            shelf.put_archive(volumes.FOLDER, buffer.getvalue())

    @contextmanager
    def _shelf(self) -> Iterator[Container]:
        try:
            with volumes.opened(self._client, self._volume) as shelf:
                yield shelf
        except DockerException as error:
            raise KeptError(f"volume {self._volume}: {error}") from error
