"""Looking at the engine: four questions, one picture."""

import asyncio
from collections.abc import Iterable

from gantry.supervisor.desired import Label
from gantry.supervisor.engine import Engine
from gantry.supervisor.state import (
    CurrentState,
    read_container,
    read_image,
    read_network,
)


async def observe(engine: Engine, instance: str) -> CurrentState:
    """What is there of this instance's, and all images and volumes.

    Raises:
        EngineError: the engine did not answer.
    """
    containers, images, networks, volumes = await asyncio.gather(
        engine.containers(),
        engine.images(),
        engine.networks(f"{Label.INSTANCE}={instance}"),
        engine.volumes(),
    )
    used = frozenset(str(each.get("ImageID", "")) for each in containers)
    mine = (
        each for each in containers if (each.get("Labels") or {}).get(Label.INSTANCE) == instance
    )
    return CurrentState(
        containers=tuple(read_container(each) for each in mine),
        images=tuple(read_image(each, used) for each in images),
        networks=tuple(read_network(each) for each in networks),
        volumes=frozenset(volumes),
    )


def owned_images(current: CurrentState, registries: Iterable[str]) -> frozenset[str]:
    """Names of application images from registries that this device's targets have named.

    Application images are the family's `<registry>/v2/<hash>`; the supervisor's own image and what
    others put into the engine have other names.
    """
    prefixes = tuple(f"{registry}/v2/" for registry in registries)
    return frozenset(
        reference
        for image in current.images
        for reference in image.references
        if reference.startswith(prefixes)
    )


def registry_of(reference: str) -> str:
    """Host and port in an image's name."""
    return reference.partition("/")[0]
