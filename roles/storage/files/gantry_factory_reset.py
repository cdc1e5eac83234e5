#!/usr/bin/python3
"""Empty a device's state and data: `gantry-factory-reset`, carried out by the next boot.

Installed as /usr/local/sbin/gantry-factory-reset. The request is a file on the boot partition,
/mnt/boot/factory-reset, taken away when all is done: after a power loss the next boot goes on.
An empty file of that name, put there on another computer, asks for a reset too. What the device is
known by stays, unless the request is `{"forgetIdentity": true}`: then it belongs to no fleet.
Standard library only.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOOT = Path("/mnt/boot")
STATE = Path("/mnt/state")
DATA = Path("/mnt/data")
REQUEST = BOOT / "factory-reset"
CONFIG = BOOT / "config.json"
# What people and the cloud know the device by: on the state partition, and in config.json.
IDENTITY = ("gantry/ssh/ssh_host_*", "root-overlay/etc/machine-id")
IDENTITY_KEYS = frozenset(
    [
        "apiEndpoint",
        "apiKey",
        "applicationId",
        "applicationName",
        "balenaRootCA",
        "deltaEndpoint",
        "deviceApiKey",
        "deviceId",
        "initialDeviceName",
        "logsEndpoint",
        "mixpanelToken",
        "pubnubPublishKey",
        "pubnubSubscribeKey",
        "registered_at",
        "registryEndpoint",
        "userId",
        "username",
        "uuid",
        "vpnEndpoint",
        "vpnPort",
    ]
)


class ResetError(Exception):
    """The reset is refused or cannot be finished; the message says why and what to do."""


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that a power loss leaves the old or the new one; root's alone."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a rename or a removal in this folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settings() -> dict[str, Any]:
    """config.json; {} where there is none.

    Raises:
        ResetError: it cannot be read, so nothing in it can be forgotten.
    """
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ResetError(f"{CONFIG} cannot be read ({error}): correct or remove it") from error
    if not isinstance(config, dict):
        raise ResetError(f"{CONFIG} is no object: correct or remove it")
    return config


def without_identity(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a device that belongs to no fleet; those of its owner stay."""
    return {key: value for key, value in config.items() if key not in IDENTITY_KEYS}


def request(forget: bool) -> None:
    """Ask the next boot for a reset.

    Raises:
        ResetError: config.json cannot be read, or the boot partition cannot be written.
    """
    if forget:
        settings()
    try:
        write_whole(REQUEST, json.dumps({"forgetIdentity": forget}) + "\n")
    except OSError as error:
        raise ResetError(f"{REQUEST} cannot be written: {error.strerror}") from error


def requested() -> bool:
    """Whether the request says that the identity is to be forgotten.

    Raises:
        ResetError: it says something else.
    """
    text = REQUEST.read_text(encoding="utf-8-sig", errors="replace").strip() or "{}"
    with contextlib.suppress(ValueError):
        asked = json.loads(text)
        if isinstance(asked, dict) and isinstance(asked.get("forgetIdentity", False), bool):
            return bool(asked.get("forgetIdentity"))
    raise ResetError(
        f"{REQUEST} is not understood, so nothing is reset: it may be empty, or "
        '{"forgetIdentity": true}'
    )


def empty(folder: Path, kept: frozenset[Path]) -> None:
    """Remove everything in a folder but what is in `kept`, on this file system only.

    Raises:
        ResetError: something cannot be removed.
    """
    for path in sorted(folder.iterdir()):
        if path in kept or (path.name == "lost+found" and path.parent in (STATE, DATA)):
            continue
        if any(path in each.parents for each in kept):
            empty(path, kept)
            continue
        # Applications may nest folders deeper than Python's own functions go.
        command = ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ResetError(f"{path} cannot be removed: {done.stderr.strip()[:300]}")


def finish() -> None:
    """Carry out the request; done again from the start after a power loss.

    Raises:
        ResetError: the request cannot be met or is not understood; nothing was emptied then. Or
            something cannot be removed: the next boot tries again.
    """
    forget = requested()
    config = settings() if forget else {}
    try:
        # A request that cannot be taken away afterwards would empty the device at each boot.
        write_whole(REQUEST, json.dumps({"forgetIdentity": forget}) + "\n")
    except OSError as error:
        raise ResetError(
            f"{BOOT} cannot be written ({error.strerror}), so nothing is reset"
        ) from error
    print(f"factory reset: {STATE} and {DATA} are emptied", flush=True)
    kept: frozenset[Path] = frozenset()
    if not forget:
        kept = frozenset(path for pattern in IDENTITY for path in STATE.glob(pattern))
    elif config:
        write_whole(CONFIG, json.dumps(without_identity(config), indent=2) + "\n")
    for folder in (STATE, DATA):
        empty(folder, kept)
    os.sync()
    REQUEST.unlink()
    sync_folder(BOOT)
    print("factory reset: done", flush=True)


def confirmed(forget: bool) -> bool:
    """Ask a person at a terminal.

    Raises:
        ResetError: there is none.
    """
    if not sys.stdin.isatty():
        raise ResetError("nobody can be asked: say --yes to empty this device")
    lost = ", and it leaves its fleet" if forget else ""
    question = f"All state and data of this device are lost{lost}. Type yes to go on: "
    with contextlib.suppress(EOFError):
        return input(question).strip() == "yes"
    return False


def main(arguments: Sequence[str]) -> int:
    """Ask for a reset and restart; `--finish` is what the unit does at boot."""
    parser = argparse.ArgumentParser(
        prog="gantry-factory-reset", description="Empty this device's state and data"
    )
    parser.add_argument("--forget-identity", action="store_true", help="leave the fleet too")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--at-boot", action="store_true", help="do not ask and do not restart")
    parser.add_argument("--finish", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.finish:
            finish()
            return 0
        if not (options.yes or options.at_boot or confirmed(options.forget_identity)):
            print("nothing was changed")
            return 1
        request(options.forget_identity)
        print("the next boot empties this device", flush=True)
        if not options.at_boot:
            return subprocess.run(["systemctl", "reboot"], check=False).returncode
    except (ResetError, OSError) as error:
        print(f"gantry-factory-reset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
