"""The functions of expressions (OData URL Conventions, 5.1.1.5 to 5.1.1.8) as SQL."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Numeric,
    Time,
    cast,
    extract,
    func,
    literal,
)

from gantry.api.odata.schema import Kind

Arguments = Sequence[ColumnElement[Any]]

_NO_TEXT_IS_LONGER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Function:
    """What a function takes (each tuple is one way to call it), what it gives, and its SQL."""

    takes: tuple[tuple[Kind, ...], ...]
    gives: Kind
    sql: Callable[[Arguments], ColumnElement[Any]]

    def accepts(self, kinds: Sequence[Kind | None]) -> bool:
        """Whether arguments of these kinds can be given."""
        return any(
            len(kinds) == len(wanted)
            and all(
                kind == want or (kind, want) == (Kind.INTEGER, Kind.FLOAT)
                for kind, want in zip(kinds, wanted, strict=True)
            )
            for wanted in self.takes
        )

    def usage(self) -> str:
        """What it takes, in words."""
        ways = [", ".join(wanted) or "nothing" for wanted in self.takes]
        return " or ".join(f"({way})" for way in ways)


def _text(gives: Kind, sql: Callable[[Arguments], ColumnElement[Any]], count: int = 1) -> Function:
    return Function(((Kind.TEXT,) * count,), gives, sql)


def _part(name: str, *kinds: Kind) -> Function:
    def sql(a: Arguments) -> ColumnElement[Any]:
        return cast(func.floor(extract(name, a[0])), BigInteger)

    return Function(tuple((kind,) for kind in kinds), Kind.INTEGER, sql)


def _number(sql: Callable[[Any], ColumnElement[Any]]) -> Function:
    return Function(((Kind.FLOAT,),), Kind.FLOAT, lambda a: sql(cast(a[0], Numeric)))


def _constant(value: datetime) -> Function:
    return Function(((),), Kind.TIME, lambda _: literal(value, DateTime(True)))


def _fraction(a: Arguments) -> ColumnElement[Any]:
    seconds = extract("second", a[0])
    return seconds - func.floor(seconds)


def _substring(a: Arguments) -> ColumnElement[Any]:
    """OData counts from 0, SQL from 1; what is below 0 counts as 0."""
    # Bounded before the addition, which else could leave the range of numbers.
    begin = cast(func.least(func.greatest(a[1], 0), _NO_TEXT_IS_LONGER), Integer)
    rest = func.substr(a[0], begin + 1)
    if len(a) == 2:
        return rest
    return func.left(rest, cast(func.least(func.greatest(a[2], 0), _NO_TEXT_IS_LONGER), Integer))


_T, _I = Kind.TEXT, Kind.INTEGER
_DAYS, _CLOCKS = (Kind.TIME, Kind.DATE), (Kind.TIME, Kind.CLOCK)

FUNCTIONS: dict[str, Function] = {
    "contains": _text(Kind.BOOLEAN, lambda a: func.strpos(a[0], a[1]) > 0, 2),
    "startswith": _text(Kind.BOOLEAN, lambda a: func.starts_with(a[0], a[1]), 2),
    "endswith": _text(Kind.BOOLEAN, lambda a: func.right(a[0], func.length(a[1])) == a[1], 2),
    "length": _text(Kind.INTEGER, lambda a: func.length(a[0])),
    "indexof": _text(Kind.INTEGER, lambda a: func.strpos(a[0], a[1]) - 1, 2),
    "substring": Function(((_T, _I), (_T, _I, _I)), _T, _substring),
    "tolower": _text(_T, lambda a: func.lower(a[0])),
    "toupper": _text(_T, lambda a: func.upper(a[0])),
    "trim": _text(_T, lambda a: func.btrim(a[0])),
    "concat": _text(_T, lambda a: a[0].concat(a[1]), 2),
    "year": _part("year", *_DAYS),
    "month": _part("month", *_DAYS),
    "day": _part("day", *_DAYS),
    "hour": _part("hour", *_CLOCKS),
    "minute": _part("minute", *_CLOCKS),
    "second": _part("second", *_CLOCKS),
    "fractionalseconds": Function(((Kind.TIME,), (Kind.CLOCK,)), Kind.FLOAT, _fraction),
    # The session's time zone is UTC, and so are all times.
    "date": Function(((Kind.TIME,),), Kind.DATE, lambda a: cast(a[0], Date)),
    "time": Function(((Kind.TIME,),), Kind.CLOCK, lambda a: cast(a[0], Time)),
    "totaloffsetminutes": Function(
        ((Kind.TIME,),), Kind.INTEGER, lambda _: literal(0, BigInteger())
    ),
    "totalseconds": Function(
        ((Kind.DURATION,),), Kind.FLOAT, lambda a: cast(extract("epoch", a[0]), Numeric)
    ),
    "now": Function(((),), Kind.TIME, lambda _: func.now()),
    "mindatetime": _constant(datetime(1, 1, 1, tzinfo=UTC)),
    "maxdatetime": _constant(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    "round": _number(func.round),
    "floor": _number(func.floor),
    "ceiling": _number(func.ceil),
}
