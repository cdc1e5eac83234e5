"""Announcements of new targets: one listening connection a process, fanned out to its streams.

The database's triggers announce `device:<id>` and `application:<id>` on one channel when a target
changes, `key:<id>` and `user:<id>` when an API key or a user's sessions end before their time; so
every replica hears what any of them did. A stream holds no connection and no thread.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

log = logging.getLogger(__name__)

CHANNEL = "gantry_target"
RETRY_SECONDS = 1.0
AT_ONCE = 4
# A listener that is so many announcements behind has gone: its stream ends.
MAX_BEHIND = 50_000


@dataclass(eq=False, slots=True)
class Subscription:
    """One device's stream. `changed` is set when its target may have changed."""

    device_id: int
    application_id: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False


class Hub:
    """Listens for announcements and wakes the streams that they concern."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._by_device: dict[int, set[Subscription]] = {}
        self._by_application: dict[int, set[Subscription]] = {}
        self._revocations: set[asyncio.Queue[str | None]] = set()
        self.is_closed = False
        # After an announcement to a large fleet its targets are worked out a few at a time, so
        # that other requests go on.
        self.gate = asyncio.Semaphore(AT_ONCE)

    @contextlib.contextmanager
    def subscription(self, device_id: int, application_id: int) -> Iterator[Subscription]:
        """A stream's place in the hub, as long as it lasts."""
        entry = Subscription(device_id, application_id, closed=self.is_closed)
        self._by_device.setdefault(device_id, set()).add(entry)
        self._by_application.setdefault(application_id, set()).add(entry)
        try:
            yield entry
        finally:
            self._leave(self._by_device, device_id, entry)
            self._leave(self._by_application, entry.application_id, entry)

    @contextlib.contextmanager
    def revocations(self) -> Iterator[asyncio.Queue[str | None]]:
        """What keys and sessions end early, as long as it lasts; None: no more comes."""
        ended: asyncio.Queue[str | None] = asyncio.Queue(MAX_BEHIND)
        self._revocations.add(ended)
        if self.is_closed:
            ended.put_nowait(None)
        try:
            yield ended
        finally:
            self._revocations.discard(ended)

    def _tell(self, name: str | None) -> None:
        for ended in self._revocations:
            if ended.full():
                while not ended.empty():
                    ended.get_nowait()
                ended.put_nowait(None)
            else:
                ended.put_nowait(name)

    def move(self, entry: Subscription, application_id: int) -> None:
        """The stream's device is of another application now."""
        if application_id != entry.application_id:
            self._leave(self._by_application, entry.application_id, entry)
            entry.application_id = application_id
            self._by_application.setdefault(application_id, set()).add(entry)

    @staticmethod
    def _leave(index: dict[int, set[Subscription]], key: int, entry: Subscription) -> None:
        entries = index.get(key, set())
        entries.discard(entry)
        if not entries:
            index.pop(key, None)

    def is_last(self, entry: Subscription) -> bool:
        """Whether the device has no other stream open in this process."""
        return self._by_device.get(entry.device_id, set()) <= {entry}

    def open_streams(self, device_id: int) -> int:
        """How many streams a device has open in this process."""
        return len(self._by_device.get(device_id, ()))

    @property
    def device_ids(self) -> list[int]:
        """The devices that have a stream open in this process."""
        return list(self._by_device)

    def close(self) -> None:
        """End all streams: the process is about to stop. Call on the event loop."""
        self.is_closed = True
        for entries in self._by_device.values():
            for entry in entries:
                entry.closed = True
                entry.changed.set()
        self._tell(None)

    def wake(self, payload: str) -> None:
        """Wake the streams that an announcement concerns, or tell who listens for revocations."""
        kind, _, number = payload.partition(":")
        if kind in ("key", "user"):
            self._tell(payload)
            return
        index = self._by_device if kind == "device" else self._by_application
        for entry in index.get(int(number) if number.isdecimal() else -1, ()):
            entry.changed.set()

    def _wake_all(self) -> None:
        for entries in self._by_device.values():
            for entry in entries:
                entry.changed.set()

    async def run(self) -> None:
        """Listen until cancelled. After each new connection all streams look once: while there
        was none, announcements were missed."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("listening for new targets failed, trying again: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            application_name="api-events",
            keepalives_idle=30,
            connect_timeout=5,
        )
        async with connection:
            await connection.execute(f"listen {CHANNEL}")
            self._wake_all()
            async for notice in connection.notifies():
                self.wake(notice.payload)
