"""Lines on their way to the log service: in order, bounded, and kept until they are confirmed."""

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor.store import LogPosition

# The family's figures: bytes held while offline, characters of a line.
CAPACITY = 256 * 1024
LINE_LIMIT = 10_000
# Unconfirmed bytes of one request; after so many it is ended, so that the service confirms them.
REQUEST_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line as it is sent. `container` and `position` say how far it brings a container's log."""

    encoded: bytes
    container: str | None = None
    position: LogPosition | None = None


def container_line(
    message: str,
    container: str,
    position: LogPosition,
    service: str,
    service_id: int | None,
    is_stderr: bool,
) -> LogLine:
    """A line of a container. Its `id` is the same whenever it is sent, so that who receives it
    twice after a broken connection can tell."""
    fields: dict[str, Any] = {
        "timestamp": position.timestamp_ns // 1_000_000,
        "message": message[:LINE_LIMIT],
        "serviceName": service,
        "id": f"{container[:12]}-{position.timestamp_ns:x}-{position.lines}",
    }
    if service_id is not None:
        fields["serviceId"] = service_id
    if is_stderr:
        fields["isStdErr"] = True
    return LogLine(_encode(fields), container, position)


def system_line(message: str, service_id: int | None = None) -> LogLine:
    """A line of the supervisor itself, of this moment."""
    now = time.time_ns()
    fields: dict[str, Any] = {
        "timestamp": now // 1_000_000,
        "message": message[:LINE_LIMIT],
        "isSystem": True,
        "id": f"system-{now:x}",
    }
    if service_id is not None:
        fields["serviceId"] = service_id
    return LogLine(_encode(fields))


def _encode(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # A container may write half of a surrogate pair; UTF-8 has no room for that.
    return text.encode("utf-8", errors="replace") + b"\n"


class LogBuffer:
    """Waiting lines and those sent but not confirmed.

    When more waits than `capacity` bytes, the oldest waiting lines go, for who looks after an
    outage looks for its end; a line of its own then says how many are missing, in their place.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: deque[LogLine] = deque()
        self._waiting_bytes = 0
        self._sent: list[LogLine] = []
        self._sent_bytes = 0
        self._dropped = 0
        self._dropped_positions: dict[str, LogPosition] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """Lines that were dropped and not yet told of."""
        return self._dropped

    def append(self, line: LogLine) -> None:
        """Add a line at the end."""
        self._waiting.append(line)
        self._waiting_bytes += len(line.encoded)
        while self._waiting_bytes > self._capacity and len(self._waiting) > 1:
            self._drop(self._waiting.popleft())

    def _drop(self, line: LogLine) -> None:
        self._waiting_bytes -= len(line.encoded)
        self._dropped += 1
        if line.container is not None and line.position is not None:
            self._dropped_positions[line.container] = line.position

    @property
    def request_is_full(self) -> bool:
        """Whether as much is unconfirmed as one request may carry."""
        return self._sent_bytes >= REQUEST_LIMIT

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits that who reads faster than is sent should pause."""
        return self._waiting_bytes > self._capacity // 2

    def discard(self) -> None:
        """What waits is not to be sent, and nobody misses it; its positions count as confirmed."""
        while self._waiting:
            self._drop(self._waiting.popleft())
        self._dropped = 0

    def take(self) -> bytes:
        """What may be sent now; it counts as sent and unconfirmed. Empty when nothing may."""
        pieces: list[bytes] = []
        if self._dropped and self._waiting:
            self._send(self._notice(), pieces)
        while self._waiting and not self.request_is_full:
            line = self._waiting.popleft()
            self._waiting_bytes -= len(line.encoded)
            self._send(line, pieces)
        return b"".join(pieces)

    def _notice(self) -> LogLine:
        count, self._dropped = self._dropped, 0
        were = "line was" if count == 1 else "lines were"
        return system_line(f"{count} log {were} dropped: more than the device can hold back")

    def _send(self, line: LogLine, pieces: list[bytes]) -> None:
        self._sent.append(line)
        self._sent_bytes += len(line.encoded)
        pieces.append(line.encoded)

    def confirm(self) -> dict[str, LogPosition]:
        """The service has all that was sent: how far each container's log has come."""
        found, self._dropped_positions = self._dropped_positions, {}
        for line in self._sent:
            if line.container is not None and line.position is not None:
                found[line.container] = line.position
        self._sent.clear()
        self._sent_bytes = 0
        return found

    def take_back(self) -> None:
        """The connection broke: what was sent waits again, before everything else."""
        self._waiting.extendleft(reversed(self._sent))
        self._waiting_bytes += self._sent_bytes
        self._sent.clear()
        self._sent_bytes = 0
        while self._waiting_bytes > self._capacity and len(self._waiting) > 1:
            self._drop(self._waiting.popleft())
