"""From a resource and its options to one SQL statement, expansions included."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from gantry.api.actors import Actor
from gantry.api.odata.errors import unknown_name
from gantry.api.odata.expressions import Compiler, Scope, compile_filter
from gantry.api.odata.options import Options
from gantry.api.odata.schema import Field, Kind, Resource, Row

PAGE_LIMIT = 1000
_TIME_FORMAT = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'


class Query:
    """The statements of one request for one actor."""

    def __init__(self, resources: Mapping[str, Resource], actor: Actor) -> None:
        self._resources = resources
        self._actor = actor

    def rows(
        self, resource: Resource, options: Options, key: Mapping[str, Any] | None = None
    ) -> Select[Any]:
        """The rows as JSON objects, one more than a page holds when there are more.

        Raises:
            ODataError: names that do not exist, or kinds that do not go together.
        """
        row = aliased(resource.model)
        inner = self._select(resource, row, options).where(*self._keyed(resource, row, key))
        limit = PAGE_LIMIT if options.top is None else min(options.top, PAGE_LIMIT)
        page = inner.limit(limit + 1 if limit == PAGE_LIMIT else limit).subquery()
        return select(func.to_jsonb(page.table_valued(), type_=JSONB))

    def count(
        self, resource: Resource, options: Options, key: Mapping[str, Any] | None = None
    ) -> Select[Any]:
        """How many rows there are, whatever the page."""
        row = aliased(resource.model)
        return (
            select(func.count())
            .select_from(row)
            .where(*self._conditions(resource, row, options), *self._keyed(resource, row, key))
        )

    def ids(
        self, resource: Resource, options: Options, key: Mapping[str, Any] | None = None
    ) -> Select[Any]:
        """The ids of the rows, for a change of them; at most a page and one more."""
        row = aliased(resource.model)
        return (
            select(getattr(row, "id"))  # noqa: B009 - models have no common id for the types
            .where(*self._conditions(resource, row, options), *self._keyed(resource, row, key))
            .order_by(getattr(row, "id"))  # noqa: B009
            .limit(PAGE_LIMIT + 1)
        )

    def _keyed(
        self, resource: Resource, row: Row, key: Mapping[str, Any] | None
    ) -> list[ColumnElement[bool]]:
        fields = resource.fields
        return [fields[name].expression(row) == value for name, value in (key or {}).items()]

    def _conditions(
        self, resource: Resource, row: Row, options: Options
    ) -> list[ColumnElement[bool]]:
        conditions = [resource.visible(row, self._actor)]
        if options.filter is not None:
            scope = Scope(resource, row, {})
            conditions.append(compile_filter(self._resources, self._actor, scope, options.filter))
        return conditions

    def _select(self, resource: Resource, row: Row, options: Options) -> Select[Any]:
        """The rows with their fields, each under its name; neither limited nor joined yet."""
        columns = [
            _written(field, row).label(field.name)
            for field in self._fields(resource, options)
            if field.name not in options.expand
        ]
        columns += [
            self._expansion(resource, row, name, options, inner).label(name)
            for name, inner in options.expand.items()
        ]
        query = select(*columns).select_from(row)
        query = query.where(*self._conditions(resource, row, options))
        query = query.order_by(*self._order(resource, row, options))
        return query.offset(options.skip) if options.skip else query

    def _fields(self, resource: Resource, options: Options) -> list[Field]:
        fields = resource.fields
        if options.select is None:
            return [field for field in fields.values() if not field.is_heavy]
        chosen = []
        for name in options.select:
            if name not in fields:
                if name in options.expand:
                    continue
                text = options.text["$select"]
                raise unknown_name("$select", text, name, resource.name, sorted(fields))
            chosen.append(fields[name])
        return chosen

    def _order(self, resource: Resource, row: Row, options: Options) -> list[ColumnElement[Any]]:
        compiler = Compiler(
            self._resources, self._actor, "$orderby", options.text.get("$orderby", "")
        )
        keys = []
        for order in options.orderby:
            value = compiler.path(Scope(resource, row, {}), list(order.path))
            keys.append(value.sql.desc() if order.descending else value.sql.asc())
        # Always a whole order: pages must not overlap.
        return [*keys, row.id.asc()]

    def _expansion(
        self, resource: Resource, row: Row, name: str, outer: Options, options: Options
    ) -> ColumnElement[Any]:
        """The rows at the end of a navigation, as a JSON array."""
        compiler = Compiler(self._resources, self._actor, "$expand", outer.text["$expand"])
        navigation = compiler.navigation(resource, name)
        target = self._resources[navigation.target]
        other = aliased(target.model)
        limit = PAGE_LIMIT if options.top is None else min(options.top, PAGE_LIMIT)
        found = (
            self._select(target, other, options)
            .where(navigation.condition(row, other))
            .limit(limit)
            .correlate_except(other)
            .subquery()
        )
        collected = func.jsonb_agg(func.to_jsonb(found.table_valued()))
        return (
            select(func.coalesce(collected, literal_column("'[]'::jsonb")))
            .select_from(found)
            .scalar_subquery()
        )


def _written(field: Field, row: Row) -> ColumnElement[Any]:
    value = field.expression(row)
    if field.is_reference:
        return case((value.is_(None), None), else_=func.jsonb_build_object("__id", value))
    if field.kind is Kind.TIME:
        # The session's time zone is UTC.
        return func.to_char(value, _TIME_FORMAT)
    return value
