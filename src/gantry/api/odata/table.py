"""Rows as CSV (RFC 4180): a line of names, then a line for each row."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MEDIA_TYPE = "text/csv"


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The text; null is empty, a reference its id, and what is expanded is JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case {"__id": number}:
            return str(number)
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
