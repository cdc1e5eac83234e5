"""Have the supervisor's image: from an archive on the data partition, else from the registry."""

from collections.abc import Callable
from typing import Any

from gantry_supervisor import settings
from gantry_supervisor.engine import Engine, EngineError, EngineGoneError

Say = Callable[[str], None]
# What came without its registry has its digest in its tag: `name:sha256-…`.
BY_DIGEST, BY_TAG = "@sha256:", ":sha256-"


def tagged(image: str) -> str:
    """The other name of `name@sha256:…` that an engine may hold it by; '' for a name without a
    digest. The supervisor names so what it brings by delta: an engine takes a digest into an
    image's names only where it pulled it by that."""
    name, is_by_digest, digest = image.partition(BY_DIGEST)
    return f"{name}{BY_TAG}{digest}" if is_by_digest else ""


def canonical(image: str) -> str:
    """`name@sha256:…` for what `tagged` makes of it; other names as they are."""
    return image.replace(BY_TAG, BY_DIGEST)


def held(engine: Engine, image: str) -> str:
    """The name by which the engine has this image; '' where it does not.

    Raises:
        EngineError: the engine does not answer.
    """
    names = (image, tagged(image))
    return next((each for each in names if each and engine.image(each)), "")


def ensure(engine: Engine, image: str, config: dict[str, Any], say: Say) -> None:
    """Have an image.

    Raises:
        EngineError: it can be had neither way.
    """
    load_archives(engine, say)
    if held(engine, image):
        return
    say(f"pulling {image}")
    try:
        for _ in engine.pull(image, settings.login(config, image)):
            pass
    except EngineError as error:
        raise EngineError(f"{image} cannot be pulled: {error}", error.status) from error
    if not engine.image(image):
        raise EngineError(f"{image} was pulled, but the engine does not have it")


def load_archives(engine: Engine, say: Say) -> None:
    """Load what /mnt/data/preload holds, each archive once. A broken one is set aside."""
    for archive in sorted(settings.PRELOAD.glob("*.tar")):
        say(f"loading {archive.name}")
        try:
            for _ in engine.load(archive):
                pass
        except EngineGoneError:
            raise
        except EngineError as error:
            if "no space left" in str(error):
                raise EngineError(f"{archive.name} cannot be loaded: {error}") from error
            say(f"{archive.name} cannot be loaded and is set aside: {error}")
            archive.rename(archive.with_suffix(".broken"))
        else:
            archive.unlink()


def forget(engine: Engine, images: tuple[str, ...], current: str, say: Say) -> None:
    """Remove images that no longer run. One that something else uses stays, and is not asked for
    again."""
    for image in images:
        if image == current:
            continue
        try:
            found = [engine.remove(f"/images/{each}") for each in (image, tagged(image)) if each]
            if any(found):
                say(f"removed {image}")
        except EngineError as error:
            say(f"{image} stays: {error}")
