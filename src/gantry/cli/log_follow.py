"""A device's lines, each once and in order, over as many connections as it takes.

Every line bears a cursor; a new connection asks for what follows the last one that was seen.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gantry.client.errors import ClientError, UnreachableError
from gantry.client.log_line import LogLine, read_line
from gantry.client.records import Device

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which lines: the last `count` (None: all), since a time, of one service."""

    count: int | None = None
    since_ms: int | None = None
    service: str | None = None

    def takes(self, line: LogLine) -> bool:
        """Whether a line is of the service that is wanted."""
        return self.service in (None, line.service)


class LogSource(Protocol):
    """Where lines are read: an ApiClient."""

    def service_names(self, device: Device) -> dict[int, str]: ...

    def log_history(
        self, device: Device, query: Mapping[str, str | int]
    ) -> list[dict[str, Any]]: ...

    def log_stream(self, device: Device, query: Mapping[str, str | int]) -> Iterator[str]: ...


def history(source: LogSource, device: Device, wanted: Selection) -> list[LogLine]:
    """The lines that are there."""
    return _past(source, device, wanted, source.service_names(device))[0]


def follow(
    source: LogSource, device: Device, wanted: Selection, notice: Callable[[str], None]
) -> Iterator[LogLine]:
    """The lines that are there, then those that come. `notice` hears of broken connections.

    Raises:
        ClientError: the first connection failed, or a later one was refused.
    """
    names = source.service_names(device)
    past, cursor = _past(source, device, wanted, names)
    yield from past
    pause = FIRST_PAUSE
    broken = False
    while True:
        reason = "the server closed the connection"
        try:
            for text in source.log_stream(device, {"after": cursor}):
                pause = FIRST_PAUSE
                if broken:
                    broken = False
                    notice("connected again")
                if text:
                    line = parse(json.loads(text), names)
                    cursor = line.cursor
                    if wanted.takes(line):
                        yield line
        except UnreachableError as error:
            reason = str(error)
        except ValueError as error:
            reason = f"a line that is not JSON: {error}"
        if not broken:  # once, not at each try
            broken = True
            notice(f"{reason}; trying again")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def parse(document: object, names: Mapping[int, str]) -> LogLine:
    """A line as the log service writes it; `names` are those of services, by id.

    Raises:
        ClientError: it is none, or lacks its cursor.
    """
    try:
        line = read_line(document, names)
    except ValueError as error:
        raise ClientError(
            f"the log service sent something else than a line: {error}: is it of Gantry?"
        ) from error
    if not line.cursor:
        raise ClientError(
            f"the log service sent a line without a cursor: {line.message!r:.80}: is it of Gantry?"
        )
    return line


def _past(
    source: LogSource, device: Device, wanted: Selection, names: Mapping[int, str]
) -> tuple[list[LogLine], int]:
    """The lines that are there and are wanted, and the cursor of the last one that is there."""
    newest = [parse(each, names) for each in source.log_history(device, {"count": 1})]
    cursor = newest[-1].cursor if newest else 0
    if wanted.count == 0:
        return [], cursor
    # A service's last lines may be far back: all are asked for, and counted here.
    count = wanted.count if wanted.service is None and wanted.count is not None else "all"
    query: dict[str, str | int] = {"count": count}
    if wanted.since_ms is not None:
        query["start"] = wanted.since_ms
    lines = [parse(each, names) for each in source.log_history(device, query)]
    cursor = max(cursor, lines[-1].cursor if lines else 0)
    lines = [line for line in lines if wanted.takes(line)]
    return lines if wanted.count is None else lines[-wanted.count :], cursor
