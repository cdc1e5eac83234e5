"""Literals of the OData ABNF: texts, numbers, times, durations, true, false and null.

Also `datetime'…'` of OData 2 and 3, which the balena family's clients still send.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from gantry.api.odata.errors import Place
from gantry.api.odata.reader import Reader
from gantry.api.odata.schema import Kind
from gantry.api.odata.tree import Literal, Scalar

_END = r"(?![\w.:])"
_DATE = r"\d{4}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?"
_ZONE = r"(?:Z|z|[+-]\d\d:\d\d)"
_LITERAL = re.compile(
    rf"""
      (?P<text>'(?:[^']|'')*')
    | (?P<guid>[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}){_END}
    | datetime(?:offset)?'(?P<old_moment>[^']*)'
    | duration'(?P<duration>[^']*)'
    | (?P<moment>{_DATE}[Tt]{_CLOCK}{_ZONE}?){_END}
    | (?P<date>{_DATE}){_END}
    | (?P<clock>{_CLOCK}){_END}
    | (?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?){_END}
    | (?P<word>true|false|null){_END}
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
# ABNF dayTimeDuration: years and months have no one length.
_DURATION = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
_MAX_DAYS = 36_525
_MAX_EXPONENT = 300
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def read_literal(reader: Reader) -> Literal | None:
    """The literal that is next, if one is.

    Raises:
        ODataError: it is written like one and is no such value, such as a 31st of June.
    """
    place = reader.place()
    found = reader.match(_LITERAL)
    if found is None or found.lastgroup is None:
        return None
    value, kind = _READERS[found.lastgroup](found[found.lastgroup], place)
    return Literal(place, value, kind)


def moment(text: str, place: Place) -> datetime:
    """A time; without a zone, of UTC.

    Raises:
        ODataError: it is none.
    """
    try:
        value = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise place.error(f"{text[:60]!r} is not a time: use 2024-05-31T12:00:00Z") from error
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def day(text: str, place: Place) -> date:
    """A date.

    Raises:
        ODataError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise place.error(f"{text[:60]!r} is not a date: use 2024-05-31") from error


def clock(text: str, place: Place) -> time:
    """A time of day.

    Raises:
        ODataError: it is none.
    """
    try:
        value = time.fromisoformat(text)
    except ValueError as error:
        raise place.error(f"{text[:60]!r} is not a time of day: use 12:30:00") from error
    return value.replace(tzinfo=None)


def _text(text: str, place: Place) -> tuple[Scalar, Kind | None]:
    value = text[1:-1].replace("''", "'")
    if "\0" in value:
        raise place.error("a text cannot hold a NUL character")
    return value, Kind.TEXT


def _number(text: str, place: Place) -> tuple[Scalar, Kind | None]:
    if text.lstrip("+-").isdigit():
        # Python refuses to read thousands of digits; no column has more than 19.
        if len(text) > 25 or abs(int(text)) >= 2**63:
            raise place.error("the number is too large")
        return int(text), Kind.INTEGER
    value = Decimal(text) if len(text) <= _MAX_EXPONENT else Decimal("Infinity")
    if not value.is_finite() or abs(value.adjusted()) > _MAX_EXPONENT:
        raise place.error("the number is too large, too small or too long")
    return value, Kind.FLOAT


def _duration(text: str, place: Place) -> tuple[Scalar, Kind | None]:
    found = _DURATION.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise place.error("use a duration such as duration'P1DT12H30M5.5S'")
    parts = {name: found[name] or "0" for name in ("days", "hours", "minutes", "seconds")}
    if max(len(each) for each in parts.values()) > 15:
        raise place.error(f"a duration has at most {_MAX_DAYS} days")
    value = (
        timedelta(**{name: float(each) for name, each in parts.items()}) if _fits(parts) else None
    )
    if value is None:
        raise place.error(f"a duration has at most {_MAX_DAYS} days")
    return (-value if found["sign"] == "-" else value), Kind.DURATION


def _fits(parts: dict[str, str]) -> bool:
    lengths = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
    seconds = sum(float(parts[name]) * length for name, length in lengths.items())
    return seconds <= _MAX_DAYS * 86_400


_READERS: dict[str, Callable[[str, Place], tuple[Scalar, Kind | None]]] = {
    "text": _text,
    "guid": lambda text, _: (text, Kind.TEXT),
    "old_moment": lambda text, place: (moment(text, place), Kind.TIME),
    "moment": lambda text, place: (moment(text, place), Kind.TIME),
    "duration": _duration,
    "date": lambda text, place: (day(text, place), Kind.DATE),
    "clock": lambda text, place: (clock(text, place), Kind.CLOCK),
    "number": _number,
    "word": lambda text, _: (
        _WORDS[text.lower()],
        None if text.lower() == "null" else Kind.BOOLEAN,
    ),
}
