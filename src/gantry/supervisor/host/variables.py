"""The configuration variables of a device, as the family names and means them. Pure.

(https://docs.balena.io/reference/supervisor/configuration-list/) Each may begin with BALENA_ or
RESIN_; where both are set, BALENA_ counts. What cannot be used keeps its default and is a problem;
what is not known is kept where it came from, and named.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.host.configtxt import ConfigTxtError, Setting, setting

_PREFIXES = ("BALENA_", "RESIN_")
_YES = frozenset(("1", "true", "on", "yes"))
_NO = frozenset(("0", "false", "off", "no", ""))
_HOSTNAME = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?")
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_SPLASH = 4 * 1024 * 1024  # bytes, as the host takes it
_CONFIG_TXT = "HOST_CONFIG_"
_SPLASH = "HOST_SPLASH_IMAGE"
# Known to the family, and of no use here: by name or its beginning, and why.
_UNUSED = {
    "HOST_FIREWALL_MODE": "the host's firewall is always on; its role sets which ports are open",
    "HOST_CONFIGFS_": "not for a Raspberry Pi",
    "HOST_EXTLINUX_": "not for a Raspberry Pi",
    "HOST_EXTRAUENV_": "not for a Raspberry Pi",
    "HOST_ODMDATA_": "not for a Raspberry Pi",
    "HOST_CONFIG_odmdata_configurations": "not for a Raspberry Pi",
    "HOST_CONFIG_power_mode": "not for a Raspberry Pi",
    "HOST_CONFIG_fan_profile": "not for a Raspberry Pi",
}
NOT_A_PI = "not for this device type: it has no config.txt"


@dataclass(frozen=True, slots=True)
class DeltaSettings:
    """How deltas are to be had. Times are seconds; `apply_timeout` 0 is none, `wait_timeout` None
    is as long as a pull takes."""

    enabled: bool = True
    version: int = 3
    request_timeout: float = 59.0
    apply_timeout: float = 0.0
    wait_timeout: float | None = None
    retry_count: int = 3
    retry_interval: float = 10.0


@dataclass(frozen=True, slots=True)
class Variables:
    """What the variables say; None where they say nothing and the host's own setting counts."""

    poll_seconds: float | None = None
    request_seconds: float = 59.0
    instant_updates: bool = True
    connectivity_check: bool = True
    logs: bool = True
    hardware_metrics: bool = True
    local_mode: bool = False
    lock_override: bool = False
    update_retry_seconds: float = 86400.0
    delta: DeltaSettings = field(default_factory=DeltaSettings)
    persistent_logging: bool | None = None
    hostname: str | None = None
    vpn: bool | None = None
    discovery: bool | None = None
    splash: bytes | None = None
    config_txt: tuple[Setting, ...] = ()
    problems: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def _switch(value: str) -> bool:
    text = value.strip().lower()
    if text not in _YES | _NO:
        raise ValueError("give true or false")
    return text in _YES


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        try:
            number = wire.number(value, "")
        except wire.WireError as error:
            raise ValueError("give a whole number") from error
        if not least <= number <= most:
            raise ValueError(f"give {least} to {most}")
        return number

    return read


def _milliseconds(least: int, most: int) -> Callable[[str], float]:
    read = _whole(least, most)
    return lambda value: read(value) / 1000


def _hostname(value: str) -> str:
    if not _HOSTNAME.fullmatch(value.strip()):
        raise ValueError("use letters, digits and -, at most 63 of them")
    return value.strip()


_DAY = 86_400_000
# What each variable without prefix sets; those of `DeltaSettings` have a point before the name.
_MEANINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "SUPERVISOR_POLL_INTERVAL": ("poll_seconds", _milliseconds(1, 2**40)),
    "SUPERVISOR_API_REQUEST_TIMEOUT": ("request_seconds", _milliseconds(1000, _DAY)),
    "SUPERVISOR_INSTANT_UPDATE_TRIGGER": ("instant_updates", _switch),
    "SUPERVISOR_CONNECTIVITY_CHECK": ("connectivity_check", _switch),
    "SUPERVISOR_LOG_CONTROL": ("logs", _switch),
    "SUPERVISOR_HARDWARE_METRICS": ("hardware_metrics", _switch),
    "SUPERVISOR_LOCAL_MODE": ("local_mode", _switch),
    "SUPERVISOR_OVERRIDE_LOCK": ("lock_override", _switch),
    "OVERRIDE_LOCK": ("lock_override", _switch),
    "SUPERVISOR_PERSISTENT_LOGGING": ("persistent_logging", _switch),
    "SUPERVISOR_UPDATE_RETRY": ("update_retry_seconds", _milliseconds(1000, 365 * _DAY)),
    "SUPERVISOR_VPN_CONTROL": ("vpn", _switch),
    "SUPERVISOR_DELTA": (".enabled", _switch),
    "SUPERVISOR_DELTA_VERSION": (".version", _whole(2, 3)),
    "SUPERVISOR_DELTA_REQUEST_TIMEOUT": (".request_timeout", _milliseconds(1000, _DAY)),
    "SUPERVISOR_DELTA_APPLY_TIMEOUT": (".apply_timeout", _milliseconds(0, _DAY)),
    "SUPERVISOR_DELTA_WAIT_TIMEOUT": (".wait_timeout", _milliseconds(0, _DAY)),
    "SUPERVISOR_DELTA_RETRY_COUNT": (".retry_count", _whole(0, 1000)),
    "SUPERVISOR_DELTA_RETRY_INTERVAL": (".retry_interval", _milliseconds(0, _DAY)),
    "HOST_DISCOVERABILITY": ("discovery", _switch),
    "HOST_HOSTNAME": ("hostname", _hostname),
}

# What trial.py reads by itself: looked at here, so that a value which cannot be used is told of.
_OF_TRIALS: dict[str, Callable[[str], object]] = {
    "SUPERVISOR_ROLLBACK": _switch,
    "SUPERVISOR_ROLLBACK_TIMEOUT": _milliseconds(0, _DAY),
    "SUPERVISOR_ROLLBACK_SETTLE": _milliseconds(0, _DAY),
    "SUPERVISOR_ROLLBACK_CRASHES": _whole(1, 1000),
}


def read_variables(config: Mapping[str, str], is_pi: bool) -> Variables:
    """What the variables of a target mean. `is_pi`: the board has a config.txt. Never fails."""
    found: dict[str, Any] = {}
    delta: dict[str, Any] = {}
    settings: list[Setting] = []
    problems: list[str] = []
    unused: dict[str, str] = {}
    unknown: list[str] = []
    for full, name, value in _bare(config):
        meaning = _MEANINGS.get(name)
        reason = _reason(name) or ("" if is_pi or not name.startswith(_CONFIG_TXT) else NOT_A_PI)
        try:
            if meaning is not None:
                field_name, read = meaning
                (delta if field_name[0] == "." else found)[field_name.lstrip(".")] = read(value)
            elif name in _OF_TRIALS:
                _OF_TRIALS[name](value)
            elif reason:
                unused[full] = reason
            elif name.upper() == _SPLASH:
                found["splash"] = _png(value)
            elif name.startswith(_CONFIG_TXT):
                settings.append(setting(name.removeprefix(_CONFIG_TXT), value))
            else:
                unknown.append(full)
        except ConfigTxtError as error:
            problems.append(f"{full}: {error}")
        except ValueError as error:
            problems.append(f"{full} is {value!r:.80}: {error}")
    return Variables(
        **found,
        delta=DeltaSettings(**delta),
        config_txt=tuple(sorted(settings, key=lambda each: each.name)),
        problems=tuple(problems),
        unused=unused,
        unknown=tuple(unknown),
    )


def _bare(config: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Full name, name without prefix and value of each, in the order of names."""
    chosen: dict[str, tuple[str, str]] = {}
    for prefix in ("", *reversed(_PREFIXES)):
        for full, value in config.items():
            has = next((each for each in _PREFIXES if full.startswith(each)), "")
            if has == prefix:
                chosen[full.removeprefix(prefix)] = (full, value)
    return [(full, name, value) for name, (full, value) in sorted(chosen.items())]


def _reason(name: str) -> str:
    for known, reason in _UNUSED.items():
        if name == known or (known.endswith("_") and name.startswith(known)):
            return reason
    return ""


def _png(value: str) -> bytes | None:
    """The picture in a data URI or in base64 alone; None for an empty value."""
    text = value.strip()
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if not text:
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("give a PNG file's base64") from error
    if not content.startswith(_PNG) or len(content) > _LARGEST_SPLASH:
        raise ValueError(f"give a PNG file of at most {_LARGEST_SPLASH} bytes, as base64")
    return content
