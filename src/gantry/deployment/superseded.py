"""Images of ours that a newer recipe has replaced: each change of a recipe leaves one behind.

The engine reads the configuration of every image that it has, its builds' steps too, whenever it
lists images: what is never used again costs disk, and every look.
"""

from collections.abc import Iterable

import docker
from docker.errors import APIError, ImageNotFound

# The newest, and those of other checkouts on the same machine.
KEPT = 3
LABEL = "gantry.image"


def remove_superseded(
    client: docker.DockerClient, names: Iterable[str], kept: int = KEPT
) -> list[str]:
    """Remove all but the newest images of these recipes, by when they were made; the tags removed.

    What a container was made from stays, and so do images that another one is built on. Build steps
    go with the last image that has them.

    Raises:
        docker.errors.APIError: the engine did not answer.
    """
    removed = []
    for name in names:
        found = client.api.images(filters={"label": f"{LABEL}={name}"})
        # An architecture's images are a repository of their own.
        ages: dict[str, list[tuple[int, str]]] = {}
        for image in found:
            for tag in image["RepoTags"] or []:
                ages.setdefault(tag.partition(":")[0], []).append((image["Created"], tag))
        for tags in ages.values():
            for _, tag in sorted(tags, reverse=True)[kept:]:
                if _remove(client, tag):
                    removed.append(tag)
    return removed


def _remove(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.remove(tag)
    except ImageNotFound:
        return False
    except APIError as error:
        if error.status_code == 409:  # in use
            return False
        raise
    return True
