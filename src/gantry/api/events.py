"""Announcements of new targets: one listening connection a process, fanned out to its streams.

The database's triggers announce `device:<id>` and `application:<id>` on one channel when a target
changes, `key:<id>` and `user:<id>:<epoch>` when an API key or a user's sessions end before their
time, `web:<uuid>:on` or `off` when a device's public URL is switched, `gone:<uuid>` when a device
is deleted, inactive or in another fleet, `action:` when there is something to do; so every replica
hears what any of them did. A stream holds no connection and no thread.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import psycopg

log = logging.getLogger(__name__)

CHANNEL = "gantry_target"
RETRY_SECONDS = 1.0
AT_ONCE = 4
# A listener that is so many announcements behind has gone: its stream ends.
MAX_BEHIND = 50_000
# Each stream shows so often that it is there; one task for all of them costs less than a clock in
# each (decision 0018). They follow each other in so many groups.
BEAT_SECONDS = 15.0
BEAT_GROUPS = 150
# What follows an announcement, a poll and some reports, costs far more than it does itself. So many
# devices of a fleet hear of news at once, and so many a second after that, while the api is not
# busy. A busy api is not silent: one goes in so many seconds.
BURST = 30
PER_SECOND = 12.0
BUSY_PAUSE = 0.01
BUSY_AT_MOST = 0.5
# What is told as it comes, to whoever listens for it.
REVOCATIONS = frozenset({"key", "user"})
CHANGES = REVOCATIONS | {"web", "gone"}


class Turns:
    """How soon the next device of a fleet may hear of news. `busy` tells whether requests wait."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._taken = 0.0  # turns of the burst that have not come back
        self._at = 0.0  # the loop's time at which that was so
        self._last = -BUSY_AT_MOST  # when the last one was taken

    def take(self) -> float:
        """Take a turn: 0. Else the seconds after which it is to be asked again."""
        now = asyncio.get_running_loop().time()
        self._taken = max(0.0, self._taken - (now - self._at) * PER_SECOND)
        self._at = now
        if self._taken > BURST - 1.0:
            return (self._taken - BURST + 1.0) / PER_SECOND
        if now - self._last < BUSY_AT_MOST and self._busy():
            return BUSY_PAUSE
        self._taken += 1.0
        self._last = now
        return 0.0

    def give_back(self) -> None:
        """There was no news: the next one need not wait for that."""
        self._taken = max(0.0, self._taken - 1.0)


@dataclass(eq=False, slots=True)
class Subscription:
    """One device's stream, which sleeps until it is woken: its target may have `changed`, or it
    `is_due` to show that it is there."""

    device_id: int
    application_id: int
    closed: bool = False
    changed: bool = False
    is_due: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """The device's target may have changed."""
        self.changed = True
        self._woken.set()

    def beat(self) -> None:
        """It is time for a sign of life."""
        self.is_due = True
        self._woken.set()

    def close(self) -> None:
        """End the stream."""
        self.closed = True
        self._woken.set()

    async def wait(self) -> None:
        """Sleep until any of these."""
        await self._woken.wait()
        self._woken.clear()


class Hub:
    """Listens for announcements and wakes the streams that they concern. `busy` as of Turns."""

    def __init__(self, url: str, busy: Callable[[], bool]) -> None:
        self._url = url
        self._by_device: dict[int, set[Subscription]] = {}
        self._by_application: dict[int, set[Subscription]] = {}
        self._listeners: dict[asyncio.Queue[str | None], frozenset[str]] = {}
        self.is_closed = False
        # Targets are worked out a few at a time, so that other requests go on.
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.turns = Turns(busy)
        # There may be an action that is due.
        self.actions = asyncio.Event()
        # Those that are woken one after the other, in this order.
        self._waiting: dict[Subscription, None] = {}
        self._wait_for = asyncio.Event()

    @contextlib.contextmanager
    def subscription(self, device_id: int, application_id: int) -> Iterator[Subscription]:
        """A stream's place in the hub, as long as it lasts."""
        entry = Subscription(device_id, application_id, closed=self.is_closed)
        self._by_device.setdefault(device_id, set()).add(entry)
        self._by_application.setdefault(application_id, set()).add(entry)
        try:
            yield entry
        finally:
            self._waiting.pop(entry, None)
            self._leave(self._by_device, device_id, entry)
            self._leave(self._by_application, entry.application_id, entry)

    @contextlib.contextmanager
    def listening(self, kinds: frozenset[str]) -> Iterator[asyncio.Queue[str | None]]:
        """The announcements of these kinds, as long as it lasts; None: no more comes."""
        heard: asyncio.Queue[str | None] = asyncio.Queue(MAX_BEHIND)
        self._listeners[heard] = kinds
        if self.is_closed:
            heard.put_nowait(None)
        try:
            yield heard
        finally:
            del self._listeners[heard]

    def _tell(self, kind: str | None, payload: str | None) -> None:
        """Tell whoever listens for this kind; None: tell all that no more comes."""
        for heard, kinds in self._listeners.items():
            if kind is not None and kind not in kinds:
                continue
            if heard.full():
                while not heard.empty():
                    heard.get_nowait()
                heard.put_nowait(None)
            else:
                heard.put_nowait(payload)

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
                entry.close()
        self._tell(None, None)
        self.actions.set()

    def wake(self, payload: str) -> None:
        """Wake the streams that an announcement concerns: a device's at once, a fleet's in turn; or
        whoever listens for its kind."""
        kind, _, number = payload.partition(":")
        if kind == "action":
            self.actions.set()
        if kind not in ("device", "application"):
            self._tell(kind, payload)
            return
        index = self._by_device if kind == "device" else self._by_application
        entries = index.get(int(number) if number.isdecimal() else -1, ())
        if kind != "device":
            self._wake_in_turn(entries)
            return
        for entry in entries:
            entry.tell()

    def _wake_all(self) -> None:
        for entries in self._by_device.values():
            self._wake_in_turn(entries)

    def _wake_in_turn(self, entries: Iterable[Subscription]) -> None:
        self._waiting.update(dict.fromkeys(entries))
        self._wait_for.set()

    async def _give_turns(self) -> None:
        """Wake those that wait, for ever."""
        while True:
            await self._wait_for.wait()
            self._wait_for.clear()
            while self._waiting:
                if wait := self.turns.take():
                    await asyncio.sleep(wait)
                    continue
                entry = next(iter(self._waiting))
                del self._waiting[entry]
                entry.tell()

    async def _keep_beating(self) -> None:
        """Wake all streams for a sign of life, for ever, and never many at once."""
        while True:
            entries = [each for of_device in self._by_device.values() for each in of_device]
            for group in range(BEAT_GROUPS):
                for entry in entries[group::BEAT_GROUPS]:
                    entry.beat()
                await asyncio.sleep(BEAT_SECONDS / BEAT_GROUPS)

    async def run(self) -> None:
        """Listen until cancelled. After each new connection all streams look once, and those that
        are told announcements as they come end: while there was none, some were missed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._give_turns())
            tasks.create_task(self._keep_beating())
            tasks.create_task(self._keep_listening())

    async def _keep_listening(self) -> None:
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
            # Who heard nothing meanwhile is to ask what it has missed: it does so at its beginning.
            self._tell(None, None)
            self._wake_all()
            self.actions.set()
            async for notice in connection.notifies():
                self.wake(notice.payload)
