"""What a rule may mean over the model: typed data, from which SQL, errors and docs are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

# A model, or an alias of one.
Row = Any
# An attribute of a `Row`.
Attribute = Any


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on one row alone, in SQL: a CHECK constraint `ck_<table>_<name>`."""

    model: Row
    name: str
    condition: str


@dataclass(frozen=True, slots=True)
class Unique:
    """No two rows are equal in these columns: a unique constraint.

    With `name` and `where` it is a unique index over the rows that `where` (SQL) names.
    """

    model: Row
    columns: tuple[str, ...]
    name: str | None = None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Required:
    """The column always refers to something: NOT NULL, beside its foreign key."""

    attribute: Attribute


@dataclass(frozen=True, slots=True)
class Link:
    """A row that `via` refers to by its id.

    `alone`: whoever changes what the rule speaks of holds it so that nobody else does; for rules
    about several rows that refer to the same one.
    """

    to: Row
    via: Attribute
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Holds:
    """A condition on a row and the rows it refers to: triggers on all their tables.

    A row whose own references are null is none of the rule's concern. `backed_by` names foreign
    keys that hold a part of it too.
    """

    subject: Row
    links: tuple[Link, ...]
    condition: ColumnElement[bool]
    backed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clears:
    """When `on` changes, the reference of `link` becomes null unless `equal` of its row is as `on`.

    What the same change sets anew is not touched: the other rules judge it.
    """

    subject: Row
    on: Attribute
    link: Link
    equal: Attribute


@dataclass(frozen=True, slots=True)
class Removes:
    """When `on` of a row changes, the rows that refer to it by `reference` are removed."""

    subject: Row
    on: Attribute
    reference: Attribute


Meaning = Check | Unique | Required | Holds | Clears | Removes


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a stable name, a sentence for people, and what it means."""

    name: str
    sentence: str
    meanings: Sequence[Meaning]
