"""Images of a bundle into the engine, under the names of the fleet's registry."""

from collections.abc import Callable, Iterable
from contextlib import aclosing

from gantry.contracts.bundle import BundledImage, local_tag
from gantry.supervisor.bundle import Bundle
from gantry.supervisor.bundle_folder import KIND
from gantry.supervisor.bundle_registry import served
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.loopback import registry


async def layers_here(engine: Engine) -> list[list[str]]:
    """The layers of every image, as lists of their unpacked digests from the bottom up.

    Raises:
        EngineError: the engine did not answer.
    """
    found = []
    for image in await engine.images():
        try:
            document = await engine.inspect_image(str(image["Id"]))
        except EngineError as error:
            if error.status == 404:  # removed meanwhile
                continue
            raise
        found.append([str(each) for each in (document.get("RootFS") or {}).get("Layers") or []])
    return found


async def pull_all(
    engine: Engine,
    bundle: Bundle,
    images: Iterable[BundledImage],
    instance: str,
    moved: Callable[[int], None],
) -> dict[str, str]:
    """Pull these images from the bundle; where the engine has each, by its reference. `moved` hears
    how many of them are there.

    Raises:
        EngineError: the engine could not, for want of room or because the bundle cannot be read.
    """
    sources: dict[str, str] = {}
    async with registry(served(bundle), KIND, instance) as name:
        for image in images:
            source = f"{name}@{image.reference.partition('@')[2]}"
            async with aclosing(engine.pull(source, None)) as messages:
                async for _message in messages:
                    pass
            sources[image.reference] = source
            moved(len(sources))
    return sources


async def name_all(engine: Engine, sources: dict[str, str]) -> None:
    """Give pulled images the names of the fleet's registry.

    Raises:
        EngineError: the engine did not.
    """
    for reference, source in sources.items():
        tag = local_tag(reference)
        if tag is not None:
            await engine.tag_image(source, tag)
