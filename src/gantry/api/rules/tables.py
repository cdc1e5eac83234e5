"""The rules of one row, and of rows that must differ, as constraints of the model's tables."""

from typing import cast

from sqlalchemy import CheckConstraint, Index, MetaData, Table, UniqueConstraint, inspect, text

from gantry.api.models import Base
from gantry.api.rules.declarations import RULES
from gantry.api.rules.kinds import Check, Row, Unique


def table_of(row: Row) -> Table:
    """The table of a model, or of an alias of one."""
    return cast(Table, inspect(row).mapper.local_table)


def _unique(meaning: Unique) -> None:
    table = table_of(meaning.model)
    if meaning.where is None:
        table.append_constraint(UniqueConstraint(*meaning.columns, name=meaning.name))
    else:
        columns = [table.c[each] for each in meaning.columns]
        Index(meaning.name, *columns, unique=True, postgresql_where=text(meaning.where))


def _attached() -> MetaData:
    for rule in RULES:
        for meaning in rule.meanings:
            if isinstance(meaning, Check):
                table = table_of(meaning.model)
                table.append_constraint(CheckConstraint(meaning.condition, name=meaning.name))
            elif isinstance(meaning, Unique):
                _unique(meaning)
    return Base.metadata


# All tables with all their constraints; `Base.metadata` alone lacks those of the rules.
METADATA = _attached()
