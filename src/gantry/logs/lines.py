"""A log line: what a device may send, what is kept of it, and what readers get.

The fields are the family's (`timestamp` in milliseconds since the epoch, `message`, `isStdErr`,
`isSystem`, `serviceId`); fields that are not known here are kept.
"""

import json
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE = 10_000
"""Characters of a message; the rest is cut off, and a mark says so."""

MAX_RAW = 96 * 1024
"""Bytes of a line as sent: 10,000 characters that are all escaped, and the other fields."""

_OURS = ("createdAt", "cursor")
_LARGEST_TIMESTAMP = 2**53
_FLAGS = ("isStdErr", "isSystem")


class BadLineError(ValueError):
    """A line that cannot be kept; the message says why and quotes its beginning."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is kept: its JSON, and the identity by which a second copy is known."""

    payload: bytes
    message_id: str | None


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line that is kept. `sequence` is its place among all lines, `stored_ms` when it came."""

    sequence: int
    stored_ms: int
    payload: bytes

    @property
    def json(self) -> bytes:
        """The line's JSON for readers: as kept, with `createdAt` and the `cursor` to go on from."""
        tail = b',"createdAt":%d,"cursor":%d}' % (self.stored_ms, self.sequence)
        return self.payload[:-1] + tail

    @property
    def timestamp(self) -> int:
        """When the device wrote the line, in milliseconds by the device's own clock."""
        return int(json.loads(self.payload)["timestamp"])


def parse(raw: bytes) -> Line:
    """The line in one line of NDJSON.

    Raises:
        BadLineError: not a JSON object, or a field that is missing or of the wrong type.
    """
    try:
        fields = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"not JSON: {_quote(raw)}") from error
    return from_fields(fields)


def from_fields(fields: Any) -> Line:
    """The line in an object that was JSON.

    Raises:
        BadLineError: as `parse`.
    """
    if not isinstance(fields, dict):
        raise BadLineError(f"not an object: {_quote(fields)}")
    message = fields.get("message")
    if not isinstance(message, str):
        raise BadLineError(f"`message` is not a text: {_quote(fields)}")
    kept = {name: value for name, value in fields.items() if name not in _OURS}
    kept["timestamp"] = _timestamp(fields)
    kept["message"] = cut(message)
    for flag in _FLAGS:
        if not isinstance(fields.get(flag, False), bool):
            raise BadLineError(f"`{flag}` is neither true nor false: {_quote(fields)}")
    return Line(_encode(kept), _identity(kept))


def system_line(message: str, timestamp_ms: int, message_id: str | None = None) -> Line:
    """A line by the log service itself, among the device's own."""
    fields = {"timestamp": timestamp_ms, "message": message, "isSystem": True, "isStdErr": True}
    return Line(_encode(fields), message_id)


def cut(message: str) -> str:
    """`message`, with at most MAX_MESSAGE characters of it and a mark where more was cut off."""
    if len(message) <= MAX_MESSAGE:
        return message
    return f"{message[:MAX_MESSAGE]}… [cut: {len(message)} characters]"


def _timestamp(fields: dict[str, Any]) -> int:
    value: Any = fields.get("timestamp")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < _LARGEST_TIMESTAMP:  # NaN is not between them either
        raise BadLineError(f"`timestamp` is not in milliseconds since 1970: {_quote(fields)}")
    return int(value)


def _identity(fields: dict[str, Any]) -> str | None:
    """The device's own `id` of a line, or its service, time and `seq`; None: it has no identity.

    A time alone is none: a program may well print the same twice within a millisecond.
    """
    own = fields.get("id")
    if isinstance(own, str | int) and not isinstance(own, bool):
        return str(own)[:200]
    if isinstance(fields.get("seq"), int):
        return f"{fields.get('serviceId', '')}-{fields['timestamp']}-{fields['seq']}"
    return None


def _encode(fields: dict[str, Any]) -> bytes:
    # "replace": JSON can spell half a surrogate pair, UTF-8 cannot.
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise BadLineError(f"a number that JSON does not have: {_quote(fields)}") from error
    return text.encode("utf-8", "replace")


def _quote(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
