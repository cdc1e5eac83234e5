"""docker-compose.yml: the subset that a device runs, validated and normalised.

The keys are the Compose specification's (https://docs.docker.com/reference/compose-file/); what
the family's devices take of it is in
https://docs.balena.io/learn/develop/multicontainer/. What has no meaning on a device is named in
a warning and left out; what would change the meaning of the rest is refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import yaml

from gantry.builder.compose_values import NORMALISERS
from gantry.builder.dockerfile import bases_named
from gantry.builder.plan import BaseName, RejectedError

SIZE_LIMIT_BYTES = 256 * 1024
NODE_LIMIT = 20_000
CHARACTER_LIMIT = 4 * SIZE_LIMIT_BYTES
SERVICE_LIMIT = 50
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<braced>\w+)(?:(?P<op>:?-)(?P<default>[^}]*))?\}|(?P<plain>\w+))"
)
# Where no `}` follows: there the search for one would begin anew at each `${`.
_UNBRACED = re.compile(r"\$(?:(?P<escaped>\$)|(?P<plain>\w+))")
# Without these a service would be another one than its author wrote.
_REFUSED = {
    "env_file": "write the variables under `environment`, or set them with `gantry env set`",
    "extends": "write the service's keys out, or use a YAML anchor",
    "volumes_from": "name the same volume in both services",
    "secrets": "set a variable with `gantry env set`",
    "configs": "COPY the file into the image",
    "deploy": "a device runs one container of each service: write the keys of the service itself",
}
_REFUSED_BUILD = ("dockerfile_inline", "additional_contexts", "secrets", "ssh", "entitlements")
# What the family gives to an application that is a Dockerfile only: the whole board.
_SINGLE_SERVICE = {
    "privileged": True,
    "tty": True,
    "restart": "always",
    "network_mode": "host",
    "volumes": ["resin-data:/data"],
    "labels": {
        "io.balena.features.kernel-modules": "1",
        "io.balena.features.firmware": "1",
        "io.balena.features.dbus": "1",
        "io.balena.features.supervisor-api": "1",
        "io.balena.features.balena-api": "1",
    },
}


@dataclass(frozen=True, slots=True)
class BuildSection:
    """`build:` of a service."""

    context: str = "."
    dockerfile: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Composition:
    """A parsed docker-compose.yml: services that are built, services from bases, and the rest."""

    builds: Mapping[str, BuildSection]
    images: Mapping[str, BaseName]
    composition: Mapping[str, Any]
    warnings: tuple[str, ...]


def single_service(service: str) -> dict[str, Any]:
    """The composition of an application without a docker-compose.yml."""
    return {"services": {service: _SINGLE_SERVICE}, "volumes": {"resin-data": {}}, "networks": {}}


def parse(text: str, path: str, registry: str) -> Composition:
    """Parse and validate.

    Raises:
        RejectedError: not YAML, or a key or value that cannot be run; names where it is.
    """
    document = _load(text, path)
    warnings: list[str] = []
    for key in document:
        if key not in {"services", "volumes", "networks", "version"} and not _extension(key):
            warnings.append(f"{path}: {key} is not known here and is left out")
    services = _mapping(document.get("services"), f"{path}: services")
    if not services:
        raise RejectedError(f"{path} has no services")
    if len(services) > SERVICE_LIMIT:
        raise RejectedError(f"{path} has {len(services)} services: {SERVICE_LIMIT} is the most")
    builds: dict[str, BuildSection] = {}
    images: dict[str, BaseName] = {}
    normal: dict[str, dict[str, Any]] = {}
    for name, value in services.items():
        where = f"{path}: service {name}"
        if not _SERVICE_NAME.fullmatch(name):
            raise RejectedError(f"{where}: a name is letters, digits, `_`, `.` and `-`, at most 63")
        section = _mapping(value, where)
        if "build" in section:
            builds[name] = _build(section["build"], where)
        elif "image" in section:
            images[name] = _image(section["image"], where, registry)
        else:
            raise RejectedError(f"{where} has neither build nor image")
        normal[name] = _service(section, where, warnings)
    volumes = _top(document.get("volumes"), f"{path}: volumes", warnings)
    networks = _top(document.get("networks"), f"{path}: networks", warnings)
    _check_references(normal, volumes, networks, path)
    composition = {"services": normal, "volumes": volumes, "networks": networks}
    return Composition(builds, images, composition, tuple(warnings))


def _load(text: str, path: str) -> dict[str, Any]:
    if len(text.encode()) > SIZE_LIMIT_BYTES:
        raise RejectedError(f"{path} is larger than {SIZE_LIMIT_BYTES // 1024} KiB")
    try:
        document = yaml.safe_load(text)
    # ValueError: a date such as 2026-99-99, a number of thousands of digits.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RejectedError(f"{path} is not YAML: {error}") from error
    try:
        expanded = _interpolate(document, path, _Budget())
    except RecursionError as error:
        raise RejectedError(
            f"{path} contains itself: an anchor refers to its own parent"
        ) from error
    return _mapping(expanded, path)


@dataclass
class _Budget:
    """What a file may still expand to: aliases cannot multiply without end."""

    nodes: int = NODE_LIMIT
    characters: int = CHARACTER_LIMIT


def _interpolate(value: Any, path: str, budget: _Budget) -> Any:
    """Copy with `$$` and `${NAME:-default}` replaced, of values that JSON has."""
    budget.nodes -= 1
    if budget.nodes < 0:
        raise RejectedError(f"{path} has more than {NODE_LIMIT} values: are anchors repeated?")
    if isinstance(value, dict):
        return {
            _checked(str(key), path, budget): _interpolate(each, path, budget)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_interpolate(each, path, budget) for each in value]
    if isinstance(value, str):
        return _substituted(_checked(value, path, budget), path)
    if isinstance(value, date):
        return str(value)
    if (
        value is None
        or isinstance(value, int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    raise RejectedError(f"{path}: {value!r:.60} is no value that a device could be told")


def _checked(text: str, path: str, budget: _Budget) -> str:
    """A text that can be stored and be part of a command line, within the budget."""
    budget.characters -= len(text)
    if budget.characters < 0:
        raise RejectedError(
            f"{path} has texts of more than {CHARACTER_LIMIT // 1024} KiB together: are anchors "
            "repeated?"
        )
    if "\0" in text or (not text.isascii() and re.search("[\ud800-\udfff]", text)):
        raise RejectedError(f"{path}: {text[:60]!r} holds a character that no text can have")
    return text


def _substituted(value: str, path: str) -> str:
    def replace(match: re.Match[str]) -> str:
        found = match.groupdict()
        if found["escaped"]:
            return "$"
        if found.get("default") is not None:
            return str(found["default"])
        name = found.get("braced") or found["plain"]
        raise RejectedError(
            f"{path}: {match[0]} in {value[:60]!r}: a push has no environment to take "
            f"{name} from: write ${match[0]} for a shell's variable, ${{{name}:-value}} for a "
            "fixed value, or set a device variable"
        )

    head, brace, tail = value.rpartition("}")
    return _VARIABLE.sub(replace, head + brace) + _UNBRACED.sub(replace, tail)


def _build(value: Any, where: str) -> BuildSection:
    if isinstance(value, str):
        return BuildSection(context=value)
    section = _mapping(value, f"{where}: build")
    for key in _REFUSED_BUILD:
        if key in section:
            raise RejectedError(f"{where}: build.{key} is not supported")
    return BuildSection(
        context=_text(section.get("context", "."), f"{where}: build.context"),
        dockerfile=_optional(section, "dockerfile", where),
        args=NORMALISERS["environment"](section.get("args", {}), f"{where}: build.args"),
        target=_optional(section, "target", where),
        labels=NORMALISERS["labels"](section.get("labels", {}), f"{where}: build.labels"),
    )


def _image(value: Any, where: str, registry: str) -> BaseName:
    """Only the fleet's own bases: devices of a fleet can pull nothing else."""
    image = _text(value, f"{where}: image")
    bases = bases_named(f"FROM {image}", where)
    if not bases or image.removeprefix(f"{registry}/") != bases[0].reference:
        raise RejectedError(
            f"{where}: the image {image} is not in the fleet's registry: give the service a "
            "`build:`, or one of the fleet's base images, such as gantry/aarch64-raspios:bookworm"
        )
    return bases[0]


def _service(section: Mapping[str, Any], where: str, warnings: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in section.items():
        if key in {"build", "image"} or _extension(key) or value is None:
            continue
        if key in _REFUSED:
            raise RejectedError(f"{where}: {key} is not supported: {_REFUSED[key]}")
        if key in NORMALISERS:
            result[key] = NORMALISERS[key](value, f"{where}: {key}")
        else:
            warnings.append(f"{where}: {key} has no meaning on a device and is left out")
    return result


def _top(value: Any, where: str, warnings: list[str]) -> dict[str, Any]:
    """`volumes:` and `networks:` of the file: names, with a device's own defaults."""
    result: dict[str, Any] = {}
    for name, settings in _mapping(value or {}, where).items():
        section = _mapping(settings or {}, f"{where}.{name}")
        if section.get("external"):
            raise RejectedError(
                f"{where}.{name}: external is not supported: devices make their own"
            )
        kept = {
            key: section[key]
            for key in ("labels", "driver_opts", "ipam", "internal")
            if key in section
        }
        for key in set(section) - set(kept) - {"driver", "name"}:
            warnings.append(f"{where}.{name}: {key} has no meaning on a device and is left out")
        result[name] = kept
    return result


def _check_references(
    services: Mapping[str, Mapping[str, Any]],
    volumes: Mapping[str, Any],
    networks: Mapping[str, Any],
    path: str,
) -> None:
    for name, service in services.items():
        where = f"{path}: service {name}"
        for each in service.get("volumes", ()):
            source = each.split(":")[0]
            if source not in volumes:
                raise RejectedError(f"{where}: volume {source} is not under the file's `volumes:`")
        for each in service.get("networks", {}):
            if each != "default" and each not in networks:
                raise RejectedError(f"{where}: network {each} is not under the file's `networks:`")
        for each in service.get("depends_on", {}):
            if each not in services:
                raise RejectedError(f"{where}: depends_on names {each}, which is no service")
        if "networks" in service and "network_mode" in service:
            raise RejectedError(f"{where}: networks and network_mode exclude each other")
        mode = service.get("network_mode", "")
        if mode.startswith("service:") and mode.removeprefix("service:") not in services:
            raise RejectedError(f"{where}: network_mode names {mode[8:]}, which is no service")


def _extension(key: str) -> bool:
    return key.startswith("x-")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedError(f"{where} must be a mapping, not {value!r:.60}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise RejectedError(f"{where} must be text, not {value!r:.60}")
    return value


def _optional(section: Mapping[str, Any], key: str, where: str) -> str | None:
    return _text(section[key], f"{where}: build.{key}") if key in section else None
