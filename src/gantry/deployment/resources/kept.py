"""Secrets that outlive a stack's state: kept in a volume beside the data that they belong to.

`destroy` keeps the data volumes and forgets the state. What `up` cannot make anew without
breaking what was kept (the authority that devices trust, the SSH host key that users know, the
admin's password, the key that secrets in the database are encrypted under) is therefore written to
a volume of its own, which lives and dies with the data volumes.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

import docker
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

SHELF = "/kept"
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
    """Named secrets in a Docker volume that no running container mounts.

    Read and written through a container that is made and never started: it needs no image but an
    empty one, so it works before the first image is there.
    """

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
                stream, _ = shelf.get_archive(f"{SHELF}/{name}")
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
            shelf.put_archive(SHELF, buffer.getvalue())

    @contextmanager
    def _shelf(self) -> Iterator[Container]:
        image = container = None
        try:
            image = self._empty_image()
            container = self._client.containers.create(
                image, ["never-started"], network_mode="none", volumes=[f"{self._volume}:{SHELF}"]
            )
            yield container
        except DockerException as error:
            raise KeptError(f"volume {self._volume}: {error}") from error
        finally:
            if container:
                container.remove(force=True)
            if image:
                self._client.images.remove(image)

    def _empty_image(self) -> str:
        # Its id depends on the time to the nanosecond: two at once do not remove each other's.
        archive = b"\0" * 1024
        answer = self._client.api.import_image_from_data(
            archive, changes=[f"LABEL gantry.kept={self._volume}"]
        )
        for line in answer.splitlines():
            status = str(json.loads(line).get("status", ""))
            if status.startswith("sha256:"):
                return status
        raise KeptError(f"volume {self._volume}: the engine imported no empty image: {answer}")
