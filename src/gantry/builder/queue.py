"""Who builds next: one build of an application at a time, and no more at once than is allowed."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Ticket:
    """A build that waits or runs; `title` is what others are told of it."""

    application_id: int
    title: str
    admitted: asyncio.Event = field(default_factory=asyncio.Event)
    started: float | None = None


class BuildQueue:
    """First come, first served, but a build that waits for its own application delays no other."""

    def __init__(self, concurrent: int) -> None:
        self._concurrent = concurrent
        self._running: list[Ticket] = []
        self._waiting: deque[Ticket] = deque()

    @asynccontextmanager
    async def turn(
        self, application_id: int, title: str, say: Callable[[str], None]
    ) -> AsyncIterator[None]:
        """Hold a place; `say` hears what is waited for. Leaving, or being cancelled, gives it on.

        A line is said at once when there is something to wait for, and when that changes.
        """
        ticket = Ticket(application_id, title)
        self._waiting.append(ticket)
        self._admit()
        try:
            told = ""
            while not ticket.admitted.is_set():
                reason, line = self._reason(ticket)
                if reason != told:
                    say(line)
                    told = reason
                try:
                    await asyncio.wait_for(ticket.admitted.wait(), 1.0)
                except TimeoutError:
                    continue
            yield
        finally:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket in self._running:
                self._running.remove(ticket)
            self._admit()

    def _admit(self) -> None:
        blocked = {each.application_id for each in self._running}
        for ticket in list(self._waiting):
            if len(self._running) >= self._concurrent:
                return
            if ticket.application_id in blocked:
                continue
            blocked.add(ticket.application_id)
            self._waiting.remove(ticket)
            self._running.append(ticket)
            ticket.started = time.monotonic()
            ticket.admitted.set()

    def _reason(self, ticket: Ticket) -> tuple[str, str]:
        """What a ticket waits for: a key that changes when it does, and a line for its owner."""
        ahead = [
            each
            for each in list(self._waiting)[: self._waiting.index(ticket)]
            if each.application_id == ticket.application_id
        ]
        running = [each for each in self._running if each.application_id == ticket.application_id]
        if ahead:
            titles = ", ".join(each.title for each in [*running, *ahead])
            return titles, f"waiting: {len(running) + len(ahead)} pushes are before: {titles}"
        if running:
            seconds = time.monotonic() - (running[0].started or 0)
            title = running[0].title
            return title, f"waiting for another push to this fleet: {title}, since {seconds:.0f} s"
        titles = ", ".join(each.title for each in self._running)
        return titles, (
            f"waiting: the builder runs {len(self._running)} builds, which is its limit: {titles}"
        )
