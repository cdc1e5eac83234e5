"""How a resource is declared: fields, navigations, and who sees which rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, cast

from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Float, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.schema import Column, Table

from gantry.api.actors import Actor
from gantry.api.models import Base

# An aliased table's entity: SQLAlchemy has no type for it that says more.
Row = Any


class Kind(StrEnum):
    """What a field's values are."""

    INTEGER = "a number"
    FLOAT = "a decimal number"
    TEXT = "a text"
    BOOLEAN = "true or false"
    TIME = "a time"
    DATE = "a date"
    CLOCK = "a time of day"
    DURATION = "a duration"
    JSON = "JSON"


_KINDS: tuple[tuple[type, Kind], ...] = (
    (BigInteger, Kind.INTEGER),
    (Boolean, Kind.BOOLEAN),
    (DateTime, Kind.TIME),
    (Float, Kind.FLOAT),
    (JSONB, Kind.JSON),
    (Text, Kind.TEXT),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its expression over a row, and its kind.

    `reference` fields are read as `{"__id": …}`; `heavy` ones only when `$select` names them.
    """

    name: str
    kind: Kind
    expression: Callable[[Row], ColumnElement[Any]]
    is_reference: bool = False
    is_heavy: bool = False
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Navigation:
    """From a row to rows of another resource, by a condition over both.

    `is_single`: to one row at most, although it bears no field's name.
    """

    target: str
    condition: Callable[[Row, Row], ColumnElement[bool]]
    is_single: bool = False


@dataclass(frozen=True)
class Resource:
    """A table as clients see it.

    `changeable` says which rows an actor may change, where that is fewer than those it sees.
    """

    name: str
    model: type[Base]
    visible: Callable[[Row, Actor], ColumnElement[bool]]
    changeable: Callable[[Row, Actor], ColumnElement[bool]] | None = None
    hidden: frozenset[str] = frozenset()
    heavy: frozenset[str] = frozenset()
    # Beside the id: each a set of fields that name at most one row.
    natural_keys: tuple[frozenset[str], ...] = ()
    navigations: Mapping[str, Navigation] = field(default_factory=dict)
    computed: tuple[Field, ...] = ()

    @cached_property
    def fields(self) -> dict[str, Field]:
        """All fields by name, the id first."""
        columns = [
            _field(column, is_heavy=column.key in self.heavy)
            for column in cast(Table, self.model.__table__).columns
            if column.key not in self.hidden
        ]
        return {each.name: each for each in (*columns, *self.computed)}

    def is_collection(self, navigation: str) -> bool:
        """Whether a navigation leads to any number of rows; those to one bear a field's name."""
        found = self.navigations.get(navigation)
        return navigation not in self.fields and not (found is not None and found.is_single)


def _field(column: Column[Any], *, is_heavy: bool) -> Field:
    name = column.key
    kind = next(kind for type_, kind in _KINDS if isinstance(column.type, type_))
    is_reference = bool(column.foreign_keys) and not column.primary_key
    return Field(
        name,
        kind,
        lambda row: getattr(row, name),
        is_reference=is_reference,
        is_heavy=is_heavy,
        is_nullable=bool(column.nullable),
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """That the row's `column` names the other row: the condition of a navigation."""

    column: str

    def __call__(self, row: Row, other: Row) -> ColumnElement[bool]:
        """The two belong together."""
        return cast(ColumnElement[bool], getattr(row, self.column) == other.id)


def refers(column: str) -> Reference:
    """The row's `column` names the other row."""
    return Reference(column)


def referred_by(column: str) -> Callable[[Row, Row], ColumnElement[bool]]:
    """The other row's `column` names the row."""
    return lambda row, other: getattr(other, column) == row.id
