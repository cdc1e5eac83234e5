"""PostgreSQL's functions and triggers, generated from the rules' meanings.

A rule about several rows is judged after each statement that touches what it speaks of, over all
rows of the statement (transition tables: PostgreSQL 17, 37.1). Whoever changes a row holds those
that it refers to, so that nobody changes them meanwhile; and judges after that, in a statement of
its own, which sees all that has been committed until then.
"""
# ruff: noqa: S608 - what is put together here comes from the declarations alone

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, inspect, literal_column, or_, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import Column
from sqlalchemy.sql import ClauseElement, visitors

from gantry.api.rules.declarations import RULES
from gantry.api.rules.kinds import (
    Attribute,
    Check,
    Clears,
    Holds,
    Link,
    Removes,
    Row,
    Rule,
)
from gantry.api.rules.tables import table_of

# A broken rule names so many rows, and says how many there are.
NAMED_ROWS = 20

# Whoever makes a change cannot put tables of their own before those of the rules.
BODY = "language plpgsql set search_path = public, pg_temp as $$"

HELPERS = f"""\
create function rule_break(rule text, sentence text, subject text, ids bigint[]) returns void
{BODY}
begin
    raise exception using errcode = 'check_violation', message = sentence,
        constraint = 'rule_' || rule, table = subject,
        detail = jsonb_build_object(
            'ids', to_jsonb(ids[1:{NAMED_ROWS}]), 'count', cardinality(ids))::text;
end $$;
create function rule_isolation() returns void
{BODY}
begin
    -- A snapshot that is older than the locks does not see what others have committed.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using errcode = 'feature_not_supported',
            message = 'changes that rules speak of need the isolation level read committed';
    end if;
end $$;
"""


# No parameters are sent: per cent signs stay as they are.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def rule_of_name(name: str) -> str:
    """What the database calls a rule that triggers hold, as a constraint's name."""
    return f"rule_{name}"


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def create(rules: Iterable[Rule] = RULES) -> str:
    """Functions and triggers of these rules, for a database that has none of them."""
    parts = [HELPERS]
    for rule in rules:
        for meaning in rule.meanings:
            match meaning:
                case Holds():
                    parts += _judges(rule, meaning)
                case Clears():
                    parts.append(_clears(rule, meaning))
                case Removes():
                    parts.append(_removes(rule, meaning))
                case _:
                    pass
    return "".join(parts)


def find(rules: Iterable[Rule] = RULES) -> str:
    """A block that raises when rows break rules, and says which: of all rules at once."""
    lines = []
    tables: set[str] = set()
    for rule in rules:
        for meaning in rule.meanings:
            if isinstance(meaning, Holds):
                tables.update(watch.table for watch in watches(meaning))
        for subject, query in _violations(rule):
            tables.add(subject)
            lines.append(
                f"    select array_agg(id order by id) into ids from (\n{query}\n    ) as broken;\n"
                f"    if ids is not null then\n"
                f"        said := said || ({literal(f'{rule.name}: {subject} ')}\n"
                f"            || array_to_string(ids[1:{NAMED_ROWS}], ', ')\n"
                f"            || case when cardinality(ids) > {NAMED_ROWS}\n"
                f"                then ' of ' || cardinality(ids) else '' end);\n"
                f"    end if;\n"
            )
    locked = ", ".join(sorted(tables))
    return (
        "do $$\ndeclare ids bigint[]; said text[] := '{}';\nbegin\n"
        f"    lock table {locked} in share row exclusive mode;\n"
        + "".join(lines)
        + "    if said <> '{}' then\n"
        "        raise exception using errcode = 'check_violation', message =\n"
        "            'rows break rules; correct them, then start again: '\n"
        "            || array_to_string(said, '; ');\n"
        "    end if;\nend $$;\n"
    )


def _violations(rule: Rule) -> Iterator[tuple[str, str]]:
    for meaning in rule.meanings:
        if isinstance(meaning, Holds):
            yield _quoted(meaning.subject), compiled(_broken(meaning))
        elif isinstance(meaning, Check):
            table = _quoted(meaning.model)
            yield table, f"select id from {table} where not ({meaning.condition})"


def compiled(element: ClauseElement) -> str:
    """An expression over the model as SQL, its values in it."""
    text = str(element.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
    return textwrap.indent(
        text.replace(" LEFT OUTER", "\nLEFT OUTER").replace(" \n", "\n"), " " * 8
    )


def _quoted(row: Row) -> str:
    return _DIALECT.identifier_preparer.format_table(table_of(row))


def _name(row: Row) -> str:
    """What a row is called in a rule's query."""
    return str(inspect(row).selectable.name)


def _column(attribute: Attribute) -> Column[int]:
    column: Column[int] = attribute.__clause_element__()
    return column


def _watched(meaning: Holds) -> dict[str, set[str]]:
    """The columns that the rule speaks of, by what their rows are called."""
    names = [_name(meaning.subject), *(_name(link.to) for link in meaning.links)]
    spoken: list[Any] = [meaning.condition, *(_column(link.via) for link in meaning.links)]
    found: dict[str, set[str]] = {name: set() for name in names}
    for element in (part for each in spoken for part in visitors.iterate(each)):
        table = getattr(element, "table", None)
        if isinstance(element, Column) and table is not None and table.name in found:
            found[table.name].add(element.name)
    return {name: columns - {"id"} for name, columns in found.items()}


def _joined(meaning: Holds, wanted: Attribute) -> Select[Any]:
    query = select(wanted).select_from(meaning.subject)
    for link in meaning.links:
        query = query.outerjoin(link.to, link.to.id == link.via)
    return query


def _broken(meaning: Holds) -> Select[Any]:
    """The ids of the subject's rows that break the rule."""
    own = _name(meaning.subject)
    query = _joined(meaning, meaning.subject.id)
    for link in meaning.links:
        column = _column(link.via)
        if column.table.name == own and column.nullable:
            query = query.where(link.via.is_not(None))
    return query.where(~func.coalesce(meaning.condition, false()))


def _changed(columns: Iterable[str]) -> str:
    """The rows of a statement with new values.

    No join: its plan, once made for a change of one row, would be kept for one of thousands.
    """
    listed = ", ".join(columns)
    return (
        f"            select {listed} from new_rows\n"
        f"            except select {listed} from old_rows"
    )


def _among(rows: Iterable[Row]) -> ColumnElement[bool]:
    return or_(*(row.id.in_(select(func.unnest(literal_column("changed")))) for row in rows))


@dataclass(frozen=True, slots=True)
class Watch:
    """A table that a rule speaks of: as which rows, and which of its columns."""

    table: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    is_subject: bool


def watches(meaning: Holds) -> Iterator[Watch]:
    """The tables whose changes may break a rule; the subject's is first."""
    found: dict[str, list[Row]] = {}
    for row in (meaning.subject, *(link.to for link in meaning.links)):
        found.setdefault(_quoted(row), []).append(row)
    watched = _watched(meaning)
    for table, rows in found.items():
        columns: set[str] = set().union(*(watched[_name(row)] for row in rows))
        if columns:
            is_subject = table == _quoted(meaning.subject)
            yield Watch(table, tuple(rows), tuple(sorted(columns)), is_subject)


def _judges(rule: Rule, meaning: Holds) -> Iterator[str]:
    """One function for each table that the rule speaks of, and its triggers."""
    short = f"rule_{rule.name}_{table_of(meaning.subject).name}"
    for watch in watches(meaning):
        function = f"{short}_{table_of(watch.rows[0]).name}"
        yield _judge(rule, meaning, function, watch)
        if watch.is_subject:
            yield (
                f"create trigger {short}_insert after insert on {watch.table}\n"
                f"    referencing new table as new_rows\n"
                f"    for each statement execute function {function}();\n"
            )
        yield (
            f"create trigger {short}_update after update on {watch.table}\n"
            f"    referencing old table as old_rows new table as new_rows\n"
            f"    for each statement execute function {function}();\n"
        )


def _judge(rule: Rule, meaning: Holds, function: str, watch: Watch) -> str:
    among = _among(watch.rows)
    changed = (
        f"select array_agg(id) into changed from (\n"
        f"{_changed(['id', *watch.columns])}\n        ) as each;"
    )
    if watch.is_subject:
        changed = (
            "if tg_op = 'INSERT' then\n"
            "        select array_agg(id) into changed from new_rows;\n"
            f"    else\n        {changed}\n    end if;"
        )
    names = {_name(row) for row in watch.rows}
    held = "".join(
        _held(meaning, link, among) for link in meaning.links if _is_held(meaning, link, names)
    )
    return (
        f"create function {function}() returns trigger\n{BODY}\n"
        f"declare changed bigint[]; broken bigint[];\nbegin\n    {changed}\n"
        f"    if changed is null then\n        return null;\n    end if;\n"
        f"    perform rule_isolation();\n{held}"
        f"    select array_agg(id order by id) into broken from (\n"
        f"{compiled(_broken(meaning).where(among))}\n    ) as each;\n"
        f"    if broken is not null then\n"
        f"        perform rule_break({literal(rule.name)}, {literal(rule.sentence)},\n"
        f"            {literal(table_of(meaning.subject).name)}, broken);\n"
        f"    end if;\n    return null;\nend $$;\n"
    )


def _is_held(meaning: Holds, link: Link, changed: set[str]) -> bool:
    """Whether a change of these rows must hold what `link` leads to: what they refer to is."""
    if link.alone:
        return _name(link.to) not in changed
    vias = {_name(each.to): _column(each.via).table.name for each in meaning.links}
    name = _name(link.to)
    while name in vias:
        name = vias[name]
        if name in changed:
            return True
    return False


def _held(meaning: Holds, link: Link, among: ColumnElement[bool]) -> str:
    table = _quoted(link.to)
    wanted = compiled(_joined(meaning, link.via).where(among))
    strength = "no key update" if link.alone else "share"
    return f"    perform from {table} where id in (\n{wanted}\n    ) order by id for {strength};\n"


def _clears(rule: Rule, meaning: Clears) -> str:
    table = _quoted(meaning.subject)
    on, column = _column(meaning.on).name, _column(meaning.link.via).name
    name = f"rule_{rule.name}_{column}"
    fitting = compiled(
        select(meaning.link.to.id)
        .where(meaning.link.to.id == literal_column(f"new.{column}"))
        .where(meaning.equal == literal_column(f"new.{on}"))
    )
    return (
        f"create function {name}() returns trigger\n{BODY}\nbegin\n"
        f"    if new.{column} = old.{column} and not exists (\n{fitting}\n    ) then\n"
        f"        new.{column} := null;\n    end if;\n    return new;\nend $$;\n"
        f"create trigger {name} before update of {on} on {table}\n"
        f"    for each row when (new.{on} is distinct from old.{on})\n"
        f"    execute function {name}();\n"
    )


def _removes(rule: Rule, meaning: Removes) -> str:
    table = _quoted(meaning.subject)
    on, reference = _column(meaning.on).name, _column(meaning.reference)
    name = f"rule_{rule.name}_{reference.table.name}"
    # Triggers of one table go by their names: this before all that judge.
    return (
        f"create function {name}() returns trigger\n{BODY}\nbegin\n"
        f"    delete from {reference.table.name} where {reference.name} in (\n"
        f"        select id from (\n{_changed(['id', on])}\n        ) as each);\n"
        f"    return null;\nend $$;\n"
        f"create trigger before_{name} after update on {table}\n"
        f"    referencing old table as old_rows new table as new_rows\n"
        f"    for each statement execute function {name}();\n"
    )
