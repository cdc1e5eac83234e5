"""The unit gantry-supervisor: run the container, pass on what it prints, watch over its health.

systemd hears from here only while the container is well, and starts it all anew otherwise. When
this ends, so does the container; applications run on.
"""

import contextlib
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gantry_supervisor import container, health, images, settings, storage, trial
from gantry_supervisor.engine import Engine, EngineError, EngineGoneError
from gantry_supervisor.files import FileError
from gantry_supervisor.settings import CONTAINER
from gantry_supervisor.trial import Trial

# A frame of the engine's attached stream: which stream (all the same here), how many bytes follow.
HEADER = struct.Struct(">xxxxL")
LOOK_SECONDS = 15.0
WAIT_SECONDS = 10.0
STOP_SECONDS = 10


class EndError(Exception):
    """The container has ended or has to; the message says why."""


def say(text: str) -> None:
    """A line for the journal."""
    print(text, flush=True)


def main() -> int:
    """Run the supervisor until it ends or this is told to; the exit status."""
    engine = Engine()
    stopping = []

    def stop(*_: object) -> None:
        """The container is told to end, and its last lines are passed on."""
        stopping.append(True)
        # A process that has just begun does not hear it: process 1 has no default for signals.
        signal.alarm(STOP_SECONDS)
        try:
            engine.ask("POST", f"/containers/{CONTAINER}/kill?signal=SIGTERM")
        except EngineError:  # there is none, or none that runs
            sys.exit(0)

    def give_up(*_: object) -> None:
        raise EndError(f"the supervisor has not ended within {STOP_SECONDS} s")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, give_up)
    health.notify(READY="1", STATUS="starting")
    try:
        _run(engine)
    except (EndError, EngineError, FileError, OSError) as error:
        say(f"{error}{'' if stopping else '; starting it anew'}")
    finally:
        signal.alarm(0)
        _remove(engine)
    return 0 if stopping else 1


def clear() -> int:
    """After the unit's end, however `main` came to its own; the exit status."""
    _remove(Engine())
    return 0


def _remove(engine: Engine) -> None:
    """No container is left behind, whatever happened."""
    with contextlib.suppress(EngineError):
        engine.ask("POST", f"/containers/{CONTAINER}/stop?t={STOP_SECONDS}")
    with contextlib.suppress(EngineError):
        engine.remove_container(CONTAINER)


def _run(engine: Engine) -> None:
    wait_for_engine(engine)
    engine.remove_container(CONTAINER)
    asked = trial.pending()
    if asked and asked.begun:
        _give_up(asked, "it ended, or was ended, before it was healthy")
        asked = None
    if asked is None:
        # Where power was lost in a trial, the data goes back too.
        trial.restore()
    if asked:
        _try(engine, asked)
    else:
        image, config = wait_for_image()
        with health.patience(f"getting {image}"):
            images.ensure(engine, image, config, say)
        Watch(engine, image, config).run()


def _try(engine: Engine, asked: Trial) -> None:
    """Run an update's image until it is kept, and on; or go back."""
    try:
        asked = trial.begin(asked)
        Watch(engine, asked.image, settings.config(), asked).run()
    except (EndError, EngineError, FileError, OSError) as error:
        if trial.pending() != asked:  # it was kept, and has ended long after, for the next one
            raise
        _remove(engine)
        _give_up(asked, str(error))
        raise EndError(f"{asked.image} was not kept: {error}") from error


def _give_up(asked: Trial, reason: str) -> None:
    chosen, role = settings.choice(), settings.role_settings()
    current = settings.current_image(chosen, role, settings.config())
    trial.give_up(asked, chosen, current, reason)


def wait_for_engine(engine: Engine) -> None:
    """Until the engine answers."""
    said = False
    while True:
        try:
            engine.ask("GET", "/version")
            return
        except EngineGoneError as error:
            if not said:
                say(f"{error}; waiting for it")
                said = True
            health.alive("waiting for the engine")
            time.sleep(2)


def wait_for_image() -> tuple[str, dict[str, Any]]:
    """The image to run, and config.json, once both are there."""
    said = ""
    while True:
        try:
            config, chosen = settings.config(), settings.choice()
            image = settings.current_image(chosen, settings.role_settings(), config)
            if image:
                if chosen.problem:
                    say(f"{chosen.problem}; {image} is run")
                return image, config
            problem = f"{settings.CONFIG} names no fleet (apiEndpoint), {settings.CHOICE} no image"
        except FileError as error:
            problem = str(error)
        if problem != said:
            say(f"{problem}: waiting")
            said = problem
        health.alive(problem)
        time.sleep(WAIT_SECONDS)


class Watch:
    """One container from its start to its end."""

    def __init__(
        self, engine: Engine, image: str, config: dict[str, Any], asked: Trial | None = None
    ) -> None:
        self._engine = engine
        self._image = image
        self._port = settings.port(config)
        self._fingerprint = settings.fingerprint(config)
        self._asked = asked
        self._role = settings.role_settings()
        self._begun = time.monotonic()
        self._was_well = False
        self._healthy_since: float | None = None
        self._next_look = 0.0
        self._frames = b""

    def run(self) -> None:
        """Start the container, and stay until it ends.

        Raises:
            EndError: it ended, was not healthy in its trial, or its settings changed.
        """
        chosen = settings.choice()
        if chosen.source and not Path(chosen.source).is_dir():
            # After a factory reset, say: an empty folder over the package would run nothing.
            say(f"{chosen.source}, the source in {settings.CHOICE}, is not there: not used")
            chosen = chosen.changed(source="")
        info = self._engine.ask("GET", "/info")
        body = container.body(
            images.held(self._engine, self._image) or self._image,
            self._role,
            chosen,
            container.bounding_set(),
            str(info.get("DockerRootDir", "")),
            storage.folders(info),
        )
        settings.STORE.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.DOOR.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.RUNTIME.mkdir(mode=0o755, exist_ok=True)
        self._engine.ask("POST", f"/containers/create?name={CONTAINER}", body)
        start: Callable[[], None] | None = self._start
        while True:
            self._attach(start)
            start = None
            self._look_after_end()

    def _start(self) -> None:
        self._engine.ask("POST", f"/containers/{CONTAINER}/start")
        say(f"started {self._image}")

    def _attach(self, started: Callable[[], None] | None) -> None:
        """Pass on its lines until the stream ends: the container has, or the engine."""
        path = f"/containers/{CONTAINER}/attach?stream=1&stdout=1&stderr=1"
        with self._engine.open("POST", path) as answer:
            if started:
                started()
            self._frames = b""
            while (piece := answer.piece(self._next_look - time.monotonic())) != b"":
                self._pass_on(piece or b"")
                if time.monotonic() >= self._next_look:
                    self._next_look = time.monotonic() + self._look()

    def _pass_on(self, piece: bytes) -> None:
        self._frames += piece
        while len(self._frames) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._frames)
            if len(self._frames) < HEADER.size + size:
                return
            sys.stdout.buffer.write(self._frames[HEADER.size : HEADER.size + size])
            self._frames = self._frames[HEADER.size + size :]
        sys.stdout.buffer.flush()

    def _look_after_end(self) -> None:
        """Why the stream has ended; nothing if the engine was restarted and the container was not.

        Raises:
            EndError: the container has ended.
        """
        wait_for_engine(self._engine)
        found = self._engine.container(CONTAINER)
        if found is None:
            raise EndError("the supervisor's container is gone")
        if not found["State"]["Running"]:
            raise EndError(f"the supervisor has ended with status {found['State']['ExitCode']}")

    def _look(self) -> float:
        """Look after the supervisor's health; seconds until the next look.

        Raises:
            EndError: the trial's time is over, or config.json has changed.
        """
        with contextlib.suppress(FileError):
            # A broken one is told at the next start; what runs goes on.
            if settings.fingerprint(settings.config()) != self._fingerprint:
                raise EndError("config.json has changed")
        now = time.monotonic()
        well = health.healthy(self._port)
        if not well:
            self._healthy_since = None
        elif self._healthy_since is None:
            self._healthy_since = now
            say("the supervisor is healthy")
        if self._asked:
            self._look_at_trial(self._asked, now)
            health.alive(f"trying {self._image}")
            return 1.0
        if well:
            self._was_well = True
            health.alive(f"healthy, {self._image}")
            self._tidy()
            return LOOK_SECONDS
        if not self._was_well and now - self._begun < self._role.start_seconds:
            health.alive(f"started, {self._image}")
        return 2.0

    def _look_at_trial(self, asked: Trial, now: float) -> None:
        well_for = now - self._healthy_since if self._healthy_since is not None else 0.0
        if well_for >= asked.settle:
            chosen, role = settings.choice(), settings.role_settings()
            trial.keep(asked, chosen, settings.current_image(chosen, role, settings.config()))
            self._asked = None
            say(f"{asked.image} is kept")
        elif now - self._begun > asked.seconds + (asked.settle if well_for else 0.0):
            raise EndError(f"it was not healthy within {asked.seconds:.0f} s")

    def _tidy(self) -> None:
        """Remove images that were run or tried before."""
        chosen = settings.choice()
        if chosen.obsolete:
            images.forget(self._engine, chosen.obsolete, self._image, say)
            settings.write_choice(chosen.changed(obsolete=[]))
