#!/usr/bin/python3
"""Hook: NetworkManager's connection files, from `system-connections/` of the boot partition.

What is there is the truth: a file is installed under its own name, a changed one is installed
again, and one that is gone is removed, if it came from there. A file that was on the host before
under the same name is kept aside and comes back. A file that NetworkManager would not understand
is named and passed over; what was installed of it before stays.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(os.environ.get("GANTRY_BOOT", "/mnt/boot")) / "system-connections"
INSTALLED = Path("/etc/NetworkManager/system-connections")
STATE = Path("/mnt/state/gantry/network")
GENERATED = Path("/run/NetworkManager/system-connections")
LARGEST = 64 * 1024
# What file managers, editors and people leave in the folder.
IGNORED = re.compile(r"\..*|README.*|.*(~|\.(ignore|bak|orig|tmp|swp|txt|md))", re.IGNORECASE)
SECRETS = re.compile(r"(psk|password|passwd|pin|secret|private|wep-key|leap)", re.IGNORECASE)
SSH_PORTS = (22, 22222)
ESTABLISHED = "01"
VPN = "resin-vpn"

Sections = dict[str, dict[str, str]]


class RefusedError(ValueError):
    """A connection file that is not in order; the message says what to correct."""


@dataclass
class Plan:
    """What is to be done, by the files' names."""

    install: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parse(text: str) -> Sections:
    """A keyfile's settings by section. Values are GLib's and stay as they are.

    Raises:
        RefusedError: a line that is none; its content is not said, it may be a password.
    """
    sections: Sections = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], {})
            continue
        key, equals, value = line.partition("=")
        if not equals or current is None:
            raise RefusedError(f"line {number} is neither [section] nor key=value below one")
        current[key.strip()] = value.strip()
    return sections


def nmcli_on(text: str, name: str) -> tuple[Sections, str]:
    """What NetworkManager itself makes of a file, or its complaint; its daemon need not run."""
    done = subprocess.run(
        ["nmcli", "--offline", "connection", "modify", "connection.id", name],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if done.returncode:
        return {}, done.stderr.strip().removeprefix("Error: ").removeprefix("Error ")
    return parse(done.stdout), ""


def without_secrets(message: str, sections: Sections) -> str:
    """The message, with no value of a secret's key in it."""
    for values in sections.values():
        for key, value in values.items():
            if value and SECRETS.search(key):
                message = message.replace(value, "…")
    return " ".join(message.split())


def check(name: str, text: str, judge: Callable[[str, str], tuple[Sections, str]]) -> None:
    """Refuse what NetworkManager would refuse, and what it would leave out without a word.

    Raises:
        RefusedError: with what is wrong.
    """
    sections = parse(text)
    understood, complaint = judge(text, Path(name).stem)
    if complaint:
        raise RefusedError(without_secrets(complaint, sections))
    for section in ("ipv4", "ipv6"):
        there = understood.get(section, {})
        for key, value in sections.get(section, {}).items():
            for kind in ("address", "route", "dns"):
                if key.startswith(kind) and value and not any(k.startswith(kind) for k in there):
                    raise RefusedError(f"{section}.{key} is not understood: correct its value")
    security = sections.get("wifi-security") or sections.get("802-11-wireless-security") or {}
    psk = security.get("psk", "")
    if psk and security.get("key-mgmt") == "wpa-psk" and not 8 <= len(psk.encode()) <= 64:
        raise RefusedError(f"psk has {len(psk.encode())} bytes: WPA wants 8 to 63")


def read(path: Path) -> str:
    """A connection file as it is installed: UTF-8, with Unix line ends.

    Raises:
        RefusedError: too large, or no text.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise RefusedError(f"{size} bytes are no connection: at most {LARGEST}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(f"byte {error.start} is not UTF-8: save it as UTF-8") from error
    return text.replace("\r\n", "\n")


def plan(
    source: Path,
    installed: Path,
    known: Mapping[str, str],
    judge: Callable[[str, str], tuple[Sections, str]],
) -> Plan:
    """Compare the boot partition with what is installed; `known` is what came from there."""
    made = Plan()
    uuids: dict[str, str] = {}
    there = [each for each in sorted(source.iterdir()) if not IGNORED.fullmatch(each.name)]
    for path in there:
        if not path.is_file():
            continue
        try:
            text = read(path)
            target = installed / path.name
            same = target.is_file() and target.read_bytes() == text.encode()
            if not (same and known.get(path.name) == digest(text)):
                check(path.name, text, judge)
                made.install[path.name] = text
            uuid = parse(text).get("connection", {}).get("uuid", "").lower()
            if uuid and (other := uuids.setdefault(uuid, path.name)) != path.name:
                made.install.pop(path.name, None)
                raise RefusedError(f"its uuid is that of {other}: give it another")
        except RefusedError as error:
            made.problems.append(f"{path.name}: {error}")
    names = {each.name for each in there}
    made.remove = sorted(name for name in known if name not in names)
    return made


def remembered(record: Path) -> dict[str, str]:
    """What came from the boot partition. A record that is lost is made anew from what is there."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(known) for name, known in found.items()}


def digest(text: str) -> str:
    """What is remembered of a file: enough to know it again, and no secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that a power loss leaves the old or the new one; root's alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def carry_out(made: Plan, known: dict[str, str]) -> None:
    """Install and remove; what came from the boot partition is written down first.

    So a power loss between the two leaves at most a file that the next run installs again.
    """
    aside = STATE / "replaced"
    for name, text in made.install.items():
        target = INSTALLED / name
        if name not in known and target.is_file():
            write_whole(aside / name, target.read_bytes())
        known[name] = digest(text)
    if made.install:
        write_whole(STATE / "connections.json", json.dumps(known, indent=2).encode())
    for name, text in made.install.items():
        write_whole(INSTALLED / name, text.encode())
    for name in made.remove:
        if (aside / name).is_file():
            write_whole(INSTALLED / name, (aside / name).read_bytes())
            (aside / name).unlink()
        else:
            (INSTALLED / name).unlink(missing_ok=True)
        del known[name]
    if made.remove:
        write_whole(STATE / "connections.json", json.dumps(known, indent=2).encode())


def nmcli(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the running NetworkManager's client."""
    done = subprocess.run(
        ["nmcli", "-t", "-e", "no", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    return done.returncode, (done.stdout or done.stderr).strip()


def addresses_of(device: str) -> set[str]:
    """A device's addresses."""
    done = subprocess.run(
        ["ip", "-json", "address", "show", "dev", device],
        capture_output=True,
        text=True,
        check=False,
    )
    shown = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return {info["local"] for each in shown for info in each.get("addr_info", ())}


def plain(address: str) -> str:
    """An address of /proc/net/tcp{,6}: hexadecimal words of the host's byte order."""
    words = [address[at : at + 8] for at in range(0, len(address), 8)]
    raw = b"".join(bytes.fromhex(word)[:: 1 if sys.byteorder == "big" else -1] for word in words)
    text = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return text.removeprefix("::ffff:")


def session_addresses(*tables: Path) -> set[str]:
    """The host's own addresses at which somebody is logged in over SSH now."""
    found = set()
    for table in tables:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            columns = line.split()
            address, _, port = columns[1].partition(":")
            if columns[3] == ESTABLISHED and int(port, 16) in SSH_PORTS:
                found.add(plain(address))
    return found


def carries_session(device: str) -> bool:
    """Whether a change of this device could cut an SSH session (the VPN runs over some device)."""
    sessions = session_addresses(Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return bool(sessions & (addresses_of(device) | addresses_of(VPN)))


def devices() -> dict[str, tuple[str, str]]:
    """State and connection's name of each device that NetworkManager sees."""
    _, shown = nmcli("-f", "DEVICE,STATE,CONNECTION", "device")
    rows = (line.split(":", 2) for line in shown.splitlines())
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def generated(connection: str) -> bool:
    """Whether NetworkManager made the connection itself, for a device that had none."""
    return (GENERATED / f"{connection}.nmconnection").is_file()


def target_of(sections: Sections, active_on: str) -> str:
    """The device that a new or changed connection should be activated on, '' for none.

    NetworkManager itself activates connections on devices that are free.
    """
    if active_on:
        return active_on
    connection = sections.get("connection", {})
    wanted = connection.get("interface-name", "")
    if connection.get("autoconnect") == "false":
        return ""
    if not wanted and connection.get("type", "ethernet") not in ("ethernet", "802-3-ethernet"):
        return ""
    for device, (state, active) in devices().items():
        # Not `connected (externally)`: another program configured that one. One that waits for an
        # address, as just after a start, is `connecting (…)`.
        is_ours = state == "connected" or state.startswith("connecting")
        if is_ours and generated(active) and wanted in ("", device):
            return device
    return ""


def activate(installed: Mapping[str, str]) -> list[str]:
    """Let NetworkManager read its files again and use them; returns what to say about them."""
    status, _ = nmcli("general", "reload", "conf")
    if status:
        return []  # Not running yet: it reads the files when it starts.
    nmcli("connection", "reload")
    _, shown = nmcli("-f", "UUID,DEVICE,FILENAME", "connection", "show")
    rows = [line.split(":", 2) for line in shown.splitlines()]
    said = []
    for name, text in installed.items():
        row = next((row for row in rows if row[-1] == str(INSTALLED / name)), None)
        if row is None:
            said.append(f"{name} was not loaded: see journalctl -u NetworkManager")
            continue
        device = target_of(parse(text), row[1])
        if not device:
            continue
        if carries_session(device):
            said.append(f"{name} is used from the next boot: an SSH session goes over {device}")
            continue
        if not (row[1] and nmcli("device", "reapply", device)[0] == 0):
            status, message = nmcli("--wait", "20", "connection", "up", row[0], "ifname", device)
            if status:
                said.append(f"{name} does not come up on {device}: {message}")
    return said


def main() -> int:
    """Apply the folder; 1 if it cannot be. A file that is not in order is only said."""
    known = remembered(STATE / "connections.json")
    if not SOURCE.is_dir():
        if known:
            print(
                f"connections: {SOURCE} is missing, all stay as they are: make it anew, "
                "an empty one removes those that came from it",
                file=sys.stderr,
            )
        return 1 if known else 0
    made = plan(SOURCE, INSTALLED, known, nmcli_on)
    carry_out(made, known)
    said = [f"{name} installed" for name in made.install]
    said += [f"{name} removed" for name in made.remove]
    if said and os.environ.get("GANTRY_BOOTED") == "1":
        said += activate(made.install)
    if said:
        print(f"connections: {'; '.join(said)}")
    if made.problems:
        print(f"connections: passed over {'; '.join(made.problems)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"connections: {error}", file=sys.stderr)
        sys.exit(1)
