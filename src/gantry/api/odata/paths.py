"""The path of a resource: `device`, `device(5)`, `device(uuid='…')`, `device/$count`.

Keys may have several parts (`device_tag(device=5,tag_key='bench')`) and aliases (`device(@id)`);
the balena family's clients put them behind `$count` too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.api.errors import NotFoundError
from gantry.api.odata.errors import Place
from gantry.api.odata.expressions import read_value
from gantry.api.odata.reader import NAME, Reader
from gantry.api.odata.schema import Resource
from gantry.api.odata.tree import Literal, Name

MAX_LENGTH = 2_048


@dataclass(frozen=True, slots=True)
class Path:
    """A resource, and which of its rows."""

    resource: Resource
    key: dict[str, Any] | None
    is_count: bool


def parse_path(
    resources: Mapping[str, Resource], text: str, aliases: Mapping[str, str] | None = None
) -> Path:
    """The resource and the key of a path below the version.

    Raises:
        NotFoundError: there is no such resource.
        ODataError: a key that the resource does not have, or that is not of the grammar.
    """
    reader = Reader("the path", text.strip("/"), aliases or {})
    if len(text) > MAX_LENGTH:
        raise reader.error(f"it has more than {MAX_LENGTH} characters")
    name = reader.match(NAME)
    if name is None or name[0] not in resources:
        raise NotFoundError(f"there is no resource {text[:80]!r}")
    resource = resources[name[0]]
    key = _key(resource, reader)
    is_count = reader.accept("/$count")
    if is_count and key is None:
        key = _key(resource, reader)
    if reader.accept("/"):
        raise NotFoundError(
            f"there is no {text[:80]!r}: rows of another resource are read with $expand"
        )
    reader.end()
    return Path(resource, key, is_count)


def _key(resource: Resource, reader: Reader) -> dict[str, Any] | None:
    """The fields of a key with their values; none if no bracket is next."""
    start = reader.place()
    if not reader.accept("("):
        return None
    parts: list[tuple[Name, Literal]] = []
    while True:
        reader.skip()
        place = reader.place()
        name = Name("id", place)
        # A key of one value is the id; a value is not followed by `=`.
        position = reader.position
        found = reader.match(NAME)
        reader.skip()
        if found is not None and reader.accept("="):
            name = Name(found[0], place)
        else:
            reader.position = position
        parts.append((name, read_value(reader)))
        reader.skip()
        if not reader.accept(","):
            break
    reader.expect(")")
    return _checked(resource, start, parts)


def _checked(resource: Resource, start: Place, parts: list[tuple[Name, Literal]]) -> dict[str, Any]:
    key = {name.text: literal.value for name, literal in parts}
    if len(key) < len(parts):
        raise start.error("a field is named twice")
    keys = [frozenset({"id"}), *resource.natural_keys]
    if key.keys() not in keys:
        known = "; ".join(", ".join(sorted(each)) for each in keys)
        raise start.error(f"the keys of {resource.name} are: {known}")
    for name, literal in parts:
        kind = resource.fields[name.text].kind
        if literal.kind is not kind:
            raise literal.place.error(f"{name.text} is {kind}")
    return key
