"""What a build says: to the one who pushed, to the kept log, and the time of each phase."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gantry.builder.buildlog import BuildLog
from gantry.contracts.build import BuildMessage, Phase

HEARTBEAT_SECONDS = 8.0


class Report:
    """Lines go to `emit` and to the log; `seconds` sums the time of each phase."""

    def __init__(self, emit: Callable[[BuildMessage], None], log: BuildLog) -> None:
        self._emit = emit
        self._log = log
        self.current = Phase.RECEIVE
        self.seconds: dict[str, float] = {}
        self._begun = self._spoken = time.monotonic()

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
        self._spoken = time.monotonic()
        self._emit(BuildMessage(message, self.current, service, is_error))
        self._log.write(f"[{service}] {message}" if service else message)

    async def heartbeat(self) -> None:
        """Say in silence that it goes on, until cancelled. The log is spared."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if now - self._spoken >= HEARTBEAT_SECONDS:
                self._spoken = now
                text = f"… still at it ({now - self._begun:.0f} s)"
                self._emit(BuildMessage(text, self.current))
