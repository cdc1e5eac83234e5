"""From a parsed expression to SQL: names looked up, kinds checked, values bound."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any

from odata_query import ast
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    and_,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy import Boolean as SqlBoolean
from sqlalchemy import Float as SqlFloat
from sqlalchemy import Text as SqlText
from sqlalchemy.orm import aliased

from gantry.api.actors import Actor
from gantry.api.odata.errors import ODataError, unknown_name
from gantry.api.odata.filters import Filter
from gantry.api.odata.schema import Kind, Navigation, Resource, Row

MAX_DEPTH = 60
MAX_PATH = 10


@dataclass(frozen=True, slots=True)
class Value:
    """An SQL expression and what it is; `kind` is None for null."""

    sql: ColumnElement[Any]
    kind: Kind | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean: a row of a resource, and the variables of the lambdas around."""

    resource: Resource
    row: Row
    variables: Mapping[str, tuple[Resource, Row]]


@dataclass(frozen=True)
class Compiler:
    """Compiles the expressions of one option for one actor."""

    resources: Mapping[str, Resource]
    actor: Actor
    option: str
    text: str

    def condition(self, scope: Scope, tree: Any) -> ColumnElement[bool]:
        """A whole `$filter`.

        Raises:
            ODataError: an unknown name, kinds that do not go together, a form that is not served.
        """
        return self._boolean(scope, tree, 0)

    def error(self, why: str, name: str = "") -> ODataError:
        """What is wrong, at the first place where `name` stands."""
        return ODataError(self.option, self.text, max(self.text.find(name), 0), why)

    def _boolean(self, scope: Scope, node: Any, depth: int) -> ColumnElement[bool]:
        value = self._value(scope, node, depth)
        if value.kind is not Kind.BOOLEAN:
            raise self.error("this is not a condition: it is neither true nor false")
        return value.sql

    def _value(self, scope: Scope, node: Any, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise self.error("it is nested too deep")
        below = depth + 1
        match node:
            case ast._Literal():
                return self._literal(node)
            case ast.Identifier():
                return self.path(scope, [full_name(node)])
            case ast.Attribute():
                return self.path(scope, _names(node))
            case ast.BoolOp(op=op, left=left, right=right):
                sides = self._boolean(scope, left, below), self._boolean(scope, right, below)
                return Value(and_(*sides) if isinstance(op, ast.And) else or_(*sides), Kind.BOOLEAN)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Value(not_(self._boolean(scope, operand, below)), Kind.BOOLEAN)
            case ast.Compare():
                return Value(self._compare(scope, node, below), Kind.BOOLEAN)
            case ast.Call():
                return self._call(scope, node, below)
            case ast.CollectionLambda():
                return Value(self._lambda(scope, node, below), Kind.BOOLEAN)
            case _:
                raise self.error("this form of expression is not served (yet)")

    def _literal(self, node: Any) -> Value:
        try:
            match node:
                case ast.Null():
                    return Value(literal(None), None)
                case ast.Integer():
                    if abs(node.py_val) >= 2**63:
                        raise self.error("the number is too large", node.val)
                    return Value(literal(node.py_val, BigInteger()), Kind.INTEGER)
                case ast.Float():
                    return Value(literal(node.py_val, SqlFloat()), Kind.FLOAT)
                case ast.Boolean():
                    return Value(literal(node.py_val, SqlBoolean()), Kind.BOOLEAN)
                case ast.String() | ast.GUID():
                    if "\0" in node.val:
                        raise self.error("a text cannot hold a NUL character")
                    return Value(literal(node.val, SqlText()), Kind.TEXT)
                case ast.DateTime() | ast.Date():
                    return Value(literal(_moment(node.py_val), DateTime(True)), Kind.TIME)
        except ValueError as error:
            raise self.error(f"{node.val!r} is no such value", node.val) from error
        raise self.error("this kind of value is not served (yet)")

    def path(self, scope: Scope, names: list[str]) -> Value:
        """A field, through to-one navigations: `belongs_to__application/app_name`."""
        # Each name is a subquery in the last: the planner's time grows much faster than the text.
        if len(names) > MAX_PATH:
            raise self.error(f"a path has at most {MAX_PATH} names", names[0])
        resource, row = scope.resource, scope.row
        if names[0] in scope.variables and len(names) > 1:
            resource, row = scope.variables[names[0]]
            names = names[1:]
        if len(names) == 1:
            return self._field(resource, row, names[0])
        target, other, condition = self._step(resource, row, names[0])
        value = self.path(replace(scope, resource=target, row=other, variables={}), names[1:])
        found = select(value.sql).select_from(other).where(condition).limit(1)
        return Value(found.correlate_except(other).scalar_subquery(), value.kind)

    def _field(self, resource: Resource, row: Row, name: str) -> Value:
        field = resource.fields.get(name)
        if field is None:
            raise unknown_name(self.option, self.text, name, resource.name, sorted(resource.fields))
        return Value(field.expression(row), field.kind)

    def _step(
        self, resource: Resource, row: Row, name: str
    ) -> tuple[Resource, Row, ColumnElement[bool]]:
        """Along a navigation: the resource there, a new row of it, and how the two belong."""
        navigation = self.navigation(resource, name)
        target = self.resources[navigation.target]
        other = aliased(target.model)
        return (
            target,
            other,
            and_(navigation.condition(row, other), target.visible(other, self.actor)),
        )

    def navigation(self, resource: Resource, name: str) -> Navigation:
        """A navigation by its name."""
        found = resource.navigations.get(name)
        if found is None:
            raise unknown_name(
                self.option,
                self.text,
                name,
                f"{resource.name} (navigating)",
                sorted(resource.navigations),
            )
        return found

    def _compare(self, scope: Scope, node: ast.Compare, depth: int) -> ColumnElement[bool]:
        left = self._value(scope, node.left, depth)
        if isinstance(node.comparator, ast.In):
            listed: Any = node.right
            members = [self._value(scope, each, depth) for each in listed.val]
            return left.sql.in_([self._fit(left, each, node).sql for each in members])
        right = self._value(scope, node.right, depth)
        left, right = self._fit(right, left, node), self._fit(left, right, node)
        if left.kind is None or right.kind is None:
            return self._with_null(node.comparator, left, right)
        match node.comparator:
            case ast.Eq():
                return left.sql == right.sql
            case ast.NotEq():
                return left.sql.is_distinct_from(right.sql)
            case ast.Lt():
                return left.sql < right.sql
            case ast.LtE():
                return left.sql <= right.sql
            case ast.Gt():
                return left.sql > right.sql
            case _:
                return left.sql >= right.sql

    def _with_null(self, comparator: Any, left: Value, right: Value) -> ColumnElement[bool]:
        value = right.sql if left.kind is None else left.sql
        match comparator:
            case ast.Eq():
                return value.is_(None)
            case ast.NotEq():
                return value.is_not(None)
            case _:
                raise self.error("null is neither more nor less than anything", "null")

    def _fit(self, other: Value, value: Value, node: Any) -> Value:
        """`value`, as what it is compared with: of the same kind, but for numbers and times."""
        numbers = {Kind.INTEGER, Kind.FLOAT}
        if None in (other.kind, value.kind) or other.kind == value.kind:
            if Kind.JSON in (other.kind, value.kind) and None not in (other.kind, value.kind):
                raise self.error("JSON cannot be compared")
            return value
        if {other.kind, value.kind} <= numbers:
            return value
        if {other.kind, value.kind} == {Kind.TIME, Kind.TEXT}:
            return value if value.kind is Kind.TIME else self._time_of_text(value, node)
        raise self.error(f"{value.kind} cannot be compared with {other.kind}", _first_name(node))

    def _time_of_text(self, value: Value, node: Any) -> Value:
        for side in (node.left, node.right, *getattr(node.right, "val", ())):
            if isinstance(side, ast.String):
                try:
                    return Value(
                        literal(_moment(datetime.fromisoformat(side.val)), DateTime(True)),
                        Kind.TIME,
                    )
                except ValueError as error:
                    raise self.error(f"{side.val!r} is not a time", side.val) from error
        raise self.error("a text cannot be compared with a time", _first_name(node))

    def _lambda(self, scope: Scope, node: ast.CollectionLambda, depth: int) -> ColumnElement[bool]:
        names = _names(node.owner)
        resource, row = scope.resource, scope.row
        if names[0] in scope.variables and len(names) > 1:
            resource, row = scope.variables[names[0]]
            names = names[1:]
        if len(names) != 1:
            raise self.error("any and all are served on a navigation of the row itself", names[0])
        target, other, condition = self._step(resource, row, names[0])
        found = select(1).select_from(other).where(condition)
        if node.lambda_ is None:
            return found.correlate_except(other).exists()
        inner = Scope(
            target,
            other,
            {**scope.variables, full_name(node.lambda_.identifier): (target, other)},
        )
        holds = self._boolean(inner, node.lambda_.expression, depth)
        if isinstance(node.operator, ast.Any):
            return found.where(holds).correlate_except(other).exists()
        return ~found.where(func.coalesce(holds, False).is_(False)).correlate_except(other).exists()

    def _call(self, scope: Scope, node: ast.Call, depth: int) -> Value:
        name = full_name(node.func)
        arguments = [self._value(scope, each, depth) for each in node.args]
        if name == "now":
            return Value(func.now(), Kind.TIME)
        texts = {
            "contains",
            "startswith",
            "endswith",
            "tolower",
            "toupper",
            "trim",
            "length",
            "concat",
            "indexof",
            "substring",
        }
        if name not in texts:
            raise self.error(f"the function {name} is not served (yet)", name)
        wanted = [Kind.TEXT, *([Kind.INTEGER] * 2 if name == "substring" else [Kind.TEXT])]
        if [each.kind for each in arguments] != wanted[: len(arguments)]:
            raise self.error(f"the arguments of {name} are not of the right kinds", name)
        return _text_function(name, [each.sql for each in arguments])


def _text_function(name: str, a: list[ColumnElement[Any]]) -> Value:
    match name:
        case "contains":
            return Value(func.strpos(a[0], a[1]) > 0, Kind.BOOLEAN)
        case "startswith":
            return Value(func.starts_with(a[0], a[1]), Kind.BOOLEAN)
        case "endswith":
            return Value(func.right(a[0], func.length(a[1])) == a[1], Kind.BOOLEAN)
        case "tolower":
            return Value(func.lower(a[0]), Kind.TEXT)
        case "toupper":
            return Value(func.upper(a[0]), Kind.TEXT)
        case "trim":
            return Value(func.btrim(a[0]), Kind.TEXT)
        case "length":
            return Value(func.length(a[0]), Kind.INTEGER)
        case "concat":
            return Value(func.concat(a[0], a[1]), Kind.TEXT)
        case "indexof":
            return Value(func.strpos(a[0], a[1]) - 1, Kind.INTEGER)
        case _:
            return Value(_substring(a), Kind.TEXT)


def _substring(a: list[ColumnElement[Any]]) -> ColumnElement[Any]:
    """OData counts from 0, SQL from 1; what is below 0 counts as 0."""
    # Bounded before the addition, which else could leave the range of numbers.
    begin = func.least(func.greatest(a[1], 0), 1_000_000).cast(BigInteger)
    rest = func.substr(a[0], (begin + 1).cast(Integer))
    if len(a) == 2:
        return rest
    return func.left(rest, func.least(func.greatest(a[2], 0), 1_000_000).cast(Integer))


def _names(node: Any) -> list[str]:
    """The names of a path, from the row on."""
    names = []
    # A loop: a path may be as long as the option is.
    while isinstance(node, ast.Attribute):
        names.append(node.attr if isinstance(node.attr, str) else node.attr.name)
        node = node.owner
    return [full_name(node), *reversed(names)]


def full_name(identifier: Any) -> str:
    """An identifier with its namespace."""
    return ".".join((*identifier.namespace, identifier.name))


def _first_name(node: Any) -> str:
    left = getattr(node, "left", None)
    return _names(left)[0] if isinstance(left, ast.Identifier | ast.Attribute) else ""


def _moment(value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def compile_filter(
    resources: Mapping[str, Resource], actor: Actor, scope: Scope, parsed: Filter
) -> ColumnElement[bool]:
    """The condition of a `$filter`."""
    return Compiler(resources, actor, "$filter", parsed.text).condition(scope, parsed.tree)
