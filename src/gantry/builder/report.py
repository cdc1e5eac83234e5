"""What a build says: to the one who pushed, to the kept log, and the time of each phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gantry.builder.buildlog import BuildLog
from gantry.contracts.build import BuildMessage, Phase


class Report:
    """Lines go to `emit` and to the log; `seconds` sums the time of each phase."""

    def __init__(self, emit: Callable[[BuildMessage], None], log: BuildLog) -> None:
        self._emit = emit
        self._log = log
        self.current = Phase.RECEIVE
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Time what is done inside as part of `phase`."""
        self.current = phase
        started = time.monotonic()
        try:
            yield
        finally:
            self.spent(phase, time.monotonic() - started)

    def spent(self, phase: Phase, seconds: float) -> None:
        """Add to a phase's time, in seconds."""
        self.seconds[phase.value] = round(self.seconds.get(phase.value, 0.0) + seconds, 3)

    def say(self, message: str, service: str | None = None, *, is_error: bool = False) -> None:
        """A line of the current phase."""
        self._emit(BuildMessage(message, self.current, service, is_error))
        self._log.write(f"[{service}] {message}" if service else message)
