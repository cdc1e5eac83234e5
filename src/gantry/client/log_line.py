"""A line of a device's log: the log service and a supervisor's own stream write it alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line; `timestamp` in milliseconds since the epoch, by the device's clock, and 0 where it is
    not told. `cursor` is its place in the log service, 0 for a line that has not been there."""

    timestamp: int
    message: str
    service: str
    is_system: bool
    is_error: bool
    cursor: int
    fields: Mapping[str, Any]


def read_line(document: object, names: Mapping[int, str] | None = None) -> LogLine:
    """A line as it was sent; `names` are those of services by id, where ids are to be told.

    Raises:
        ValueError: it is none; says what is wrong with it.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{document!r:.80} is no object")
    try:
        service, number = document.get("serviceName"), document.get("serviceId")
        if not service and number is not None and names is not None:
            service = names.get(number, f"service {number}")
        return LogLine(
            timestamp=int(document.get("timestamp") or 0),
            message=str(document.get("message", "")),
            service=str(service or ""),
            is_system=bool(document.get("isSystem")),
            is_error=bool(document.get("isStdErr")),
            cursor=int(document.get("cursor") or 0),
            fields=document,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{dict(document)!r:.80}: {error}") from error
