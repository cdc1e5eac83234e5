"""Have the supervisor's image: from an archive on the data partition, else from the registry."""

from collections.abc import Callable
from typing import Any

from gantry_supervisor import settings
from gantry_supervisor.engine import Engine, EngineError, EngineGoneError

Say = Callable[[str], None]


def ensure(engine: Engine, image: str, config: dict[str, Any], say: Say) -> None:
    """Have an image.

    Raises:
        EngineError: it can be had neither way.
    """
    load_archives(engine, say)
    if engine.image(image):
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
            if engine.remove(f"/images/{image}"):
                say(f"removed {image}")
        except EngineError as error:
            say(f"{image} stays: {error}")
