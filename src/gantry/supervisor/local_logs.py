"""Where log lines go: to the fleet's log service, and to those who listen on the device.

In local mode they go to listeners alone (`GET /v2/local/logs`), for what a developer tries is not
the fleet's; else to the fleet alone, for a listener's key may be that of one application.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from gantry.supervisor.logbuffer import LogLine, system_line

# Lines that a listener may be behind; beyond it loses the oldest, and is told how many.
BEHIND = 2_000


class LogRouter:
    """Takes every line. `ship` sends it to the fleet; while `local` is set, listeners get it."""

    def __init__(self, ship: Callable[[LogLine], None]) -> None:
        self._ship = ship
        self._listeners: set[_Listener] = set()
        self.local = False

    def add(self, line: LogLine) -> None:
        """Pass on a line."""
        if not self.local:
            self._ship(line)
            return
        for listener in self._listeners:
            listener.add(line)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Lines of JSON from now on, for ever, with the fields that the log service gets.

        The first comes at once, as with the family: who follows knows that it is connected.
        """
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield system_line("Streaming logs").encoded
            while True:
                yield await listener.take()
        finally:
            self._listeners.discard(listener)


class _Listener:
    """What one listener has not read yet."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._dropped = 0
        self._news = asyncio.Event()

    def add(self, line: LogLine) -> None:
        if len(self._lines) >= BEHIND:
            del self._lines[0]
            self._dropped += 1
        self._lines.append(line.encoded)
        self._news.set()

    async def take(self) -> bytes:
        """All that waits, once something does."""
        await self._news.wait()
        self._news.clear()
        lines, self._lines = self._lines, []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            notice = f"{dropped} log lines were dropped: they came quicker than they were read"
            lines.insert(0, system_line(notice).encoded)
        return b"".join(lines)
