"""From a resource and its options to one SQL statement, expansions and counts included."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal_column, null, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from gantry.api.actors import Actor
from gantry.api.odata import tree
from gantry.api.odata.errors import unknown_name
from gantry.api.odata.options import Expansion, Options
from gantry.api.odata.schema import Field, Kind, Resource, Row
from gantry.api.odata.sql import Compiler, Scope

PAGE_LIMIT = 1000
_TIME_FORMAT = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
_NO_ROWS: ColumnElement[Any] = literal_column("'[]'::jsonb", JSONB)

Key = Mapping[str, Any]


class Query:
    """The statements of one request for one actor."""

    def __init__(self, resources: Mapping[str, Resource], actor: Actor) -> None:
        self._actor = actor
        self._compiler = Compiler(resources, actor)

    def page(self, resource: Resource, options: Options, key: Key | None = None) -> Select[Any]:
        """One row: the rows as a JSON array, and how many there are in all, if that is asked for.

        The array holds one more than a page does when there are more.

        Raises:
            ODataError: names that do not exist, kinds that do not go together, too high a cost.
        """
        scope = Scope(resource, aliased(resource.model))
        limit = PAGE_LIMIT + 1 if options.top is None else min(options.top, PAGE_LIMIT + 1)
        rows = self._select(scope, options).where(*_keyed(scope, key)).limit(limit)
        total = self.count(resource, options, key).scalar_subquery() if options.count else null()
        return select(_collected(rows), total)

    def count(self, resource: Resource, options: Options, key: Key | None = None) -> Select[Any]:
        """How many rows there are, whatever the page."""
        scope = Scope(resource, aliased(resource.model))
        conditions = [*self._conditions(scope, options), *_keyed(scope, key)]
        return select(func.count()).select_from(scope.row).where(*conditions)

    def ids(self, resource: Resource, options: Options, key: Key | None = None) -> Select[Any]:
        """The ids of the rows that the actor may change; at most a page and one more."""
        scope = Scope(resource, aliased(resource.model))
        conditions = [*self._conditions(scope, options), *_keyed(scope, key)]
        if resource.changeable is not None:
            conditions.append(resource.changeable(scope.row, self._actor))
        query = select(scope.row.id).where(*conditions)
        return query.order_by(scope.row.id).limit(PAGE_LIMIT + 1)

    def _conditions(self, scope: Scope, options: Options) -> list[ColumnElement[bool]]:
        conditions = [scope.resource.visible(scope.row, self._actor)]
        if options.filter is not None:
            conditions.append(self._compiler.condition(scope, options.filter))
        return conditions

    def _select(self, scope: Scope, options: Options) -> Select[Any]:
        """The rows with their fields, each under its name; neither limited nor joined yet."""
        expanded = {each.name.text for each in options.expand}
        columns: list[ColumnElement[Any]] = [
            _written(field, scope.row).label(field.name)
            for field in _fields(scope.resource, options)
            if field.name not in expanded
        ]
        for each in options.expand:
            columns += self._expansion(scope, each)
        query = select(*columns).select_from(scope.row)
        query = query.where(*self._conditions(scope, options))
        query = query.order_by(*self._order(scope, options))
        return query.offset(options.skip) if options.skip else query

    def _order(self, scope: Scope, options: Options) -> list[ColumnElement[Any]]:
        keys = []
        for order in options.orderby:
            value = self._compiler.value(scope, order.value)
            if value.kind in (None, Kind.JSON):
                raise order.value.place.error("this has no order")
            key = value.sql.desc() if order.is_descending else value.sql.asc()
            if _may_be_null(scope.resource, order.value):
                # Null is the least (OData Protocol, 11.2.6.2). Elsewhere it would keep an index
                # from being used.
                key = key.nulls_last() if order.is_descending else key.nulls_first()
            keys.append(key)
        # Always a whole order: pages must not overlap.
        return [*keys, scope.row.id.asc()]

    def _expansion(self, scope: Scope, expansion: Expansion) -> list[ColumnElement[Any]]:
        """The rows at the end of a navigation as a JSON array, or their number."""
        name, options = expansion.name, expansion.options
        if expansion.is_count:
            return [self._compiler.counted(scope, name, options.filter).label(name.text)]
        inner, belongs = self._compiler.step(scope, name, rows=options.top)
        limit = PAGE_LIMIT if options.top is None else min(options.top, PAGE_LIMIT)
        rows = self._select(inner, options).where(belongs).limit(limit)
        array = _collected(rows.correlate_except(inner.row)).label(name.text)
        columns: list[ColumnElement[Any]] = [array]
        if options.count:
            total = self._compiler.counted(scope, name, options.filter)
            columns.append(total.label(f"{name.text}@odata.count"))
        return columns


def column_names(resource: Resource, options: Options) -> list[str]:
    """The names of a page's columns, in the order in which they were asked for."""
    expanded = [each.name.text for each in options.expand]
    names = [each.name for each in _fields(resource, options) if each.name not in expanded]
    for each in options.expand:
        names.append(each.name.text)
        if each.options.count:
            names.append(f"{each.name.text}@odata.count")
    return names


def _collected(rows: Select[Any]) -> ColumnElement[Any]:
    found = rows.subquery()
    array = func.jsonb_agg(func.to_jsonb(found.table_valued()), type_=JSONB)
    return select(func.coalesce(array, _NO_ROWS)).select_from(found).scalar_subquery()


def _may_be_null(resource: Resource, node: tree.Node) -> bool:
    """Whether an expression may be null, as far as it is known at a glance."""
    if not isinstance(node, tree.Path) or len(node.names) != 1:
        return True
    field = resource.fields.get(node.names[0].text)
    return field is None or field.is_nullable


def _keyed(scope: Scope, key: Key | None) -> list[ColumnElement[bool]]:
    fields = scope.resource.fields
    return [fields[name].expression(scope.row) == value for name, value in (key or {}).items()]


def _fields(resource: Resource, options: Options) -> list[Field]:
    fields = resource.fields
    if options.select is None:
        return [field for field in fields.values() if not field.is_heavy]
    expanded = {each.name.text for each in options.expand}
    chosen: dict[str, Field] = {}
    for name in options.select:
        if name.text in fields:
            chosen[name.text] = fields[name.text]
        elif name.text not in expanded:
            raise unknown_name(name.place, name.text, resource.name, fields)
    return list(chosen.values())


def _written(field: Field, row: Row) -> ColumnElement[Any]:
    value = field.expression(row)
    if field.is_reference:
        return case((value.is_(None), None), else_=func.jsonb_build_object("__id", value))
    if field.kind is Kind.TIME:
        # The session's time zone is UTC.
        return func.to_char(value, _TIME_FORMAT)
    return value
