"""What to do about each resource: pure functions from what is and what is wanted to typed steps."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import (
    UNKNOWN,
    EngineError,
    holds_unknown,
    is_secret,
    reveal,
)

# What tells the blocks of a list apart, of each kind that a container has.
NAMES = ("file", "name", "containerPath", "internal", "label")


class Op(StrEnum):
    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    FORGET = "forget"
    """Leave it in the world, remove it from the state (retain_on_delete)."""


@dataclass(frozen=True)
class Change:
    """One property that differs; secrets keep their mark."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Verdict:
    """What a provider says about new inputs for an old resource."""

    changed: bool
    replaces: tuple[str, ...] = ()
    delete_first: bool = False


@dataclass(frozen=True)
class Step:
    op: Op
    urn: str
    type: str
    changes: tuple[Change, ...] = ()
    replaces: tuple[str, ...] = ()
    delete_first: bool = False
    reason: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.urn.rsplit("::", 1)[-1]


def plan(
    old: Resource | None,
    new: Resource,
    verdict: Verdict,
    delete_first: bool | None = None,
) -> Step:
    """The step that brings `old` to `new`, whose inputs its provider has checked.

    `delete_first` is the program's own wish, which wins over the provider's.

    Raises:
        EngineError: the step would delete a protected resource.
    """
    if old is None:
        return Step(Op.CREATE, new.urn, new.type, differences({}, new.inputs))
    changes = differences(old.inputs, new.inputs)
    if old.pending_replacement:
        reason = "what it hangs on is replaced, or its replacement was begun"
        return Step(Op.REPLACE, new.urn, new.type, changes, delete_first=True, reason=reason)
    if verdict.replaces:
        if old.protect:
            raise EngineError(
                f"{describe(old)} is protected, and a change of {', '.join(verdict.replaces)} "
                "would "
                "replace it: set protect to false first, or take the change back"
            )
        first = verdict.delete_first if delete_first is None else delete_first
        return Step(Op.REPLACE, new.urn, new.type, changes, verdict.replaces, first)
    if verdict.changed:
        return Step(Op.UPDATE, new.urn, new.type, changes)
    if old.init_errors:
        return Step(Op.UPDATE, new.urn, new.type, changes, reason=old.init_errors[0])
    return Step(Op.SAME, new.urn, new.type)


def removal(resource: Resource) -> Step:
    """The step for a resource that the program does not register any more.

    Raises:
        EngineError: it is protected.
    """
    if resource.protect and not resource.delete:
        raise EngineError(
            f"{describe(resource)} is protected and would be deleted: set protect to false first"
        )
    op = Op.FORGET if resource.retain_on_delete or resource.pending_replacement else Op.DELETE
    reason = "replaced" if resource.delete else ""
    return Step(op, resource.urn, resource.type, reason=reason)


def dependents(urn: str, resources: Iterable[Resource], forces: Any) -> list[Resource]:
    """Those that must be deleted before `urn` is, because they cannot live on with another one.

    `forces(resource, property)` tells whether a change of that property replaces the resource.
    In the order of deletion: who depends comes first.
    """
    gone = {urn}
    found: list[Resource] = []
    for resource in order(resources):
        properties = resource.property_dependencies.items()
        if resource.custom and any(gone & set(us) and forces(resource, p) for p, us in properties):
            gone.add(resource.urn)
            found.append(resource)
    return found[::-1]


def order(resources: Iterable[Resource]) -> list[Resource]:
    """The resources so that each comes after those that it needs; otherwise as they were."""
    remaining = list(resources)
    ordered: list[Resource] = []
    while remaining:
        waiting = {resource.urn for resource in remaining}
        ready = [r for r in remaining if not (r.needs - {r.urn}) & waiting] or remaining[:1]
        ordered += ready
        remaining = [r for r in remaining if not any(r is done for done in ready)]
    return ordered


def differences(old: Any, new: Any, path: str = "") -> tuple[Change, ...]:
    """Every place in which two values differ, in the new value's order."""
    if reveal(old) == reveal(new) and not holds_unknown(new):
        return ()
    if (
        isinstance(old, dict)
        and isinstance(new, dict)
        and not is_secret(old)
        and not is_secret(new)
    ):
        found: list[Change] = []
        for key in [*new, *(key for key in old if key not in new)]:
            inner = f"{path}.{key}" if path else key
            found += differences(old.get(key), new.get(key), inner)
        return tuple(found)
    if isinstance(old, list) and isinstance(new, list):
        return _between(old, new, path) or (Change(path, old, new),)
    return (Change(path, old, new),)


def _between(old: list[Any], new: list[Any], path: str) -> tuple[Change, ...]:
    """Where two lists differ: by what tells their parts apart, where something does, else by place.
    Nothing where only the order differs, or where neither can be said."""
    was, now = _by_name(old), _by_name(new)
    if was is None or now is None:
        was, now = dict(enumerate(old)), dict(enumerate(new))
        if len(old) != len(new):
            texts = [each for each in (*old, *new) if isinstance(each, str) and each != UNKNOWN]
            if len(texts) < len(old) + len(new):
                return ()
            was, now = {each: each for each in old}, {each: each for each in new}
    names = [*now, *(name for name in was if name not in now)]
    return tuple(
        change
        for name in names
        for change in (
            differences(was[name], now[name], f"{path}[{name}]")
            if name in was and name in now
            else (Change(f"{path}[{name}]", was.get(name), now.get(name)),)
        )
    )


def _by_name(parts: list[Any]) -> dict[Any, Any] | None:
    """The blocks of a list by the first of NAMES that all have; None: nothing tells them apart."""
    if not all(isinstance(each, dict) and not is_secret(each) for each in parts):
        return None
    for name in NAMES:
        named = [each.get(name) for each in parts]
        if all(isinstance(each, str | int) and each != UNKNOWN for each in named):
            found = dict(zip(named, parts, strict=True))
            return found if len(found) == len(parts) else None
    return None


def describe(resource: Resource | Step) -> str:
    """`docker:Container api`, for lines that people read."""
    package, *_, name = resource.type.split(":")
    return f"{package}:{name} {resource.name}"
