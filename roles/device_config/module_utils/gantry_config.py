#!/usr/bin/python3
"""Apply the settings of the boot partition's config.json: `gantry-config apply [HOOK…]`.

Installed on devices as /usr/local/sbin/gantry-config; the role's own module reads config.json with
the same functions, so that Ansible refuses what the device would refuse.
Standard library only: it runs where nothing else is installed yet.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def booted() -> bool:
    """Whether systemd runs this system: not so in a chroot or a container's build."""
    if not Path("/run/systemd/system").is_dir():
        return False
    try:
        return os.path.samestat(os.stat("/proc/1/root"), os.stat("/"))
    except OSError:
        return True


def boot_source(mounted: Path) -> Path:
    """The boot partition where the system itself mounts it, else where a device has it."""
    firmware = Path("/boot/firmware")
    return firmware if firmware.is_dir() else mounted


MOUNTED_BOOT = Path("/mnt/boot")
# In an image's build nothing is at /mnt/boot yet, and what was written there would be hidden once
# the device has booted.
BOOT = Path(
    os.environ.get("GANTRY_BOOT") or (MOUNTED_BOOT if booted() else boot_source(MOUNTED_BOOT))
)
RUN = Path(os.environ.get("GANTRY_RUN", "/run/gantry"))
HOOKS = Path(os.environ.get("GANTRY_HOOKS", "/usr/local/lib/gantry/config.d"))
DEVICE = Path(os.environ.get("GANTRY_DEVICE", "/etc/gantry/device.json"))
# config.json as it last was in order: it has keys in it, so only root may read it.
LAST_GOOD = Path(os.environ.get("GANTRY_LAST_GOOD", "/mnt/state/gantry/config.last-good.json"))
STATE = Path(os.environ.get("GANTRY_STATE", "/mnt/state"))
FSTAB = Path(os.environ.get("GANTRY_FSTAB", "/etc/fstab"))
MOUNTINFO = Path("/proc/self/mountinfo")
# A hook that hangs must not keep the device from booting.
HOOK_SECONDS = 90
# Somebody may save config.json again while hooks run.
MOST_ROUNDS = 5
UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{62}")

# The family's keys (docs.balena.io, "Configuration of balenaOS"). All others are kept unread.
KINDS = {
    "apiEndpoint": "a text",
    "apiKey": "a text",
    "appUpdatePollInterval": "a number",
    "applicationId": "a number",
    "balenaRootCA": "a text",
    "country": "a text",
    "deltaEndpoint": "a text",
    "developmentMode": "true or false",
    "deviceApiKey": "a text",
    "deviceId": "a number",
    "deviceType": "a text",
    "dnsServers": "a text",
    "hostname": "a text",
    "initialDeviceName": "a text",
    "installer": "an object",
    "listenPort": "a number",
    "localMode": "true or false",
    "logsEndpoint": "a text",
    "ntpServers": "a text",
    "os": "an object",
    "persistentLogging": "true or false",
    "registered_at": "a number",
    "registryEndpoint": "a text",
    "userId": "a number",
    "uuid": "a text",
    "vpnEndpoint": "a text",
    "vpnPort": "a number",
}


# What hooks read beside config.json; gantry-config.path names them too.
FOLDERS = ("splash", "system-connections", "system-proxy")


class ConfigError(ValueError):
    """config.json is not in order; the message says where, and what to do."""


def kind_of(value: object) -> str:
    """JSON's name of a value's type. Values themselves may be secrets and are not said."""
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a number", float: "a number", dict: "an object", list: "a list"}
    return names.get(type(value), "null")


def problems_of(config: dict[str, Any]) -> list[str]:
    """What is wrong with the values of known keys. None and '' count as not set."""
    found = []
    for key, value in sorted(config.items()):
        if value is None or value == "":
            continue
        wanted = KINDS.get(key)
        # Older servers wrote numbers as texts.
        digits = wanted == "a number" and isinstance(value, str) and value.isdecimal()
        if wanted and kind_of(value) != wanted and not digits:
            found.append(f"{key} is {kind_of(value)}: it must be {wanted}")
        elif key == "uuid" and not UUID.fullmatch(value):
            found.append("uuid is not 32 or 62 hexadecimal digits: remove it to get a new one")
    return found


def parse(text: str, name: str = "config.json") -> dict[str, Any]:
    """The settings in a text.

    Raises:
        ConfigError: no JSON, no object, or known keys with wrong values (all are named).
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        # JSON's error quotes nothing of the text.
        raise ConfigError(f"{name} is not JSON ({error}): correct it") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{name} is {kind_of(config)}: it must be an object, {{…}}")
    if problems := problems_of(config):
        raise ConfigError(f"{name}: {'; '.join(problems)}")
    return config


def read(path: Path) -> dict[str, Any]:
    """The settings of a file; {} where there is none.

    Raises:
        ConfigError: it is not readable, or as `parse`.
    """
    try:
        return parse(path.read_bytes().decode("utf-8-sig"), str(path))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}): correct it") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that a power loss leaves the old or the new one; root's alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def state_is_missing() -> bool:
    """Whether there is a state partition that is not mounted: its folder is the root's then."""
    lines = FSTAB.read_text(encoding="utf-8").splitlines() if FSTAB.exists() else []
    named = {fields[1] for line in lines if line[:1] != "#" and len(fields := line.split()) > 1}
    mounted = {each.split()[4] for each in MOUNTINFO.read_text(encoding="utf-8").splitlines()}
    return str(STATE) in named - mounted


def settings(boot: Path, last_good: Path) -> tuple[dict[str, Any] | None, str]:
    """What hooks are to get, and what is wrong ('' if nothing).

    A broken file gives the last good settings, or None where there were none.
    """
    path = boot / "config.json"
    try:
        config = read(path)
    except ConfigError as error:
        with contextlib.suppress(ConfigError):
            if last_good.exists():
                return read(last_good), f"{error}. The last good settings stay"
        return None, f"{error}. Nothing was applied"
    text = json.dumps(config, indent=2, sort_keys=True)
    with contextlib.suppress(OSError):
        old = last_good.read_text(encoding="utf-8") if last_good.exists() else None
        if path.exists() and old != text and not state_is_missing():
            write_whole(last_good, text)
    return config, ""


def hooks(folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """The executables in the order of their names; `wanted` names some, with number or without.

    Raises:
        ConfigError: a wanted one that is not there.
    """
    there = [
        each
        for each in sorted(folder.glob("*"))
        if each.is_file() and os.access(each, os.X_OK) and not each.name.startswith(".")
    ]
    if not wanted:
        return there
    names = {each: {each.name, each.name.partition("-")[2]} for each in there}
    for name in wanted:
        if not any(name in known for known in names.values()):
            known = ", ".join(each.name for each in there) or "none"
            raise ConfigError(f"no hook {name!r} in {folder}: there are {known}")
    return [each for each in there if names[each] & set(wanted)]


def environment(config: dict[str, Any], path: Path) -> dict[str, str]:
    """What a hook is told. Secrets are in the file alone: /proc shows environments."""
    try:
        device = json.loads(DEVICE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        device = {}
    return {
        **os.environ,
        "GANTRY_BOOT": str(BOOT),
        "GANTRY_BOOTED": "1" if booted() else "0",
        "GANTRY_CONFIG": str(path),
        "GANTRY_STATE_MISSING": "1" if state_is_missing() else "0",
        "GANTRY_UUID": config.get("uuid") or "",
        "GANTRY_VARIANT": device.get("variant") or "production",
        "PYTHONUNBUFFERED": "1",
    }


def run_hooks(config: dict[str, Any], chosen: Sequence[Path]) -> list[str]:
    """Run hooks one after the other; returns the names of those that failed."""
    failed = []
    with tempfile.TemporaryDirectory(dir=RUN, prefix="config-") as folder:
        path = Path(folder) / "config.json"
        write_whole(path, json.dumps(config))
        told = environment(config, path)
        for hook in chosen:
            try:
                status = subprocess.run(
                    [hook], env=told, stdin=subprocess.DEVNULL, check=False, timeout=HOOK_SECONDS
                ).returncode
                problem = f"exit status {status}" if status else ""
            except subprocess.TimeoutExpired:
                problem = f"not done after {HOOK_SECONDS} s"
            except OSError as error:
                problem = f"cannot be run: {error.strerror}"
            if problem:
                failed.append(hook.name)
                print(f"gantry-config: {hook.name}: {problem}", file=sys.stderr)
    return failed


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One run at a time: the path unit, an operator and Ansible may all ask."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (RUN / "config.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stamp(boot: Path) -> str:
    """What changes when somebody saves a setting or drops a file into a folder.

    Contents count besides times: on FAT these are no finer than 2 seconds.
    """
    found = []
    dropped = (each for folder in FOLDERS for each in sorted((boot / folder).glob("*")))
    for path in (boot / "config.json", *dropped):
        with contextlib.suppress(OSError):
            saved, content = path.stat().st_mtime_ns, zlib.crc32(path.read_bytes())
            found.append(f"{str(path)!a} {saved} {content}\n")
    return "".join(found)


def missed() -> bool:
    """Whether the boot partition is not as the last whole run saw it."""
    with locked():
        seen = RUN / "config.seen"
        return seen.is_file() and seen.read_text(encoding="ascii") != stamp(BOOT)


def apply(wanted: Sequence[str]) -> int:
    """Run the hooks until they have seen the boot partition as it is now; 1 if one failed."""
    with locked():
        for _ in range(MOST_ROUNDS):
            seen = stamp(BOOT)
            if not wanted:
                (RUN / "config.seen").write_text(seen, encoding="ascii")
            config, problem = settings(BOOT, LAST_GOOD)
            if problem:
                print(f"gantry-config: {problem}", file=sys.stderr)
            if config is None:
                return 1
            failed = run_hooks(config, hooks(HOOKS, wanted))
            if stamp(BOOT) == seen:
                break
        return 1 if failed or problem else 0


def main(arguments: Sequence[str]) -> int:
    """`apply [HOOK…]`, `check` or `missed`."""
    parser = argparse.ArgumentParser(prog="gantry-config", description="Settings of config.json")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("apply", help="run the hooks, or those that are named")
    command.add_argument("hook", nargs="*")
    commands.add_parser("check", help="say whether config.json is in order; change nothing")
    commands.add_parser("missed", help="whether the settings changed after the last run (else 1)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            read(BOOT / "config.json")
            return 0
        if options.command == "missed":
            return 0 if missed() else 1
        return apply(options.hook)
    except (ConfigError, OSError) as error:
        print(f"gantry-config: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
