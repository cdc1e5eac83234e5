"""Which rule an error of the database is about, and which rows broke it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from gantry.api.rules.declarations import RULES
from gantry.api.rules.kinds import Check, Holds, Required, Rule, Unique
from gantry.api.rules.sql import rule_of_name
from gantry.api.rules.tables import METADATA, table_of

# `Failing row contains (5, …)`: ids are first in all tables of the rules.
_FAILING_ROW = re.compile(r"\((\d+),")
# `Key (application, name)=(1, A) already exists.`
_KEY = re.compile(r"Key \((.*?)\)=\((.*)\) already exists")


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken rule. `ids` are rows of `resource`, the first of `count`.

    `key` is what was there already, where rows must differ.
    """

    rule: Rule
    resource: str
    ids: tuple[int, ...] = ()
    count: int = 0
    key: str = ""

    @property
    def sentence(self) -> str:
        """The rule's sentence and what broke it."""
        where = self.key
        if self.ids:
            where = ", ".join(str(each) for each in self.ids)
            if self.count > len(self.ids):
                where += f" and {self.count - len(self.ids)} more"
        return f"{self.rule.sentence} ({self.resource}{' ' + where if where else ''})"

    @property
    def status(self) -> int:
        """409 where something is there already, 400 otherwise."""
        return 409 if self.key else 400


def _constraints(rule: Rule) -> Iterator[tuple[str, str]]:
    """What the database calls this rule: tables and names of constraints, or columns."""
    for meaning in rule.meanings:
        match meaning:
            case Check():
                table = table_of(meaning.model).name
                yield table, f"ck_{table}_{meaning.name}"
            case Unique():
                table = table_of(meaning.model).name
                yield table, meaning.name or f"uq_{table}_{'_'.join(meaning.columns)}"
            case Required():
                column = meaning.attribute.__clause_element__()
                yield column.table.name, column.name
            case Holds():
                table = table_of(meaning.subject).name
                yield from ((table, name) for name in meaning.backed_by)
                yield table, rule_of_name(rule.name)
            case _:
                pass


_RULES = {place: rule for rule in RULES for place in _constraints(rule)}


def broken(error: BaseException | None) -> Broken | None:
    """The rule that an error of psycopg is about; None for all other errors."""
    if not isinstance(error, psycopg.errors.IntegrityError):
        return None
    told = error.diag
    table = told.table_name or ""
    rule = _RULES.get((table, told.constraint_name or told.column_name or ""))
    if rule is None or table not in METADATA.tables:
        return None
    detail = told.message_detail or ""
    if told.constraint_name == rule_of_name(rule.name):
        rows = json.loads(detail)
        return Broken(rule, table, tuple(rows["ids"]), rows["count"])
    if key := _KEY.search(detail):
        return Broken(rule, table, key=f"{key[1]}: {key[2]}")
    row = _FAILING_ROW.search(detail) if isinstance(error, psycopg.errors.CheckViolation) else None
    return Broken(rule, table, (int(row[1]),), 1) if row else Broken(rule, table)
