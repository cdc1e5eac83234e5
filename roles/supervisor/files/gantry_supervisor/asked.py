"""An update of the supervisor that the supervisor itself asks for by the door."""

import re
from dataclasses import asdict
from typing import Any

from gantry_supervisor import images, settings, trial, update
from gantry_supervisor.engine import Engine, EngineError

# Of its own, so that the update outlives the supervisor that asked for it.
UNIT = "gantry-supervisor-update.service"
PROGRAM = "/usr/local/sbin/gantry-supervisor-update"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class AskedError(Exception):
    """It cannot be told or done; the message says why."""


def state() -> dict[str, Any]:
    """`image`, the name by which the container was started, and `digests`, its image's names in
    registries; `tags`: an image may be here as `images.tagged` says; `trying`, whether an update is
    on trial; `result` of the last update since the host's start, or None.

    Raises:
        AskedError: the engine does not answer.
        FileError: the result is broken.
    """
    try:
        engine = Engine()
        container = engine.container(settings.CONTAINER)
        image = engine.image(container["Image"]) if container else None
    except EngineError as error:
        raise AskedError(str(error)) from error
    result, tried = update.result(), trial.pending()
    return {
        "image": images.canonical(container["Config"]["Image"]) if container else "",
        "digests": (image or {}).get("RepoDigests") or [],
        "tags": True,
        "trying": tried is not None and tried.begun,
        "result": asdict(result) if result else None,
    }


def checked(image: object) -> str:
    """The image of a request: by digest, and one of the fleet's supervisors for this device.

    Raises:
        AskedError: it is not, or this device runs none of its fleet's.
        FileError: its settings are broken.
    """
    name = settings.repository(settings.role_settings(), settings.config())
    if not name:
        raise AskedError(f"{settings.CONFIG} names no fleet, or the role no architecture")
    repository, _, digest = str(image).partition("@")
    if repository != name or not DIGEST.fullmatch(digest):
        raise AskedError(f"image is {image!r:.200}: only {name}@sha256:… is run here")
    if source := settings.choice().source:
        raise AskedError(
            f"the supervisor here is run from {source}, whatever its image is: end that first "
            "(gantry device sync ADDRESS --back)"
        )
    return f"{name}@{digest}"


def command(image: str) -> list[str]:
    """The command line that begins an update to an image that was checked."""
    return [
        "systemd-run",
        f"--unit={UNIT}",
        # One that failed is not to be in the way of the next.
        "--collect",
        "--quiet",
        "--property=SyslogIdentifier=gantry-supervisor-update",
        "--setenv=PYTHONDONTWRITEBYTECODE=1",
        "--setenv=PYTHONUNBUFFERED=1",
        PROGRAM,
        image,
    ]
