"""From what the variables say and what the host is set to, to the next steps on it. Pure.

Whatever a variable sets comes back as it was before, when the variable goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor.host import configtxt
from gantry.supervisor.host.variables import Variables


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host is set to.

    `config_txt` is None where there is no such file. `before` are config.json's values of the keys
    that variables have set, as they were before (None: there was none). `splash` is the logo, and
    `splash_before` the one of before a variable set it, None while none does. `switched` are the
    services that variables have switched off.
    """

    config_txt: str | None = None
    config_json: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None
    splash: bytes | None = None
    splash_before: bytes | None = None
    switched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WriteConfigTxt:
    """Write config.txt. `names` are the settings whose effect changes; the firmware reads them at
    the next start."""

    text: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteConfigJson:
    """Set these keys of config.json (None removes one), which the host takes up by itself; and
    remember `before`."""

    changes: Mapping[str, Any]
    before: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WriteSplash:
    """Have this logo. `keep`: the one that is there is kept for later first."""

    content: bytes
    keep: bool


@dataclass(frozen=True, slots=True)
class RestoreSplash:
    """Have the logo of before again."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Start or stop a service of the host."""

    service: str
    on: bool


HostStep = WriteConfigTxt | WriteConfigJson | WriteSplash | RestoreSplash | Switch


def plan(variables: Variables, facts: HostFacts) -> tuple[HostStep, ...]:
    """The steps; none at the goal. In local mode the host stays as it is, as with the family."""
    if variables.local_mode:
        return ()
    steps: list[HostStep] = [
        *_config_json(variables, facts),
        *_splash(variables, facts),
        *_services(variables, facts),
    ]
    if facts.config_txt is not None:
        text = configtxt.applied(facts.config_txt, variables.config_txt)
        if text != facts.config_txt:
            old, new = configtxt.current(facts.config_txt), configtxt.current(text)
            names = {name for name in {*old, *new} if old.get(name) != new.get(name)}
            steps.append(WriteConfigTxt(text, tuple(sorted(names))))
    return tuple(steps)


def _config_json(variables: Variables, facts: HostFacts) -> tuple[HostStep, ...]:
    document = facts.config_json
    if document is None:  # it cannot be read now
        return ()
    before = dict(facts.before or {})
    wanted: dict[str, Any] = {}
    said = {"persistentLogging": variables.persistent_logging, "hostname": variables.hostname}
    for key, value in said.items():
        if value is not None:
            before.setdefault(key, document.get(key))
            wanted[key] = None if value == "" else value
        elif key in before:
            wanted[key] = before.pop(key)
    changes = {key: value for key, value in wanted.items() if document.get(key) != value}
    if changes or before != dict(facts.before or {}):
        return (WriteConfigJson(changes, before),)
    return ()


def _splash(variables: Variables, facts: HostFacts) -> tuple[HostStep, ...]:
    if variables.splash is not None:
        if variables.splash != facts.splash or facts.splash_before is None:
            return (WriteSplash(variables.splash, keep=facts.splash_before is None),)
    elif facts.splash_before is not None:
        return (RestoreSplash(),)
    return ()


def _services(variables: Variables, facts: HostFacts) -> list[HostStep]:
    """Services run unless a variable says otherwise, so what it says is all that is switched."""
    said = {"vpn": variables.vpn, "discovery": variables.discovery}
    off = {name for name, on in said.items() if on is False}
    return [
        *(Switch(name, False) for name in sorted(off - facts.switched)),
        *(Switch(name, True) for name in sorted(facts.switched - off)),
    ]
