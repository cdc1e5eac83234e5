"""Reads the containers' output from the engine, each line once, from where it was left."""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime

from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.logbuffer import LogLine, container_line
from gantry.supervisor.state import Container, ContainerState
from gantry.supervisor.store import LogPosition

_LOG = logging.getLogger(__name__)
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2
# What a program writes without ever ending a line is passed on in pieces of this size, in bytes.
_PIECE = 64 * 1024


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of the engine's RFC 3339 time, such as
    2026-01-02T03:04:05.123456789Z.

    Raises:
        ValueError: it is no such time.
    """
    whole, _, rest = text.partition(".")
    moment = datetime.fromisoformat(whole.removesuffix("Z")).replace(tzinfo=UTC)
    fraction = rest.removesuffix("Z")
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")


class LogDecoder:
    """The engine's log stream as lines: (is stderr, time in ns, message).

    With a terminal the stream is plain text; without, pieces have a header of eight bytes
    (ContainerAttach of the Engine API). Every message begins with its time and a space.
    """

    def __init__(self, tty: bool) -> None:
        self._tty = tty
        self._rest = b""

    def feed(self, piece: bytes) -> list[tuple[bool, int, str]]:
        """The lines that are complete after this piece."""
        self._rest += piece
        found: list[tuple[bool, int, str]] = []
        if self._tty:
            *lines, self._rest = self._rest.split(b"\n")
            if len(self._rest) > _PIECE:
                lines.append(self._rest)
                self._rest = b""
            for line in lines:
                self._message(line, False, found)
            return found
        while len(self._rest) >= _HEADER.size:
            stream, size = _HEADER.unpack_from(self._rest)
            if len(self._rest) < _HEADER.size + size:
                break
            message = self._rest[_HEADER.size : _HEADER.size + size]
            self._rest = self._rest[_HEADER.size + size :]
            self._message(message, stream == _STDERR, found)
        return found

    @staticmethod
    def _message(raw: bytes, is_stderr: bool, found: list[tuple[bool, int, str]]) -> None:
        stamp, _, message = raw.partition(b" ")
        with suppress(ValueError):
            time_ns = parse_timestamp(stamp.decode("ascii", errors="replace"))
            text = message.rstrip(b"\r\n").decode("utf-8", errors="replace")
            found.append((is_stderr, time_ns, text))


class _Follower:
    """Follows one container's log."""

    def __init__(self, container: Container, position: LogPosition) -> None:
        self.container = container
        self.position = position
        self.started = asyncio.Event()
        self.idle = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class LogFollowers:
    """One follower a container. `sink` takes the lines; `origin_ns` is where the log of a container
    begins for a device that remembers nothing of it, in nanoseconds since the epoch."""

    def __init__(
        self,
        engine: Engine,
        sink: Callable[[LogLine], None],
        positions: Mapping[str, LogPosition],
        origin_ns: int,
    ) -> None:
        self._engine = engine
        self._sink = sink
        self._positions = dict(positions)
        self._origin = LogPosition(origin_ns, 0)
        self._followers: dict[str, _Follower] = {}
        # Told how many bytes were read, it waits until there is room for more: what of a log is not
        # read yet is held by the engine.
        self.room: Callable[[int], Awaitable[None]] | None = None

    def containers(self) -> frozenset[str]:
        """Ids of the containers that are followed."""
        return frozenset(self._followers)

    def sync(self, containers: Iterable[Container]) -> None:
        """Follow exactly these containers."""
        here = {each.id: each for each in containers}
        for gone in [each for each in self._followers if each not in here]:
            task = self._followers.pop(gone).task
            if task is not None:
                task.cancel()
        for each in here.values():
            if each.state is ContainerState.CREATED:
                continue
            follower = self._followers.get(each.id)
            if follower is None:
                position = self._positions.pop(each.id, self._origin)
                follower = self._followers[each.id] = _Follower(each, position)
                follower.task = asyncio.create_task(self._follow(follower), name="follow log")
            elif each.state.is_up or each != follower.container:
                follower.container = each
                follower.started.set()

    async def drain(self, container: str) -> None:
        """Wait until a stopped container's output has been read, for a while at most."""
        follower = self._followers.get(container)
        if follower is None:
            return
        # It may have written since it was last read to its end.
        if follower.idle.is_set():
            follower.idle.clear()
            follower.started.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await follower.idle.wait()

    async def close(self) -> None:
        """Stop following."""
        tasks = [each.task for each in self._followers.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, follower: _Follower) -> None:
        container = follower.container.id
        while True:
            follower.started.clear()
            try:
                document = await self._engine.inspect_container(container)
                tty = bool((document.get("Config") or {}).get("Tty"))
                await self._read(follower, tty)
            except EngineError as error:
                if error.status == 404:
                    return
                _LOG.warning("log of %s: %s", follower.container.name, error)
                await asyncio.sleep(5.0)
                continue
            follower.idle.set()
            await follower.started.wait()
            follower.idle.clear()

    async def _read(self, follower: _Follower, tty: bool) -> None:
        """Read until the container stops. The engine begins at a time, inclusive: lines of that
        very time that were read before are passed over."""
        decoder = LogDecoder(tty)
        start = follower.position
        passed_over = 0
        since = f"{start.timestamp_ns // 1_000_000_000}.{start.timestamp_ns % 1_000_000_000:09d}"
        async with aclosing(self._engine.logs(follower.container.id, since)) as pieces:
            async for piece in pieces:
                for is_stderr, time_ns, message in decoder.feed(piece):
                    if time_ns < start.timestamp_ns:
                        continue
                    if time_ns == start.timestamp_ns and passed_over < start.lines:
                        passed_over += 1
                        continue
                    self._pass_on(follower, is_stderr, time_ns, message)
                if self.room is not None:
                    await self.room(len(piece))

    def _pass_on(self, follower: _Follower, is_stderr: bool, time_ns: int, message: str) -> None:
        before = follower.position
        lines = before.lines + 1 if time_ns == before.timestamp_ns else 1
        follower.position = LogPosition(time_ns, lines)
        container = follower.container
        self._sink(
            container_line(
                message,
                container.id,
                follower.position,
                container.service,
                container.service_id,
                is_stderr,
            )
        )
