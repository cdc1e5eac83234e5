"""Data volumes, read and written without a program in them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from docker import DockerClient
from docker.models.containers import Container

FOLDER = "/volume"
LABEL = "gantry.volume"


def data_volume(fleet: str, service: str) -> str:
    """The name of the volume that a service of a fleet keeps its data in."""
    return f"gantry-{fleet}-{service}-data"


@contextmanager
def opened(client: DockerClient, volume: str) -> Iterator[Container]:
    """A container that is never started and has the volume at `FOLDER`, for its archive calls.

    It needs no image but an empty one, so it works before the first image is there.

    Raises:
        DockerException: the engine refused.
    """
    image = container = None
    try:
        image = _empty_image(client, volume)
        container = client.containers.create(
            image, ["never-started"], network_mode="none", volumes=[f"{volume}:{FOLDER}"]
        )
        yield container
    finally:
        if container:
            container.remove(force=True)
        if image:
            client.images.remove(image)


def remove(client: DockerClient, volume: str) -> None:
    """Remove a volume, also where whoever had it opened was killed and left it in use.

    Raises:
        DockerException: the engine refused; something else uses it.
    """
    # The container has its image's label.
    for left in client.containers.list(all=True, filters={"label": f"{LABEL}={volume}"}):
        left.remove(force=True)
        client.images.remove(left.attrs["Image"])
    client.volumes.get(volume).remove()


def _empty_image(client: DockerClient, volume: str) -> str:
    # Its id depends on the time to the nanosecond: two at once do not remove each other's.
    answer = client.api.import_image_from_data(b"\0" * 1024, changes=[f"LABEL {LABEL}={volume}"])
    statuses = (str(json.loads(line).get("status", "")) for line in answer.splitlines())
    return next(each for each in statuses if each.startswith("sha256:"))
