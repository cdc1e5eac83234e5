"""What the builder streams to whoever asked for a build: one JSON object a line (NDJSON)."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """A part of the way from a push to a release, in order."""

    RECEIVE = "receive"
    QUEUE = "queue"
    RESOLVE = "resolve"
    BUILD = "build"
    PUSH = "push"
    NOTIFY = "notify"


class ReleaseStatus(StrEnum):
    """Where a release stands, under the family's names."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BuildMessage:
    """A line for the person who pushed."""

    message: str
    phase: Phase
    service: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing happened for a while; the connection is still wanted."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The last line of every build.

    `size` is the sum of the images' compressed layers in bytes; `seconds` the time of each phase.
    """

    status: ReleaseStatus
    commit: str
    release_id: int | None = None
    error: str | None = None
    size: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    services: list[str] = field(default_factory=list)


BuildEvent = BuildMessage | KeepAlive | BuildResult

_KINDS: dict[str, type[BuildEvent]] = {
    "message": BuildMessage,
    "keepalive": KeepAlive,
    "result": BuildResult,
}


def encode(event: BuildEvent) -> bytes:
    """One line of the stream, newline included."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(event, cls))
    return json.dumps({"type": kind, **asdict(event)}).encode() + b"\n"


def decode(line: bytes | str) -> BuildEvent:
    """The event of one line.

    Raises:
        ValueError: the line is not of this stream; the message quotes its beginning.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
        cls = _KINDS[fields.pop("type")]
        if cls is BuildMessage:
            fields["phase"] = Phase(fields["phase"])
        if cls is BuildResult:
            fields["status"] = ReleaseStatus(fields["status"])
        return cls(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a line of a build stream: {line[:80]!r}") from error
