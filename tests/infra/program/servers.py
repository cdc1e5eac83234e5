"""Containers for tests of single servers: as the fleet runs them, configuration by upload."""

import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
from docker.models.containers import Container

START_SECONDS = 60


def archive(files: Mapping[str, str]) -> bytes:
    """A tar of `/etc/gantry/<name>`, each readable by all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"etc/gantry/{name}")
            member.size, member.mode = len(content.encode()), 0o444
            tar.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


@contextmanager
def running(
    client: docker.DockerClient, image: str, user: str, files: Mapping[str, str], **options: Any
) -> Iterator[Container]:
    """A started container without any capability; removed at the end."""
    container = client.containers.create(
        image,
        name=f"infra-test-{uuid.uuid4().hex[:8]}",
        user=user,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        **options,
    )
    try:
        container.put_archive("/", archive(files))
        container.start()
        yield container
    finally:
        container.remove(force=True, v=True)


def until(check: Callable[[], bool], container: Container) -> None:
    """Wait for `check`, and fail with the container's log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.2)
    raise AssertionError(container.logs().decode())


def port_of(container: Container, inside: int) -> int:
    """The loopback port that a container's port is published at."""
    container.reload()
    bindings = container.ports[f"{inside}/tcp"]
    assert bindings
    return int(bindings[0]["HostPort"])
