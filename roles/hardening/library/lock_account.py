#!/usr/bin/python
"""Take the password and the passwordless sudo from the account that the system came with."""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: lock_account
short_description: Lock an account's password and remove its passwordless sudo
description:
  - Changes nothing where there is no such account.
  - A play that goes through this very account's sudo would end itself. Then the sudo rule goes two
    minutes after the account's last process (without systemd, at the next boot), with a warning.
options:
  user:
    description: The account; empty for the one with user id 1000.
    type: str
    default: ""
  sudoers:
    description: The files with its sudo rule.
    type: list
    elements: path
    default: []
attributes:
  check_mode: {support: full}
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Lock the account that the system came with
  lock_account:
    sudoers: [/etc/sudoers.d/010_pi-nopasswd]
"""

RETURN = """
user: {description: "The account, '' if there is none", returned: always, type: str}
kept: {description: Sudo rules that go when nobody is logged in, returned: always, type: list}
"""

FIRST_USER_ID = 1000
SHADOW = Path("/etc/shadow")
BOOTED = Path("/run/systemd/system")  # as sd_booted(3) tells it
UNIT = "gantry-lock-account"
# Two minutes without a process of the account: a connection without ControlPersist has none between
# two tasks. $0 is the account, the rest are the files.
WAIT_AND_REMOVE = """
quiet=0
while [ "$quiet" -lt 24 ]; do
    sleep 5
    if pgrep -u "$0" > /dev/null; then quiet=0; else quiet=$((quiet + 1)); fi
done
rm -f -- "$@"
"""


def account(name: str) -> str:
    """The account that is meant; '' where it does not exist."""
    try:
        return (pwd.getpwnam(name) if name else pwd.getpwuid(FIRST_USER_ID)).pw_name
    except KeyError:
        return ""


def has_password(shadow: str, user: str) -> bool:
    """Whether the account's line lets somebody in by a password (or by none)."""
    for line in shadow.splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return not fields[1].startswith(("!", "*"))
    return False


def lock(user: str, check: bool) -> bool:
    """Lock the password; whether that changed anything.

    Raises:
        OSError: usermod refuses.
    """
    if not has_password(SHADOW.read_text(encoding="utf-8"), user):
        return False
    if not check:
        done = subprocess.run(
            ["usermod", "--lock", user], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(0, done.stderr.strip(), str(SHADOW))
    return True


def is_waiting() -> bool:
    """Whether an earlier run waits for the account's last process to remove its files."""
    # In a chroot, systemctl succeeds and does nothing.
    words = ["systemctl", "is-active", "--quiet", UNIT]
    return BOOTED.is_dir() and subprocess.run(words, check=False).returncode == 0


def remove_later(user: str, rules: list[Path]) -> None:
    """Remove these files once nobody is logged in as the account, the play's own connection too.

    Raises:
        OSError: systemd refuses.
    """
    words = ["systemd-run", f"--unit={UNIT}", "--collect", "--quiet", "--no-block"]
    words += ["/bin/sh", "-c", WAIT_AND_REMOVE, user, *(str(each) for each in rules)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(0, done.stderr.strip(), str(rules[0]))


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "default": ""},
            "sudoers": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    given: dict[str, Any] = module.params
    user = account(given["user"])
    if not user:
        module.exit_json(changed=False, user="", kept=[])
    rules = [Path(each) for each in given["sudoers"] if Path(each).is_file()]
    waiting = bool(rules) and is_waiting()
    kept = rules if waiting or os.environ.get("SUDO_USER") == user else []
    to_wait = bool(kept) and not waiting and BOOTED.is_dir()
    try:
        changed = lock(user, module.check_mode) or to_wait
        for rule in rules:
            if rule not in kept:
                changed = True
                if not module.check_mode:
                    rule.unlink()
        if to_wait and not module.check_mode:
            remove_later(user, kept)
    except OSError as error:
        module.fail_json(msg=f"{user} cannot be locked: {error.filename}: {error.strerror}")
    if kept and not module.check_mode:
        until = "nobody has been logged in for two minutes" if BOOTED.is_dir() else "the next boot"
        module.warn(f"{user} keeps its sudo until {until}, for a play goes through it")
    module.exit_json(changed=changed, user=user, kept=[str(each) for each in kept])


if __name__ == "__main__":
    main()
