"""Merge what provisioning gives into config.json. Keys that it does not know, and the identity of
a registered device, are never lost."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gantry_supervisor import files
from gantry_supervisor.files import FileError

UNIT = "gantry-supervisor.service"
# Of a unit that runs, or is about to.
STATES = ("active", "activating", "deactivating", "reloading")
# Who the device is. The supervisor makes and writes them.
IDENTITY = ("deviceApiKey", "deviceId", "registered_at", "uuid")
# What belongs to one fleet, and is wrong in another.
FLEET = (
    "apiEndpoint",
    "apiKey",
    "applicationId",
    "applicationName",
    "balenaRootCA",
    "deltaEndpoint",
    "logsEndpoint",
    "mixpanelToken",
    "pubnubPublishKey",
    "pubnubSubscribeKey",
    "registryEndpoint",
    "userId",
    "username",
    "vpnEndpoint",
    "vpnPort",
)


class MoveError(Exception):
    """The device is of another fleet; the message says which, and how to move it."""


def is_registered(config: Mapping[str, Any]) -> bool:
    """Whether a fleet knows this device under its own key."""
    known = config.get("deviceId") or config.get("registered_at") or not config.get("apiKey")
    return bool(config.get("uuid") and config.get("deviceApiKey") and known)


def fleet_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """Api and application; the same for what means the same."""
    api = str(config.get("apiEndpoint") or "").rstrip("/").lower()
    return api, str(config.get("applicationId") or "")


def moves(current: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """From where to where a registered device would move; '' if it stays."""
    if not is_registered(current) or not fleet_of(given)[0]:
        return ""
    here, there = fleet_of(current), fleet_of({**current, **given})
    if here == there:
        return ""
    words = "application {1} at {0}"
    return f"device {str(current['uuid'])[:7]} of {words.format(*here)} to {words.format(*there)}"


def merged(
    current: Mapping[str, Any], given: Mapping[str, Any], allow_move: bool = False
) -> dict[str, Any]:
    """config.json with what is given.

    Raises:
        MoveError: the device would move, and may not; or another identity is given than it has.
    """
    wanted = {key: value for key, value in given.items() if value is not None}
    if move := moves(current, wanted):
        if not allow_move:
            raise MoveError(
                f"this would move {move}, where it registers anew: set supervisor_allow_move if so"
            )
        kept = {key: value for key, value in current.items() if key not in (*IDENTITY, *FLEET)}
        return {**kept, **wanted}
    identity = {key: current[key] for key in IDENTITY if current.get(key)}
    other = [key for key in identity if str(wanted.get(key, identity[key])) != str(identity[key])]
    if other and is_registered(current):
        raise MoveError(
            f"supervisor_config has another {' and '.join(other)} than device "
            f"{str(current['uuid'])[:7]}: leave out what says who the device is"
        )
    result = {**current, **wanted, **(identity if not other else {})}
    if is_registered(current):
        # It has a key of its own; the supervisor would take the fleet's away again.
        result.pop("apiKey", None)
    return result


def forgotten(current: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a device that leaves its fleet: its own settings stay."""
    return {key: value for key, value in current.items() if key not in (*IDENTITY, *FLEET)}


def read(path: Path) -> dict[str, Any]:
    """config.json; {} where there is none. A write that a loss of power broke off is ended first.

    Raises:
        FileError: it is broken, and nobody knows what was in it.
    """
    found = files.read_kept(path)
    there = None
    with contextlib.suppress(FileError):
        there = files.read_object(path)
    if there != found:
        os.replace(path.with_name(path.name + ".tmp"), path)
        files.sync_folder(path.parent)
    return found or {}


def apply(path: Path, given: Mapping[str, Any], allow_move: bool) -> list[str]:
    """Merge into the file; what was done, in words without values.

    Raises:
        MoveError, FileError: as `merged` and `read`; nothing is changed then.
    """
    current = read(path)
    if current == merged(current, given, allow_move):
        return [f"{path}: for root alone"] if _make_private(path) else []
    # The supervisor writes this file too. It is not to do so between our reading and writing.
    with stopped():
        current = read(path)
        result = merged(current, given, allow_move)
        files.write_object(path, result)
    move = moves(current, given)
    changed = sorted(key for key in {*current, *result} if current.get(key) != result.get(key))
    return [*([f"moved {move}"] if move else []), f"{path}: {', '.join(changed)}"]


def _make_private(path: Path) -> bool:
    """Take away what others than root may; whether there was something. FAT has no modes."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
            return path.stat().st_mode & 0o077 == 0
    return False


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """With the supervisor stopped, if it runs. Applications run on."""
    running = Path("/run/systemd/system").is_dir() and _systemctl("is-active") in STATES
    if running:
        _systemctl("stop")
    try:
        yield
    finally:
        if running:
            _systemctl("start")


def _systemctl(verb: str) -> str:
    command = ["systemctl", verb, UNIT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()
