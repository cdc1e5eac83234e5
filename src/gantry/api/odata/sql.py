"""From expressions to SQL: names looked up, subqueries made, their cost counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select, true
from sqlalchemy.orm import aliased

from gantry.api.actors import Actor
from gantry.api.odata import operators, tree
from gantry.api.odata.errors import unknown_name
from gantry.api.odata.functions import FUNCTIONS
from gantry.api.odata.operators import Value
from gantry.api.odata.reader import MAX_DEPTH
from gantry.api.odata.schema import Kind, Reference, Resource, Row

# A subquery costs 10, and ten times that within each collection around it.
MAX_COST = 10_000
SUBQUERY_COST = 10
COLLECTION_FACTOR = 10
# Each also costs the api and the planner some ms, however few rows there are.
MAX_SUBQUERIES = 200
# Subqueries within subqueries: the planner's time grows much faster than their number.
MAX_NESTING = 10


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean here: a row of a resource, and the variables of the lambdas around.

    `weight` is how often what stands here runs for one row of the page, roughly; `nesting` counts
    the subqueries around. Where `is_exact`, a comparison with null is false, not unknown.
    """

    resource: Resource
    row: Row
    variables: Mapping[str, tuple[Resource, Row]] = field(default_factory=dict)
    weight: int = 1
    nesting: int = 0
    is_exact: bool = False


@dataclass
class Compiler:
    """Compiles the expressions of one request for one actor."""

    resources: Mapping[str, Resource]
    actor: Actor
    cost: int = 0
    subqueries: int = 0

    def condition(self, scope: Scope, node: tree.Node, depth: int = 0) -> ColumnElement[bool]:
        """An expression that is true or false.

        Raises:
            ODataError: an unknown name, kinds that do not go together, or too high a cost.
        """
        value = self.value(scope, node, depth)
        if value.kind is not Kind.BOOLEAN:
            raise node.place.error("this is no condition: it is neither true nor false")
        return value.sql

    def value(self, scope: Scope, node: tree.Node, depth: int = 0) -> Value:
        """Any expression.

        Raises:
            ODataError: as for a condition.
        """
        if depth > MAX_DEPTH:
            raise node.place.error(f"it is nested more than {MAX_DEPTH} levels deep")
        below = depth + 1
        match node:
            case tree.Literal():
                return operators.literal_value(node)
            case tree.Path():
                return self._path(scope, node)
            case tree.Logic(operator=operator, parts=parts):
                conditions = [self.condition(scope, each, below) for each in parts]
                both = and_(*conditions) if operator == "and" else or_(*conditions)
                return Value(both, Kind.BOOLEAN)
            case tree.Not(operand=operand):
                inner = self.condition(replace(scope, is_exact=True), operand, below)
                return Value(not_(inner), Kind.BOOLEAN)
            case tree.Comparison():
                return Value(self._compare(scope, node, below), Kind.BOOLEAN)
            case tree.In():
                return Value(self._in(scope, node, below), Kind.BOOLEAN)
            case tree.Arithmetic():
                left, right = node.left, node.right
                sides = self.value(scope, left, below), self.value(scope, right, below)
                return operators.calculated(node, *sides)
            case tree.Negative(operand=operand):
                return operators.negated(node, self.value(scope, operand, below))
            case tree.Call():
                return self._call(scope, node, below)
            case tree.Lambda():
                return self._lambda(scope, node, below)
            case tree.Count():
                return self._count(scope, node, below)
            case _:
                raise TypeError(f"the parser made a {type(node).__name__}")

    def step(
        self, scope: Scope, name: tree.Name, *, rows: int | None = None
    ) -> tuple[Scope, ColumnElement[bool]]:
        """Along a navigation: a new row there, and how the two belong, the actor's view included.

        `rows` is how many rows of a collection are wanted at most.

        Raises:
            ODataError: there is no such navigation, or this is one subquery too many.
        """
        inner = self._enter(scope, name, rows)
        belongs = scope.resource.navigations[name.text].condition(scope.row, inner.row)
        return inner, and_(belongs, inner.resource.visible(inner.row, self.actor))

    def _enter(self, scope: Scope, name: tree.Name, rows: int | None = None) -> Scope:
        navigations = scope.resource.navigations
        if name.text not in navigations:
            owner = f"{scope.resource.name} (navigating)"
            raise unknown_name(name.place, name.text, owner, navigations)
        self.subqueries += 1
        if self.subqueries > MAX_SUBQUERIES:
            raise name.place.error(f"the query follows more than {MAX_SUBQUERIES} navigations")
        self.cost += SUBQUERY_COST * scope.weight
        if self.cost > MAX_COST:
            raise name.place.error(
                "the query is too costly: it has collections within collections; ask for less, "
                "or in several requests"
            )
        if scope.nesting >= MAX_NESTING:
            raise name.place.error(
                f"a path, or paths in each other, have at most {MAX_NESTING} names"
            )
        target = self.resources[navigations[name.text].target]
        factor = 1
        if scope.resource.is_collection(name.text):
            factor = COLLECTION_FACTOR if rows is None else max(1, min(rows, COLLECTION_FACTOR))
        return replace(
            scope,
            resource=target,
            row=aliased(target.model),
            weight=scope.weight * factor,
            nesting=scope.nesting + 1,
        )

    def _path(self, scope: Scope, node: tree.Path) -> Value:
        def found(end: Scope) -> Value:
            name = node.names[-1]
            known = end.resource.fields
            if name.text not in known:
                raise unknown_name(name.place, name.text, end.resource.name, known)
            return Value(known[name.text].expression(end.row), known[name.text].kind)

        start, steps = _start(scope, node.names)
        return self._through(start, steps[:-1], found)

    def _through(
        self, scope: Scope, steps: tuple[tree.Name, ...], found: Callable[[Scope], Value]
    ) -> Value:
        """What is found after steps that lead to one row each; null where there is none."""
        if not steps:
            return found(scope)
        first = steps[0]
        if scope.resource.is_collection(first.text) and first.text in scope.resource.navigations:
            raise first.place.error(
                f"{first.text} leads to any number of rows: use {first.text}/any(x:…)"
            )
        inner, belongs = self.step(scope, first)
        value = self._through(inner, steps[1:], found)
        query = select(value.sql).select_from(inner.row).where(belongs)
        return Value(query.correlate_except(inner.row).scalar_subquery(), value.kind)

    def _lambda(self, scope: Scope, node: tree.Lambda, depth: int) -> Value:
        is_any = node.quantifier == "any"

        def found(end: Scope) -> Value:
            inner, belongs = self.step(end, node.names[-1])
            query = select(1).select_from(inner.row).where(belongs)
            if node.body is not None:
                body = self.condition(_bound(scope, inner, node.variable), node.body, depth)
                query = query.where(body if is_any else not_(func.coalesce(body, false())))
            exists = query.correlate_except(inner.row).exists()
            return Value(exists if is_any else not_(exists), Kind.BOOLEAN)

        start, steps = _start(scope, node.names)
        value = self._through(start, steps[:-1], found)
        if len(steps) == 1:
            return value
        # No row to navigate from is an empty collection.
        return Value(func.coalesce(value.sql, false() if is_any else true()), Kind.BOOLEAN)

    def _count(self, scope: Scope, node: tree.Count, depth: int) -> Value:
        def found(end: Scope) -> Value:
            return Value(self.counted(end, node.names[-1], node.condition, depth), Kind.INTEGER)

        start, steps = _start(scope, node.names)
        return self._through(start, steps[:-1], found)

    def counted(
        self, scope: Scope, name: tree.Name, condition: tree.Node | None, depth: int = 0
    ) -> ColumnElement[int]:
        """How many rows a navigation leads to that fulfil a condition.

        Raises:
            ODataError: as for a condition.
        """
        inner, belongs = self.step(scope, name)
        query = select(func.count()).select_from(inner.row).where(belongs)
        if condition is not None:
            # Names in the condition are those of the rows that are counted.
            query = query.where(self.condition(inner, condition, depth))
        return query.correlate_except(inner.row).scalar_subquery()

    def _referred(
        self, scope: Scope, path: tree.Path, about: Callable[[tree.Path], tree.Node], depth: int
    ) -> ColumnElement[bool] | None:
        """A condition on the row that a reference names, as `reference in (select id …)`.

        The planner looks those rows up once. What `_through` makes runs for each row, 300,000 times
        for the installs of ten thousand devices. `about` puts another path into the condition,
        which must be one that is not true of null. None where the path does not begin so.
        """
        start, names = _start(scope, path.names)
        if len(names) < 2:
            return None
        navigation = start.resource.navigations.get(names[0].text)
        if navigation is None or not isinstance(navigation.condition, Reference):
            return None
        inner = self._enter(start, names[0])
        # What is left of the path begins at the row there, whatever variables are around.
        there = replace(inner, variables={}, is_exact=False)
        body = self.condition(there, about(replace(path, names=names[1:])), depth)
        visible = inner.resource.visible(inner.row, self.actor)
        ids = select(inner.row.id).where(visible, body).correlate_except(inner.row)
        found: ColumnElement[bool] = getattr(start.row, navigation.condition.column).in_(ids)
        return func.coalesce(found, false()) if scope.is_exact else found

    def _compare(self, scope: Scope, node: tree.Comparison, depth: int) -> ColumnElement[bool]:
        if isinstance(node.left, tree.Path) and isinstance(node.right, tree.Literal):
            # `ne 'x'` and `eq null` are true of null: what they deny is not.
            operator = node.operator
            denied = operator == ("eq" if node.right.kind is None else "ne")
            if denied:
                operator = "ne" if operator == "eq" else "eq"
            found = self._referred(
                replace(scope, is_exact=scope.is_exact or denied),
                node.left,
                lambda path: replace(node, operator=operator, left=path),
                depth,
            )
            if found is not None:
                return not_(found) if denied else found
        exact = replace(scope, is_exact=True)
        left, right = self.value(exact, node.left, depth), self.value(exact, node.right, depth)
        return operators.compared(node, left, right, is_exact=scope.is_exact)

    def _in(self, scope: Scope, node: tree.In, depth: int) -> ColumnElement[bool]:
        known = (isinstance(each, tree.Literal) and each.kind for each in node.members)
        if isinstance(node.value, tree.Path) and all(known):
            found = self._referred(scope, node.value, lambda path: replace(node, value=path), depth)
            if found is not None:
                return found
        value = self.value(scope, node.value, depth)
        members = [self.value(scope, each, depth) for each in node.members]
        return operators.listed(node, value, members, is_exact=scope.is_exact)

    def _call(self, scope: Scope, node: tree.Call, depth: int) -> Value:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise unknown_name(node.place, node.name, "the language", FUNCTIONS)
        arguments = [self.value(scope, each, depth) for each in node.arguments]
        if not function.accepts([each.kind for each in arguments]):
            given = ", ".join(operators.named(each) for each in arguments) or "nothing"
            raise node.place.error(f"{node.name} takes {function.usage()}, not ({given})")
        return Value(function.sql([each.sql for each in arguments]), function.gives)


def _start(scope: Scope, names: tuple[tree.Name, ...]) -> tuple[Scope, tuple[tree.Name, ...]]:
    """The row that a path begins at, and its names from there."""
    first = names[0]
    if first.text in scope.variables:
        resource, row = scope.variables[first.text]
        scope, names = replace(scope, resource=resource, row=row), names[1:]
    elif first.text == "$it":
        names = names[1:]
    if not names:
        raise first.place.error(f"{first.text} is a row: name a field of it, as {first.text}/id")
    return scope, names


def _bound(outer: Scope, inner: Scope, variable: str) -> Scope:
    """In a lambda, names without its variable are the outer row's, as the standard has it."""
    return replace(
        inner,
        resource=outer.resource,
        row=outer.row,
        variables={**outer.variables, variable: (inner.resource, inner.row)},
        is_exact=False,
    )
