#!/usr/bin/python3
"""Hook: the public keys of config.json's `os.sshKeys` may log in as root on port 22222.

What is no key is named and left out; the others count. Without the key in config.json, nobody may
log in by this file. OpenSSH reads it at each login, so nothing is restarted.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

KEYS = Path(os.environ.get("GANTRY_SSH", "/mnt/state/gantry/ssh")) / "authorized_keys"
# Only plain keys: options before a key could run programs.
KEY = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=* ?[^\r\n]*")


def keys_of(config: dict[str, object]) -> tuple[list[str], list[str]]:
    """Keys to let in, and what is wrong with the others."""
    system = config.get("os")
    given = system.get("sshKeys") if isinstance(system, dict) else None
    if given is None:
        return [], []
    if not isinstance(given, list):
        return [], ['os.sshKeys is no list: write it as ["ssh-ed25519 …"]']
    good, problems = [], []
    for number, each in enumerate(given, 1):
        if isinstance(each, str) and is_key(each.strip()):
            good.append(each.strip())
        else:
            problems.append(f"os.sshKeys: entry {number} is no public key of OpenSSH")
    return good, problems


def is_key(text: str) -> bool:
    """Whether OpenSSH takes it."""
    if not KEY.fullmatch(text):
        return False
    read = ["ssh-keygen", "-l", "-f", "-"]
    done = subprocess.run(read, input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0


def put(keys: list[str]) -> bool:
    """Write the file if it says something else; whether it did.

    Raises:
        OSError: it cannot be written.
    """
    text = "".join(f"{key}\n" for key in keys)
    old = KEYS.read_text(encoding="utf-8") if KEYS.exists() else ""
    if text == old:
        return False
    KEYS.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = KEYS.with_name(".authorized_keys.new")
    with temporary.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(KEYS)
    return True


def main() -> int:
    """1 if something is wrong."""
    config = json.loads(Path(os.environ["GANTRY_CONFIG"]).read_text(encoding="utf-8"))
    keys, problems = keys_of(config)
    if os.environ.get("GANTRY_STATE_MISSING") == "1":
        if keys:
            problems.append(
                "os.sshKeys: the state partition is not mounted: these keys may not log in"
            )
    else:
        try:
            if put(keys):
                print(f"ssh: {len(keys)} keys of config.json may log in")
        except OSError as error:
            problems.append(
                f"os.sshKeys: {KEYS} cannot be written ({error.strerror}): "
                "who may log in stays as it was"
            )
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
