"""Expressions as the parser reads them. Equal ones say the same, wherever they stand."""

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeAlias

from gantry.api.odata.errors import Place
from gantry.api.odata.schema import Kind

Scalar: TypeAlias = bool | int | Decimal | str | datetime | date | time | timedelta | None


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a path."""

    text: str
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """Any expression."""

    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A value; `kind` is None for null."""

    value: Scalar
    kind: Kind | None


@dataclass(frozen=True, slots=True)
class Path(Node):
    """A field, after any number of navigations: `belongs_to__application/app_name`."""

    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Count(Node):
    """How many rows a navigation leads to: `owns__device/$count($filter=is_online)`."""

    names: tuple[Name, ...]
    condition: Node | None


@dataclass(frozen=True, slots=True)
class Lambda(Node):
    """Whether `any` row, or `all` rows, fulfil the body: `owns__device/any(d:d/is_online)`."""

    names: tuple[Name, ...]
    quantifier: str
    variable: str
    body: Node | None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of the standard."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`not` before a condition."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """`-` before a number or a duration."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """Conditions that must hold all (`and`), or one of them (`or`)."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """`eq ne gt ge lt le`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """`add sub mul div divby mod`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class In(Node):
    """Whether a value is one of a list."""

    value: Node
    members: tuple[Node, ...]
