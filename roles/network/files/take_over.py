#!/usr/bin/python3
"""Hand a running host's network to NetworkManager, without touching a device that is in use.

`hold`, before NetworkManager is installed: it manages no device that is in use now, until the next
boot. `keep`, instead: it never manages a device that another program has. `apply`, afterwards:
programs that managed devices (ifupdown, systemd-networkd, dhcpcd) are disabled, not stopped, and
fixed addresses become connection files; so the devices change hands at the next boot.
systemd-resolved stops at once, if gantry-dns has taken its place.

Prints a line for each change; with --check it only says what it would do. Run by the role.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("GANTRY_ROOT", "/"))
HOLD = ROOT / "run/NetworkManager/conf.d/gantry-hold.conf"
KEEP = ROOT / "etc/NetworkManager/conf.d/gantry-keep.conf"
CONNECTIONS = ROOT / "etc/NetworkManager/system-connections"
# The boot partition, mounted or where Raspberry Pi OS has it.
FOLDERS = (
    CONNECTIONS,
    ROOT / "mnt/boot/system-connections",
    ROOT / "boot/firmware/system-connections",
)
FOUND = ROOT / "run/gantry/dns/found.conf"
# A manager's unit, and what is disabled with it.
UNITS = {
    "networking.service": ("networking.service",),
    "systemd-networkd.service": (
        "systemd-networkd.service",
        "systemd-networkd.socket",
        "systemd-networkd-wait-online.service",
    ),
    "dhcpcd.service": ("dhcpcd.service",),
}


class RefusedError(Exception):
    """A device that cannot change hands; the message says what to do first."""


@dataclass(frozen=True)
class Device:
    """A network device: `kind` is ethernet or the kernel's DEVTYPE, such as wlan or bridge."""

    name: str
    kind: str
    addresses: tuple[Mapping[str, Any], ...]


def systemctl(*arguments: str) -> str:
    """What systemctl says; it exits non-zero for units that are not there."""
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def shown(*arguments: str) -> list[dict[str, Any]]:
    """iproute2's answer."""
    done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout or "[]"))


def kind_of(name: str) -> str:
    """The kernel's name of a device's kind; plain ones have none."""
    uevent = ROOT / f"sys/class/net/{name}/uevent"
    found = re.search(r"^DEVTYPE=(\w+)", uevent.read_text() if uevent.exists() else "", re.M)
    return found[1] if found else "ethernet"


def devices() -> list[Device]:
    """Every device but the loopback one."""
    return [
        Device(
            each["ifname"],
            kind_of(each["ifname"]),
            tuple(info for info in each.get("addr_info", ()) if info.get("scope") == "global"),
        )
        for each in shown("address", "show")
        if each.get("link_type") != "loopback"
    ]


def of_ifupdown(_device: Device) -> bool:
    """Whether /etc/network/interfaces names the device."""
    files = (ROOT / "etc/network/interfaces", *(ROOT / "etc/network/interfaces.d").glob("*"))
    pattern = rf"^\s*iface\s+{re.escape(_device.name)}\s"
    return any(re.search(pattern, each.read_text(), re.M) for each in files if each.is_file())


def of_networkd(device: Device) -> bool:
    """Whether systemd-networkd has configured the device, by its state file."""
    index = ROOT / f"sys/class/net/{device.name}/ifindex"
    number = index.read_text().strip() if index.exists() else ""
    state = ROOT / f"run/systemd/netif/links/{number}"
    return (
        state.is_file() and re.search(r"^ADMIN_STATE=configur", state.read_text(), re.M) is not None
    )


def of_dhcpcd(device: Device) -> bool:
    """Whether dhcpcd gave the device its address: it takes every one that nobody else has."""
    return any(info.get("dynamic") for info in device.addresses)


OWNERS: dict[str, Callable[[Device], bool]] = {
    "networking.service": of_ifupdown,
    "systemd-networkd.service": of_networkd,
    "dhcpcd.service": of_dhcpcd,
}


def owned() -> dict[str, list[Device]]:
    """Devices by the enabled unit that manages them."""
    managers = [unit for unit in UNITS if systemctl("is-enabled", unit).startswith("enabled")]
    found: dict[str, list[Device]] = {unit: [] for unit in managers}
    for device in devices() if managers else ():
        owner = next((unit for unit in managers if OWNERS[unit](device)), None)
        if owner:
            found[owner].append(device)
    return found


def has_connection(device: Device) -> bool:
    """Whether NetworkManager has a file for the device, or for any device of its kind."""
    names = {device.name} | ({""} if device.kind == "wlan" else set())
    types = {"ethernet": ("ethernet", "802-3-ethernet"), "wlan": ("wifi", "802-11-wireless")}
    for path in (each for folder in FOLDERS for each in folder.glob("*")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        kind = re.search(r"^type=(.*)$", text, re.M)
        name = re.search(r"^interface-name=(.*)$", text, re.M)
        fits = kind and kind[1].strip() in types.get(device.kind, ())
        if fits and (name[1].strip() if name else "") in names:
            return True
    return False


def refuse_what_cannot(found: Mapping[str, Iterable[Device]]) -> None:
    """Only plain Ethernet changes hands by itself; others need a connection file first."""
    lacking = [
        f"{device.name} ({device.kind}) is managed by {unit}"
        for unit, theirs in found.items()
        for device in theirs
        if device.kind != "ethernet" and not has_connection(device)
    ]
    if lacking:
        raise RefusedError(
            f"{'; '.join(lacking)}: put a connection file for it into system-connections of the "
            "boot partition, or set network_take_over to false"
        )


def connection(device: Device, gateways: Sequence[str], servers: Sequence[str]) -> str:
    """A connection file with the fixed addresses that a device has now; '' where it has none."""
    fixed = [info for info in device.addresses if not info.get("dynamic")]
    if not fixed:
        return ""
    lines = ["[connection]", f"id=gantry-{device.name}", "type=ethernet"]
    lines += [f"interface-name={device.name}"]
    for family, section, colon in (("inet", "ipv4", False), ("inet6", "ipv6", True)):
        mine = [info for info in fixed if info["family"] == family]
        leased = any(i.get("dynamic") and i["family"] == family for i in device.addresses)
        manual = bool(mine) and not leased and section == "ipv4"
        lines += ["", f"[{section}]", f"method={'manual' if manual else 'auto'}"]
        for number, info in enumerate(mine, start=1):
            gateway = next((each for each in gateways if (":" in each) == colon), "")
            suffix = f",{gateway}" if gateway and number == 1 else ""
            lines.append(f"address{number}={info['local']}/{info['prefixlen']}{suffix}")
        dns = [each for each in servers if (":" in each) == colon]
        if mine and dns:
            lines.append(f"dns={';'.join(dns)};")
    return "\n".join(lines) + "\n"


def gateways_of(device: Device) -> list[str]:
    """Gateways of a device's default routes."""
    routes = [r for family in ("-4", "-6") for r in shown(family, "route", "show", "default")]
    return [str(r["gateway"]) for r in routes if r.get("dev") == device.name and "gateway" in r]


def write(path: Path, text: str, mode: int) -> None:
    """Write a file that is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


def leave_alone(names: Sequence[str], path: Path, check: bool) -> None:
    """Have NetworkManager manage all devices but these."""
    match = ";".join(f"interface-name:{name}" for name in names)
    # A section of its own: a second [keyfile] would replace the one of the role's file.
    text = f"[device-{path.stem}]\nmatch-device={match}\nmanaged=0\n" if names else ""
    if "\n".join(lines_of(path)) == text.strip():
        return
    print(f"NetworkManager leaves {', '.join(names) or 'no device'} alone ({path})")
    if not check:
        write(path, text, 0o644)


def hold(check: bool) -> None:
    """Keep NetworkManager, which starts when it is installed, from devices that are in use."""
    refuse_what_cannot(owned())
    if HOLD.exists() or systemctl("is-active", "NetworkManager.service") == "active":
        return
    leave_alone([device.name for device in devices() if device.addresses], HOLD, check)


def keep(check: bool) -> None:
    """Keep NetworkManager from devices of other programs, for good."""
    leave_alone([each.name for theirs in owned().values() for each in theirs], KEEP, check)


def disable(units: Sequence[str], check: bool, *options: str) -> None:
    """Disable those units that are enabled."""
    there = [unit for unit in units if systemctl("is-enabled", unit).startswith("enabled")]
    if there and not check:
        subprocess.run(["systemctl", "disable", "--quiet", *options, *there], check=True)


def apply(check: bool, booted: bool) -> None:
    """Let the devices change hands at the next boot."""
    found = owned()
    refuse_what_cannot(found)
    servers = [line.partition("=")[2] for line in lines_of(FOUND)]
    for unit, theirs in found.items():
        for device in theirs if booted else ():
            text = connection(device, gateways_of(device), servers)
            path = CONNECTIONS / f"gantry-{device.name}.nmconnection"
            if text and device.kind == "ethernet" and not has_connection(device):
                print(f"{device.name}: its addresses are in {path}")
                if not check:
                    write(path, text, 0o600)
        names = ", ".join(device.name for device in theirs) or "no device"
        print(f"{unit}, which has {names}, is disabled from the next boot on")
        disable(UNITS[unit], check)
        if unit == "networking.service" and not check:
            # udev starts it for devices that are marked allow-hotplug.
            subprocess.run(["systemctl", "mask", "--quiet", "ifup@.service"], check=True)
    resolved = "systemd-resolved.service"
    replaced = not booted or systemctl("is-active", "gantry-dns.service") == "active"
    if replaced and systemctl("is-enabled", resolved).startswith("enabled"):
        print(f"{resolved} is disabled: gantry-dns resolves names")
        disable([resolved], check, *(["--now"] if booted else []))


def lines_of(path: Path) -> list[str]:
    """A file's lines; none where there is no file."""
    return path.read_text().splitlines() if path.is_file() else []


def main(arguments: Sequence[str]) -> int:
    """`hold`, `keep` or `apply`, with --check and --offline."""
    parser = argparse.ArgumentParser(description="Hand the network to NetworkManager")
    parser.add_argument("step", choices=["hold", "keep", "apply"])
    parser.add_argument("--check", action="store_true", help="only say what would be done")
    parser.add_argument("--offline", action="store_true", help="systemd does not run here")
    options = parser.parse_args(arguments)
    try:
        if options.step == "apply":
            apply(options.check, not options.offline)
        elif not options.offline:
            (hold if options.step == "hold" else keep)(options.check)
    except RefusedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
