"""The values of a service's keys in docker-compose.yml, each brought to one form."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gantry.builder.plan import RejectedError

Normaliser = Callable[[Any, str], Any]

_PORT = re.compile(
    r"(?:(?:\d{1,3}\.){3}\d{1,3}:)?(?:\d{1,5}(?:-\d{1,5})?:)?\d{1,5}(?:-\d{1,5})?(?:/(?:tcp|udp))?"
)
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::\d+)?")
_HEALTH_KEYS = ("test", "interval", "timeout", "retries", "start_period", "disable")
_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


def _wrong(where: str, expected: str, value: Any) -> RejectedError:
    return RejectedError(f"{where} must be {expected}, not {value!r:.80}")


def scalar(value: Any) -> str:
    """A YAML scalar as an environment holds it: booleans in lower case, null as empty."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def text(value: Any, where: str) -> str:
    """Text; numbers are taken as what they read."""
    if isinstance(value, (dict, list)) or value is None:
        raise _wrong(where, "text", value)
    return scalar(value)


def flag(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def texts(value: Any, where: str) -> list[str]:
    """A list of texts; a single text is a list of one."""
    if isinstance(value, list):
        return [text(each, where) for each in value]
    return [text(value, where)]


def command(value: Any, where: str) -> str | list[str]:
    """A command: a shell line or a list of words."""
    return texts(value, where) if isinstance(value, list) else text(value, where)


def mapping(value: Any, where: str) -> dict[str, str]:
    """`{"A": "1"}` of a mapping, or of a list of `A=1`.

    Raises:
        RejectedError: also for a name without a value: a push has no environment to take it from.
    """
    if isinstance(value, Mapping):
        for name, each in value.items():
            if isinstance(each, (dict, list)):
                raise _wrong(f"{where}.{name}", "text", each)
        return {str(name): scalar(each) for name, each in value.items()}
    if not isinstance(value, list):
        raise _wrong(where, "a mapping or a list of NAME=value", value)
    result = {}
    for each in value:
        name, equals, rest = scalar(each).partition("=")
        if not equals or not name:
            raise _wrong(where, "a list of NAME=value", each)
        result[name] = rest
    return result


def labels(value: Any, where: str) -> dict[str, str]:
    """Like an environment, but a label without a value is an empty one."""
    if isinstance(value, list):
        value = [each if "=" in scalar(each) else f"{each}=" for each in value]
    return mapping(value, where)


def ports(value: Any, where: str) -> list[str]:
    """Published ports in the short form, `[ip:][host:]container[/protocol]`."""
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    result = []
    for each in value:
        if isinstance(each, dict):
            each = _long_port(each, where)
        port = scalar(each)
        if not _PORT.fullmatch(port) or not all(0 < each < 65536 for each in _numbers(port)):
            raise _wrong(where, '"host:container", for example "80:8080"', port)
        result.append(port)
    return result


def _numbers(port: str) -> list[int]:
    """The ports of a published port, without its address."""
    return [int(number) for number in re.findall(r"\d+", re.sub(r"^[\d.]+\.\d+:", "", port))]


def _long_port(value: dict[str, Any], where: str) -> str:
    if "target" not in value:
        raise _wrong(where, "a port with a target", value)
    address = f"{value['host_ip']}:" if value.get("host_ip") else ""
    published = f"{value['published']}:" if value.get("published") else ""
    protocol = f"/{value['protocol']}" if value.get("protocol") else ""
    return f"{address}{published}{value['target']}{protocol}"


def volumes(value: Any, where: str) -> list[str]:
    """Named volumes, `name:/path[:ro|rw]`; folders of the host are refused, as by the family."""
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    result = []
    for each in value:
        if isinstance(each, dict):
            if each.get("type", "volume") != "volume":
                raise RejectedError(
                    f"{where}: a volume of type {each['type']}: use a named one, or `tmpfs:`"
                )
            mode = ":ro" if each.get("read_only") else ""
            each = f"{each.get('source', '')}:{each.get('target', '')}{mode}"
        parts = scalar(each).split(":")
        if parts[0].startswith(("/", ".", "~")):
            raise RejectedError(
                f"{where}: {each} is a folder of the host: use a named volume, or a label such as "
                "io.balena.features.dbus for what the host shares"
            )
        modes = set(parts[2].split(",")) if len(parts) == 3 else set()
        if (
            len(parts) not in {2, 3}
            or not _VOLUME_NAME.fullmatch(parts[0])
            or not parts[1].startswith("/")
            or not modes <= {"ro", "rw"}
        ):
            raise _wrong(where, '"name:/path" or "name:/path:ro"', each)
        result.append(":".join(parts))
    return result


def _settings(value: Any, where: str) -> Mapping[str, Any]:
    """What is said of a name; it may be nothing."""
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(where, "a mapping", value)
    return value or {}


def networks(value: Any, where: str) -> dict[str, Any]:
    """`{name: {"aliases": […]}}` of a list of names or of a mapping."""
    if isinstance(value, list):
        return {text(each, where): {} for each in value}
    if not isinstance(value, dict):
        raise _wrong(where, "a list of names", value)
    return {
        str(name): {
            key: each
            for key, each in _settings(settings, f"{where}.{name}").items()
            if key in {"aliases", "ipv4_address", "ipv6_address"}
        }
        for name, settings in value.items()
    }


def depends_on(value: Any, where: str) -> dict[str, Any]:
    """`{service: {"condition": …}}` of a list of names or of a mapping."""
    if isinstance(value, list):
        return {text(each, where): {"condition": "service_started"} for each in value}
    if not isinstance(value, dict):
        raise _wrong(where, "a list of services", value)
    result = {}
    for name, settings in value.items():
        condition = _settings(settings, f"{where}.{name}").get("condition", "service_started")
        if condition not in _CONDITIONS:
            raise _wrong(f"{where}.{name}.condition", f"one of {', '.join(_CONDITIONS)}", condition)
        result[str(name)] = {"condition": condition}
    return result


def restart(value: Any, where: str) -> str:
    """A restart policy. YAML reads a bare `no` as false."""
    policy = "no" if value is False else text(value, where)
    if not _RESTART.fullmatch(policy):
        raise _wrong(where, "no, always, unless-stopped or on-failure[:times]", value)
    return policy


def network_mode(value: Any, where: str) -> str:
    """host, bridge, none, or another service's network."""
    mode = text(value, where)
    if mode not in {"host", "bridge", "none"} and not re.fullmatch(r"service:[\w.-]+", mode):
        raise _wrong(where, "host, bridge, none or service:<name>", value)
    return mode


def devices(value: Any, where: str) -> list[str]:
    """Devices of the board, `/dev/x[:/dev/y[:rwm]]`."""
    result = texts(value, where)
    for each in result:
        if not re.fullmatch(r"/dev/[^:]+(:/[^:]+)?(:[rwm]{1,3})?", each):
            raise _wrong(where, '"/dev/name" or "/dev/name:/dev/other"', each)
    return result


def healthcheck(value: Any, where: str) -> dict[str, Any]:
    """The Compose form, `test` as a list or a shell line."""
    if not isinstance(value, dict) or set(value) - set(_HEALTH_KEYS):
        raise _wrong(where, f"a mapping with {', '.join(_HEALTH_KEYS)}", value)
    result = dict(value)
    if "test" in result:
        result["test"] = command(result["test"], f"{where}.test")
    return result


def number_or_text(value: Any, where: str) -> int | str:
    """A number, or a size such as 64m."""
    return value if isinstance(value, int) and not isinstance(value, bool) else text(value, where)


def ulimits(value: Any, where: str) -> dict[str, Any]:
    """`{name: number}` or `{name: {"soft": …, "hard": …}}`."""
    if not isinstance(value, dict):
        raise _wrong(where, "a mapping", value)
    return value


def shared_namespace(value: Any, where: str) -> str:
    """`pid: host` and `ipc: host` and the like."""
    mode = text(value, where)
    if mode not in {"host", "private", "shareable"} and not mode.startswith("service:"):
        raise _wrong(where, "host", value)
    return mode


NORMALISERS: Mapping[str, Normaliser] = {
    "cap_add": texts,
    "cap_drop": texts,
    "cgroup_parent": text,
    "command": command,
    "cpuset": text,
    "cpu_shares": number_or_text,
    "depends_on": depends_on,
    "device_cgroup_rules": texts,
    "devices": devices,
    "dns": texts,
    "dns_opt": texts,
    "dns_search": texts,
    "domainname": text,
    "entrypoint": command,
    "environment": mapping,
    "expose": texts,
    "extra_hosts": texts,
    "group_add": texts,
    "healthcheck": healthcheck,
    "hostname": text,
    "init": flag,
    "ipc": shared_namespace,
    "labels": labels,
    "mem_limit": number_or_text,
    "mem_reservation": number_or_text,
    "network_mode": network_mode,
    "networks": networks,
    "oom_score_adj": number_or_text,
    "pid": shared_namespace,
    "ports": ports,
    "privileged": flag,
    "read_only": flag,
    "restart": restart,
    "security_opt": texts,
    "shm_size": number_or_text,
    "stop_grace_period": text,
    "stop_signal": text,
    "sysctls": mapping,
    "tmpfs": texts,
    "tty": flag,
    "ulimits": ulimits,
    "user": text,
    "userns_mode": text,
    "volumes": volumes,
    "working_dir": text,
}
