"""contract.yml: what a service requires of the device that it runs on.

It lies in the root of the service's build context, as with the family
(https://docs.balena.io/learn/develop/container-contracts/). What is not known of it is left out, as
the family's supervisor does; what that would refuse is refused at the push.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from gantry.builder.plan import RejectedError
from gantry.builder.tree import Tree
from gantry.contracts.requirements import KINDS

NAME = "contract.yml"
_TYPE = "sw.container"
# Requirements of one list; nobody writes so many.
_MOST = 100


def read_contract(tree: Tree, folder: str) -> dict[str, Any] | None:
    """The contract in a build context; None where it has none.

    Raises:
        RejectedError: the file is no contract; says where and why.
    """
    path = Tree.join(folder, NAME)
    if not tree.is_file(path):
        return None
    text = tree.read(path)
    try:
        # Aliases could multiply a small file without end, and no contract needs them.
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, yaml.SafeLoader)):
            raise RejectedError(f"{path} has an alias (`*name`): write out what it stands for")
        document = yaml.safe_load(text)
    # ValueError: a date such as 2026-99-99, a number of thousands of digits.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RejectedError(f"{path} is not YAML: {error}") from error
    fields = _mapping(document, path)
    found: dict[str, Any] = {"type": _TYPE, **_texts(fields, ("type", "slug", "name"), path)}
    if found["type"] != _TYPE:
        raise RejectedError(f"{path}: type is {found['type']!r:.80}: write {_TYPE}")
    requires = _list(fields.get("requires"), f"{path}: requires")
    return {**found, "requires": [_requirement(each, path) for each in requires]}


def _requirement(value: object, path: str) -> dict[str, Any]:
    fields = _mapping(value, f"{path}: requires")
    if "or" in fields:
        choices = _list(fields["or"], f"{path}: or")
        return {"or": [_atom(each, path) for each in choices]}
    return _atom(fields, path)


def _atom(value: object, path: str) -> dict[str, Any]:
    fields = _mapping(value, f"{path}: requires")
    found = _texts(fields, ("type", "slug", "version"), path)
    if found.get("type") not in KINDS:
        given = found.get("type")
        raise RejectedError(f"{path}: a requirement's type is {given!r}: use {', '.join(KINDS)}")
    return found


def _texts(fields: Mapping[str, Any], names: tuple[str, ...], path: str) -> dict[str, str]:
    found = {}
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RejectedError(f"{path}: {name} is {value!r:.80}: a text is expected")
        found[name] = str(value)
    return found


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedError(f"{where} is {value!r:.80}: an object is expected")
    return value


def _list(value: object, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST:
        raise RejectedError(f"{where} is {value!r:.80}: a list of at most {_MOST} is expected")
    return value
