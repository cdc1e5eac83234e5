"""`gantry-supervisor-update`: another supervisor, with a way back.

The image is had while the old one runs. The unit then tries it (`trial.py`); whatever becomes of
this program, the device ends with a supervisor that runs.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from gantry_supervisor import files, health, images, settings, trial
from gantry_supervisor.engine import Engine, EngineError, split_reference
from gantry_supervisor.files import FileError
from gantry_supervisor.trial import Trial

UNIT = "gantry-supervisor.service"
LOCK = settings.RUN / "supervisor-update.lock"
RESULT = settings.RUN / "supervisor-update.json"
# Beyond the trial's own time: stopping and starting containers on a slow card.
GRACE_SECONDS = 120.0


class UpdateError(Exception):
    """The update cannot be made or was not kept; the message says why and what runs."""


class NotKeptError(UpdateError):
    """The image was tried, and the old one came back."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an update ended, for who asked by the door. `state` is `updated` (or it ran already),
    `returned` (it was tried, and the old one came back) or `failed` (it was not tried)."""

    image: str
    state: str
    message: str


def main(image: str, version: str, seconds: float | None, settle: float | None) -> int:
    """Update to an image, or to a version of the fleet's; the exit status."""
    try:
        with _locked():
            return _told(image, version, seconds, settle)
    except (UpdateError, FileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _told(image: str, version: str, seconds: float | None, settle: float | None) -> int:
    """Update, and leave the result where the door finds it; the exit status."""
    files.remove(RESULT)
    try:
        found = Result(image, "updated", _update(Engine(), image, version, seconds, settle))
        print(found.message)
    except (UpdateError, EngineError, FileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        state = "returned" if isinstance(error, NotKeptError) else "failed"
        found = Result(image, state, str(error))
    files.write_object(RESULT, asdict(found))
    return 0 if found.state == "updated" else 1


def result() -> Result | None:
    """How the last update since the host's start ended; None when there was none, or it goes on.

    Raises:
        FileError: the file is broken.
    """
    document = files.read_object(RESULT)
    return Result(**document) if document is not None else None


def _update(
    engine: Engine, image: str, version: str, seconds: float | None, settle: float | None
) -> str:
    role, config = settings.role_settings(), settings.config()
    current = settings.current_image(settings.choice(), role, config)
    wanted = image or settings.fleet_image(role, config, version)
    if not wanted:
        raise UpdateError(f"{settings.CONFIG} names no fleet (apiEndpoint): give an image")
    if split_reference(wanted) == split_reference(current or ":"):
        return f"{current} runs already"
    if not settings.STORE.joinpath("database.sqlite").exists():
        # None has ever run here: there is nothing to go back to.
        settings.write_choice(settings.choice().changed(image=wanted))
        return f"{wanted} will run"
    if (found := trial.pending()) and found.begun:
        raise UpdateError(f"another update is under way, to {found.image}: wait for it")
    images.ensure(engine, wanted, config, lambda text: print(text, flush=True))
    # A digest names what is in it; what runs may be the same under a tag, or from an archive.
    if "@" in wanted and _runs(engine, wanted):
        return f"{wanted} runs already, as {current}"
    asked = Trial(wanted, seconds or role.update_seconds, settle or role.settle_seconds)
    trial.ask(asked)
    _systemctl("restart")
    result = _wait(asked)
    if result.kept:
        return f"{wanted} runs now, {current or 'nothing'} ran before"
    back = _wait_for_health(settings.port(config), role.start_seconds)
    raise NotKeptError(
        f"{wanted} was not kept: {result.reason}. "
        + (f"{current} runs again" if back else f"{current} was started again, and is not healthy")
        + f"; journalctl -u {UNIT} has what it said"
    )


def _runs(engine: Engine, image: str) -> bool:
    """Whether the container that runs is of this very image."""
    container = engine.container(settings.CONTAINER)
    found = engine.image(images.held(engine, image) or image)
    return bool(container and found and container["Image"] == found["Id"])


def _wait(asked: Trial) -> trial.Outcome:
    """How the trial ends.

    Raises:
        UpdateError: the unit does not say.
    """
    end = time.monotonic() + asked.seconds + asked.settle + GRACE_SECONDS
    while time.monotonic() < end:
        if result := trial.outcome():
            return result
        time.sleep(0.5)
    raise UpdateError(f"{UNIT} has not tried {asked.image}: see journalctl -u {UNIT}")


def _wait_for_health(port: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if health.healthy(port):
            return True
        time.sleep(1)
    return False


def _systemctl(verb: str) -> None:
    try:
        subprocess.run(
            ["systemctl", verb, UNIT], check=True, capture_output=True, text=True, timeout=300
        )
    except subprocess.CalledProcessError as error:
        raise UpdateError(f"systemctl {verb} {UNIT}: {error.stderr.strip()}") from error


@contextmanager
def _locked() -> Iterator[None]:
    """One update at a time.

    Raises:
        UpdateError: another is under way.
    """
    if os.geteuid() != 0:
        raise UpdateError("only root may update the supervisor: use sudo")
    settings.RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpdateError("another update is under way: wait for it") from error
        yield
