"""What people and programs read: tables and colours here, JSON there."""

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# CSI sequences other than colours, OSC sequences, other escapes; then the controls that are left
# (ECMA-48). Devices write what they like into their logs and reports, and a terminal obeys it.
_ESCAPES = re.compile(
    r"\x1b\[(?![0-9;:]*m)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b(?!\[[0-9;:]*m).?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


def shown(text: str) -> str:
    """`text` for a terminal, of which nothing but colours is obeyed."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def plain(text: str) -> str:
    """`text` for a terminal, of which nothing is obeyed."""
    return shown(text).replace("\x1b", "")


def console() -> Console:
    """Where results go."""
    return Console(highlight=False)


def say(message: str) -> None:
    """A line that is no result: on stderr."""
    print(message, file=sys.stderr, flush=True)


class Percent:
    """Says how far a file is, not more often than one reads."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 2.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 5.0
            say(f"{100 * done // max(1, total)} % of {total / 1024**2:.0f} MiB")


def print_json(value: Any) -> None:
    """Records (or anything that is JSON) for programs."""
    if isinstance(value, list):
        value = [_plain(each) for each in value]
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str | RenderableType]]) -> Table:
    """A plain table."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        # A Text each: what people named is not to be read as markup.
        table.add_row(*(Text(plain(each)) if isinstance(each, str) else each for each in row))
    return table


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | RenderableType]], empty: str
) -> None:
    """A table for people; without rows, the sentence `empty` on stderr."""
    table = table_of(columns, rows)
    if not table.row_count:
        say(empty)
        return
    out = console()
    if not out.is_terminal:
        out = Console(highlight=False, width=10_000)  # a pipe cuts no name
    out.print(table)


def moment(iso: str | None) -> str:
    """A time of the api in local time."""
    if not iso:
        return ""
    parsed = datetime.fromisoformat(iso)
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware.astimezone().strftime("%Y-%m-%d %H:%M")


def coloured(text: str, colours: dict[str, str]) -> Text:
    """A state in its colour."""
    return Text(plain(text), style=colours.get(text, ""))
