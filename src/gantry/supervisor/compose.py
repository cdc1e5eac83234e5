"""Values of docker-compose.yml as the engine wants them.

Forms: the Compose specification (https://github.com/compose-spec/compose-spec), as the builder
normalises it; both its short and its long forms are read.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from gantry.supervisor import wire

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_RESTART = ("no", "always", "unless-stopped", "on-failure")


class CompositionError(ValueError):
    """A service's composition cannot be run here; the message names the field and the value."""


def texts(value: object, field: str) -> list[str]:
    """A list of texts, given as one or as several."""
    if value is None:
        return []
    if isinstance(value, list):
        return [wire.scalar(each) for each in value]
    if isinstance(value, str | int | float):
        return [wire.scalar(value)]
    raise CompositionError(f"{field} is {value!r:.80}: a list is expected")


def command(value: object, field: str) -> list[str] | None:
    """A command: a text is split as a shell splits it."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise CompositionError(f"{field} is {value!r:.80}: {error}") from error
    return texts(value, field)


def size(value: object, field: str) -> int:
    """Bytes of `64m`, `1g` or a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(str(value).strip())
    if match is None:
        raise CompositionError(f"{field} is {value!r:.80}: give a size such as 64m")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**power)


def seconds(value: object, field: str) -> float:
    """Seconds of `1m30s`, `500ms` or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        raise CompositionError(f"{field} is {value!r:.80}: give a duration such as 1m30s")
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)


def processors(value: object) -> int:
    """Billionths of a processor."""
    try:
        found = float(wire.scalar(value))
    except ValueError:
        found = -1.0
    if not 0 < found < 10_000:
        raise CompositionError(f"cpus is {value!r:.80}: give a number such as 0.5")
    return int(found * 1e9)


# What may be shared with others by name; other services and containers may not.
_MODES = {"pid": ("host",), "ipc": ("host", "none", "private", "shareable")}


def mode(value: object, field: str) -> str:
    """A text, one of those that are possible here where that matters."""
    found = wire.scalar(value)
    possible = _MODES.get(field)
    if possible and found not in ("", *possible):
        raise CompositionError(f"{field} is {value!r:.80}: use one of {', '.join(possible)}")
    return found


def restart_policy(value: object) -> dict[str, Any]:
    """The engine's RestartPolicy; `always` when nothing is said, as the family has it."""
    name, _, times = ("no" if value is False else wire.scalar(value) or "always").partition(":")
    if name not in _RESTART or (times and not times.isdecimal()):
        raise CompositionError(f"restart is {value!r:.80}: use one of {', '.join(_RESTART)}")
    policy: dict[str, Any] = {"Name": name}
    if name == "on-failure" and times:
        policy["MaximumRetryCount"] = int(times)
    return policy


def ports(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """ExposedPorts and PortBindings."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for each in value if isinstance(value, list) else texts(value, "ports"):
        for container, host, address, protocol in _port(each):
            key = f"{container}/{protocol}"
            exposed[key] = {}
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": host})
    return exposed, bindings


def _port(value: object) -> list[tuple[int, str, str, str]]:
    if isinstance(value, Mapping):
        return [
            (
                wire.number(value.get("target"), "ports: target"),
                wire.scalar(value.get("published")),
                wire.scalar(value.get("host_ip")),
                wire.scalar(value.get("protocol")) or "tcp",
            )
        ]
    text, _, protocol = wire.scalar(value).partition("/")
    rest, _, container = text.rpartition(":")
    address, _, host = rest.rpartition(":")
    containers = _range(container, value)
    hosts = [str(port) for port in _range(host, value)] if host else [""] * len(containers)
    if len(hosts) != len(containers):
        raise CompositionError(f"ports: {value!r}: both ranges must be of the same length")
    address = address.strip("[]")
    return [
        (port, published, address, protocol or "tcp")
        for port, published in zip(containers, hosts, strict=True)
    ]


def _range(text: str, value: object) -> list[int]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise CompositionError(f"ports: {value!r:.80} is no port: give host:container")
    return list(range(int(first), int(last or first) + 1))


def exposed_ports(value: object) -> dict[str, Any]:
    """ExposedPorts of `expose`."""
    found: dict[str, Any] = {}
    for each in texts(value, "expose"):
        text, _, protocol = each.partition("/")
        for port in _range(text, each):
            found[f"{port}/{protocol or 'tcp'}"] = {}
    return found


def devices(value: object) -> list[dict[str, str]]:
    """Devices of `host:container:permissions`, or of the long form."""
    found = []
    for each in value if isinstance(value, list) else texts(value, "devices"):
        if isinstance(each, Mapping):
            parts = (each.get("source"), each.get("target"), each.get("permissions"))
            each = ":".join(wire.scalar(part) for part in parts)
        host, _, rest = wire.scalar(each).partition(":")
        inside, _, permissions = rest.partition(":")
        found.append(
            {
                "PathOnHost": host,
                "PathInContainer": inside or host,
                "CgroupPermissions": permissions or "rwm",
            }
        )
    return found


def ulimits(value: object) -> list[dict[str, Any]]:
    """Ulimits of a number or of soft and hard."""
    found = []
    for name, limit in sorted(wire.mapping(value, "ulimits").items()):
        if isinstance(limit, Mapping):
            soft = wire.number(limit.get("soft"), f"ulimits: {name}: soft")
            hard = wire.number(limit.get("hard", soft), f"ulimits: {name}: hard")
        else:
            soft = hard = wire.number(limit, f"ulimits: {name}")
        found.append({"Name": name, "Soft": soft, "Hard": hard})
    return found


def tmpfs(value: object) -> dict[str, str]:
    """Tmpfs mounts of `path:options`."""
    pairs = (each.partition(":") for each in texts(value, "tmpfs"))
    return {path: options for path, _, options in pairs}


def extra_hosts(value: object) -> list[str]:
    """ExtraHosts of a list or of an object."""
    if isinstance(value, Mapping):
        return [f"{name}:{wire.scalar(address)}" for name, address in sorted(value.items())]
    # Both `name:address` and `name=address` are written; an address may hold colons itself.
    return [
        re.sub(r"^([^:=]+)[:=]\s*", r"\1:", each.strip()) for each in texts(value, "extra_hosts")
    ]


def healthcheck(value: object) -> dict[str, Any] | None:
    """Healthcheck, times in nanoseconds."""
    if value is None:
        return None
    check = wire.mapping(value, "healthcheck")
    if wire.flag(check.get("disable")):
        return {"Test": ["NONE"]}
    test = check.get("test")
    found: dict[str, Any] = {}
    if test is not None:
        found["Test"] = ["CMD-SHELL", test] if isinstance(test, str) else texts(test, "test")
    for field, name in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ):
        if check.get(field) is not None:
            found[name] = int(seconds(check[field], f"healthcheck: {field}") * 1e9)
    if check.get("retries") is not None:
        found["Retries"] = wire.number(check["retries"], "healthcheck: retries")
    return found


def volumes(value: object, app_id: int) -> tuple[list[str], list[str]]:
    """Binds of named volumes and, apart, the engine's names of these volumes.

    Raises:
        CompositionError: a bind mount. Paths of the host are given by feature labels only.
    """
    binds: list[str] = []
    names: list[str] = []
    for each in value if isinstance(value, list) else texts(value, "volumes"):
        if isinstance(each, Mapping):
            if each.get("type", "volume") == "tmpfs":
                continue  # read by `long_tmpfs`
            source = wire.scalar(each.get("source"))
            inside = wire.text(each.get("target"), "volumes: target")
            mode = "ro" if wire.flag(each.get("read_only")) else ""
        else:
            source, _, rest = wire.scalar(each).partition(":")
            inside, _, mode = rest.partition(":")
        if not inside or not source or source[0] in "/.~":
            raise CompositionError(
                f"volumes: {each!r:.80}: only named volumes can be mounted (name:/path); for paths "
                "of the host use the io.balena.features labels"
            )
        name = f"{app_id}_{source}"
        names.append(name)
        binds.append(f"{name}:{inside}:{mode}" if mode else f"{name}:{inside}")
    return binds, names


def long_tmpfs(value: object) -> dict[str, str]:
    """Tmpfs mounts that are written in the long form of `volumes`."""
    found = {}
    for each in value if isinstance(value, list) else []:
        if isinstance(each, Mapping) and each.get("type") == "tmpfs":
            settings = wire.mapping(each.get("tmpfs"), "volumes: tmpfs")
            options = []
            if settings.get("size") is not None:
                options.append(f"size={size(settings['size'], 'volumes: tmpfs: size')}")
            if settings.get("mode") is not None:
                options.append(f"mode={wire.number(settings['mode'], 'volumes: tmpfs: mode'):o}")
            found[wire.text(each.get("target"), "volumes: target")] = ",".join(options)
    return found
