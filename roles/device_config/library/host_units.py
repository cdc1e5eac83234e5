#!/usr/bin/python
"""systemd units of a host, all in one task.

Module systemd_service takes one unit and asks systemctl three times; on a Pi Zero and under qemu
each of these costs most of a second. This one asks once for all, and acts on what differs.
"""

import os
import subprocess
import time
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gantry_config import booted

DOCUMENTATION = """
---
module: host_units
short_description: Have units enabled, disabled, started, stopped
description:
  - Where systemd does not run (a chroot, an image's build) units can be enabled and disabled only.
options:
  reload:
    description:
      - Have systemd read all its units again. It does so anyway where one of those that are named
        here is newer than what it knows.
    type: bool
    default: false
  enabled:
    description: Units that boots start.
    type: list
    elements: str
    default: []
  disabled:
    description: Units that boots do not start.
    type: list
    elements: str
    default: []
  started:
    description: Units that are to run.
    type: list
    elements: str
    default: []
  stopped:
    description: Units that are not to run.
    type: list
    elements: str
    default: []
  restarted:
    description: Units that are restarted, or started.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full}
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Run the resolver, and not the proxy
  host_units:
    enabled: [gantry-dns.service]
    started: [gantry-dns.service]
    disabled: [redsocks.service]
    stopped: [redsocks.service]
"""

RETURN = """
commands: {description: What was done, returned: always, type: list}
"""

LISTS = ("enabled", "disabled", "started", "stopped", "restarted")
OFF = {"disabled", "masked", "masked-runtime", "indirect", "bad", ""}
# How long a unit may be ending, in seconds, before it is dealt with as it is.
ENDING_SECONDS = 45


class UnitError(Exception):
    """A unit is not there, or systemctl did not do its work; the message says so."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How units are to be, by their names."""

    enabled: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Every unit once, in the order in which they are named."""
        lists = (self.enabled, self.disabled, self.started, self.stopped, self.restarted)
        return list(dict.fromkeys(name for each in lists for name in each))


@dataclass(frozen=True, slots=True)
class State:
    """What systemd says of a unit: UnitFileState, ActiveState and NeedDaemonReload."""

    file: str
    active: str
    stale: bool = False

    def enabled(self) -> bool:
        return self.file not in OFF

    def runs(self) -> bool:
        return self.active in ("active", "activating", "reloading")

    def ends(self) -> bool:
        return self.active == "deactivating"

    def stopped(self) -> bool:
        return self.active in ("inactive", "failed")


def systemctl(*words: str, allowed: tuple[int, ...] = (0,)) -> str:
    """What it prints.

    Raises:
        UnitError: it ended otherwise than allowed; with what it said.
    """
    # The links of System V's init, which systemd does not read, cost a start of Perl for each unit.
    environment = os.environ | {"SYSTEMCTL_SKIP_SYSV": "1"}
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode not in allowed:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise UnitError(f"systemctl {' '.join(words)}: {said}")
    return done.stdout


def states(names: list[str]) -> dict[str, State]:
    """What systemd says of the units.

    Raises:
        UnitError: one of them is not there.
    """
    properties = "--property=LoadState,UnitFileState,ActiveState,NeedDaemonReload"
    found = {}
    # In the order of the names, with an empty line between two.
    for name, block in zip(names, systemctl("show", properties, *names).split("\n\n"), strict=True):
        fields = dict(line.split("=", 1) for line in block.splitlines())
        if fields["LoadState"] == "not-found":
            raise UnitError(f"there is no unit {name}")
        stale = fields["NeedDaemonReload"] == "yes"
        found[name] = State(fields["UnitFileState"], fields["ActiveState"], stale)
    return found


def settled(names: list[str], started: list[str]) -> dict[str, State]:
    """The same, once none of those that are to run is just ending: one that restarts by itself
    comes back, and needs no start.

    Raises:
        UnitError: one of them is not there.
    """
    end = time.monotonic() + ENDING_SECONDS
    found = states(names)
    while time.monotonic() < end and any(found[name].ends() for name in started):
        time.sleep(0.5)
        found = states(names)
    return found


def states_of_files(names: list[str]) -> dict[str, State]:
    """The same where no systemd runs that could be asked for more than files.

    Raises:
        UnitError: one of them is not there.
    """
    # 1: it is not enabled.
    said = {name: systemctl("is-enabled", name, allowed=(0, 1, 4)).strip() for name in names}
    for name, state in said.items():
        if state in ("", "not-found"):
            raise UnitError(f"there is no unit {name}")
    return {name: State(state, "inactive") for name, state in said.items()}


def plan(wanted: Wanted, found: dict[str, State], reload: bool) -> list[list[str]]:
    """The words for systemctl that make the units as they are wanted, in order."""
    files = {
        "disable": [each for each in wanted.disabled if found[each].enabled()],
        "enable": [each for each in wanted.enabled if not found[each].enabled()],
    }
    runs = {
        "stop": [each for each in wanted.stopped if not found[each].stopped()],
        "start": [each for each in wanted.started if not found[each].runs()],
        "restart": wanted.restarted,
    }
    words = [[verb, *names] for verb, names in files.items() if names]
    # Those two have systemd read its units again by themselves.
    if not words and (reload or any(each.stale for each in found.values())):
        words.append(["daemon-reload"])
    return words + [[verb, *names] for verb, names in runs.items() if names]


def main() -> None:
    """Ansible's entry point."""
    lists = {name: {"type": "list", "elements": "str", "default": []} for name in LISTS}
    module = AnsibleModule(
        argument_spec={"reload": {"type": "bool", "default": False}, **lists},
        supports_check_mode=True,
    )
    wanted = Wanted(**{name: module.params[name] for name in LISTS})
    try:
        runs, names = booted(), wanted.names()
        found = {}
        if names:
            found = settled(names, wanted.started) if runs else states_of_files(names)
        commands = plan(wanted, found, runs and module.params["reload"])
        for words in [] if module.check_mode else commands:
            systemctl(*words)
    except UnitError as error:
        module.fail_json(msg=str(error))
    # Reading them again changes nothing on the host.
    changed = any(words != ["daemon-reload"] for words in commands)
    module.exit_json(changed=changed, commands=commands)


if __name__ == "__main__":
    main()
