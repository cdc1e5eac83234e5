"""What operators make of values in SQL, and which kinds go together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Interval,
    Numeric,
    Time,
    cast,
    false,
    func,
    literal,
    null,
    or_,
)
from sqlalchemy import Boolean as SqlBoolean
from sqlalchemy import Text as SqlText
from sqlalchemy.types import TypeEngine

from gantry.api.odata import literals, tree
from gantry.api.odata.errors import Place
from gantry.api.odata.schema import Kind

_NUMBERS = {Kind.INTEGER, Kind.FLOAT}
_TYPES: dict[Kind, TypeEngine[Any]] = {
    Kind.INTEGER: BigInteger(),
    Kind.FLOAT: Numeric(),
    Kind.TEXT: SqlText(),
    Kind.BOOLEAN: SqlBoolean(),
    Kind.TIME: DateTime(True),
    Kind.DATE: Date(),
    Kind.CLOCK: Time(),
    Kind.DURATION: Interval(),
}


@dataclass(frozen=True, slots=True)
class Value:
    """An SQL expression and what it is; `kind` is None for null."""

    sql: ColumnElement[Any]
    kind: Kind | None


# What times and durations make of each other (URL Conventions, 5.1.1.2).
_MOMENTS = {
    (Kind.TIME, "add", Kind.DURATION): Kind.TIME,
    (Kind.TIME, "sub", Kind.DURATION): Kind.TIME,
    (Kind.TIME, "sub", Kind.TIME): Kind.DURATION,
    (Kind.DATE, "add", Kind.DURATION): Kind.TIME,
    (Kind.DATE, "sub", Kind.DURATION): Kind.TIME,
    (Kind.DATE, "sub", Kind.DATE): Kind.DURATION,
    (Kind.DURATION, "add", Kind.DURATION): Kind.DURATION,
    (Kind.DURATION, "sub", Kind.DURATION): Kind.DURATION,
}


def literal_value(node: tree.Literal) -> Value:
    """A literal, bound as a parameter."""
    if node.kind is None:
        return Value(null(), None)
    return Value(literal(node.value, _TYPES[node.kind]), node.kind)


def named(value: Value) -> str:
    """What a value is, in words."""
    return "null" if value.kind is None else str(value.kind)


def compared(
    node: tree.Comparison, left: Value, right: Value, *, is_exact: bool
) -> ColumnElement[bool]:
    """`eq ne gt ge lt le`; with `is_exact`, false and not unknown where a side is null.

    Raises:
        ODataError: the two cannot be compared.
    """
    if left.kind is None or right.kind is None:
        return _with_null(node, left, right)
    left, right = (
        _fit(node.left, left, right, node.right),
        _fit(node.right, right, left, node.left),
    )
    match node.operator:
        case "ne":
            return left.sql.is_distinct_from(right.sql)
        case "eq":
            found: ColumnElement[bool] = left.sql == right.sql
        case "lt":
            found = left.sql < right.sql
        case "le":
            found = left.sql <= right.sql
        case "gt":
            found = left.sql > right.sql
        case _:
            found = left.sql >= right.sql
    return func.coalesce(found, false()) if is_exact else found


def listed(
    node: tree.In, value: Value, members: Sequence[Value], *, is_exact: bool
) -> ColumnElement[bool]:
    """Whether a value is one of a list, null included.

    Raises:
        ODataError: they cannot be compared.
    """
    if value.kind is None:
        raise node.value.place.error("null is not looked for in a list: use `eq null`")
    pairs = zip(node.members, members, strict=True)
    known = [_fit(place, each, value).sql for place, each in pairs if each.kind]
    found: ColumnElement[bool] = value.sql.in_(known) if known else false()
    if len(known) < len(members):
        found = or_(found, value.sql.is_(None))
    return func.coalesce(found, false()) if is_exact else found


def calculated(node: tree.Arithmetic, left: Value, right: Value) -> Value:
    """`add sub mul div divby mod`.

    Raises:
        ODataError: the two do not go together.
    """
    if {left.kind, right.kind} <= _NUMBERS:
        return _number(node.operator, left, right)
    kinds = (left.kind, node.operator, right.kind)
    if kinds in _MOMENTS:
        a, b = _as_moment(left), _as_moment(right)
        return Value(a + b if node.operator == "add" else a - b, _MOMENTS[kinds])
    raise node.place.error(
        f"{named(left)} and {named(right)} do not go together with `{node.operator}`"
    )


def negated(node: tree.Negative, value: Value) -> Value:
    """`-` before a value.

    Raises:
        ODataError: it has no negative.
    """
    if value.kind in _NUMBERS:
        return Value(-cast(value.sql, Numeric), value.kind)
    if value.kind is Kind.DURATION:
        return Value(-value.sql, value.kind)
    raise node.place.error(f"{named(value)} has no negative")


def _as_moment(value: Value) -> ColumnElement[Any]:
    return cast(value.sql, DateTime(True)) if value.kind is Kind.DATE else value.sql


def _with_null(node: tree.Comparison, left: Value, right: Value) -> ColumnElement[bool]:
    value = right.sql if left.kind is None else left.sql
    match node.operator:
        case "eq":
            return value.is_(None)
        case "ne":
            return value.is_not(None)
        case _:
            raise node.place.error("null is neither more nor less than anything")


def _fit(node: tree.Node, value: Value, other: Value, beside: tree.Node | None = None) -> Value:
    """`value`, as what it is compared with: of the same kind, but for numbers and times."""
    kinds = {value.kind, other.kind}
    if Kind.JSON in kinds:
        raise node.place.error("JSON is compared with null only")
    if value.kind == other.kind or kinds <= _NUMBERS:
        return value
    if kinds == {Kind.TIME, Kind.DATE}:
        return Value(_as_moment(value), Kind.TIME)
    if value.kind is Kind.TEXT and isinstance(node, tree.Literal) and other.kind is not None:
        read = _OF_TEXT.get(other.kind)
        if read is not None:
            return Value(literal(read(str(node.value), node.place), _TYPES[other.kind]), other.kind)
    if other.kind is Kind.TEXT and value.kind in _OF_TEXT and isinstance(beside, tree.Literal):
        # The text is fitted to this.
        return value
    raise node.place.error(f"{named(value)} cannot be compared with {named(other)}")


_OF_TEXT: dict[Kind | None, Callable[[str, Place], Any]] = {
    Kind.TIME: literals.moment,
    Kind.DATE: literals.day,
    Kind.CLOCK: literals.clock,
}


def _number(operator: str, left: Value, right: Value) -> Value:
    # Decimal numbers of any size: no sum leaves a range.
    a, b = cast(left.sql, Numeric), cast(right.sql, Numeric)
    are_whole = left.kind is right.kind is Kind.INTEGER
    kind = Kind.INTEGER if are_whole else Kind.FLOAT
    match operator:
        case "add":
            return Value(a + b, kind)
        case "sub":
            return Value(a - b, kind)
        case "mul":
            return Value(a * b, kind)
        case "mod":
            return Value(func.mod(a, func.nullif(b, 0)), kind)
        case "divby":
            return Value(a / func.nullif(b, 0), Kind.FLOAT)
        case _:
            quotient = a / func.nullif(b, 0)
            return Value(func.trunc(quotient) if are_whole else quotient, kind)
