"""The path of a resource: `device`, `device(5)`, `device(uuid='…')`, `device/$count`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.api.errors import NotFoundError
from gantry.api.odata.errors import ODataError
from gantry.api.odata.schema import Kind, Resource

_PATH = re.compile(r"^(?P<name>\w+)(?:\((?P<key>.*)\))?(?P<count>/\$count)?$", re.DOTALL)
_PAIR = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>'(?:[^']|'')*'|[+-]?\d+)\s*(?:,|$)")
_LITERAL = re.compile(r"\s*(?P<value>'(?:[^']|'')*'|[+-]?\d+)\s*$")


@dataclass(frozen=True, slots=True)
class Path:
    """A resource, and which of its rows."""

    resource: Resource
    key: dict[str, Any] | None
    is_count: bool


def parse_path(resources: Mapping[str, Resource], text: str) -> Path:
    """The resource and the key of a path below the version.

    Raises:
        NotFoundError: there is no such resource.
        ODataError: a key that the resource does not have, or that is not of the grammar.
    """
    match = _PATH.fullmatch(text.strip("/"))
    if match is None or match["name"] not in resources:
        raise NotFoundError(f"there is no resource {text[:80]!r}")
    resource = resources[match["name"]]
    inner = match["key"]
    key = None if inner is None else _key(resource, inner)
    return Path(resource, key, match["count"] is not None)


def _key(resource: Resource, text: str) -> dict[str, Any]:
    single = _LITERAL.fullmatch(text)
    if single:
        return _checked(resource, text, {"id": _value(single["value"])})
    key: dict[str, Any] = {}
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            raise ODataError("the key", text, position, "use (5) or (name='value')")
        key[pair["name"]] = _value(pair["value"])
        position = pair.end()
    if not key:
        raise ODataError("the key", text, 0, "use (5) or (name='value')")
    return _checked(resource, text, key)


def _checked(resource: Resource, text: str, key: dict[str, Any]) -> dict[str, Any]:
    for name, value in key.items():
        field = resource.fields.get(name)
        if field is None or (name != "id" and name not in resource.natural_keys):
            keys = ", ".join(["id", *sorted(resource.natural_keys)])
            raise ODataError(
                "the key", text, max(text.find(name), 0), f"the keys of {resource.name} are {keys}"
            )
        is_number = field.kind is Kind.INTEGER
        if is_number is not isinstance(value, int):
            raise ODataError("the key", text, 0, f"{name} is {field.kind}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ODataError("the key", text, 0, "the number is too large")
        if isinstance(value, str) and "\0" in value:
            raise ODataError("the key", text, 0, "a text cannot hold a NUL character")
    return key


def _value(text: str) -> int | str:
    return text[1:-1].replace("''", "'") if text.startswith("'") else int(text[:25])
