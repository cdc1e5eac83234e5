"""What the role's files say, from its variables."""

import re
from collections.abc import Callable, Mapping, Sequence

DROPIN = "/etc/systemd/system/{unit}.d/10-gantry-hardening.conf"
SETTING = re.compile(r"[a-z][a-z0-9_]*(\.[a-zA-Z0-9_*-]+)+")
NO_NETWORK = "containers would have no network"
# (setting, value, why not)
REFUSED = (
    (r"net\.ipv4\.ip_forward", "0", NO_NETWORK),
    (r"net\.ipv[46]\.conf\..*\.forwarding", "0", NO_NETWORK),
    (r"kernel\.modules_disabled", "1", "the engine and hardware load modules"),
    (r"dev\.tty\.ldisc_autoload", "0", "modems and CAN adapters on serial lines need it"),
    (r"user\.max_user_namespaces", "0", "applications may bring their own sandbox"),
)
NEEDED_UNITS = re.compile(r"(bluetooth|hciuart|containerd|docker|gantry-.*|ssh|systemd-.*|dbus)\.")


def sysctl_text(settings: Mapping[str, object], about: str) -> str:
    """A file for systemd-sysctl. Settings that a kernel lacks are passed over."""
    lines = [f"# {about}", *(f"-{key} = {value}" for key, value in sorted(settings.items()))]
    return "\n".join(lines) + "\n"


def dropins(services: Mapping[str, Mapping[str, str | Sequence[str]]]) -> dict[str, str]:
    """Drop-in files of systemd, by path; a key with a list of values gets a line for each."""
    files = {}
    for unit, settings in services.items():
        lines = ["[Service]"]
        for key, value in settings.items():
            values = [value] if isinstance(value, str) else value
            lines += [f"{key}={each}" for each in values]
        files[DROPIN.format(unit=unit)] = "\n".join(lines) + "\n"
    return files


def modprobe_text(modules: Sequence[str]) -> str:
    """A file for modprobe: `blacklist` alone would not stop who asks for a module by its name."""
    return "".join(f"install {each} /bin/false\n" for each in sorted(modules))


def tmpfiles_text(paths: Sequence[Mapping[str, str]], removed: Sequence[str]) -> str:
    """A file for systemd-tmpfiles: modes at each boot, and files that a boot takes away."""
    lines = [
        f"z {each['path']} {each['mode']} root {each.get('group', 'root')}"
        for each in sorted(paths, key=lambda each: each["path"])
    ]
    lines += [f"r! {each}" for each in removed]
    return "\n".join(lines) + "\n"


def problems(settings: Mapping[str, object], masked: Sequence[str]) -> list[str]:
    """Which settings and masked units would break the device or its applications, and why."""
    found = []
    for key, value in settings.items():
        if not SETTING.fullmatch(key) or "\n" in str(value):
            found.append(f"{key!r} is no kernel setting: give it as in /proc/sys, with dots")
        for pattern, refused, why in REFUSED:
            if re.fullmatch(pattern, key) and str(value) == refused:
                found.append(f"{key} must not be {value}: {why}")
    found += [
        f"{unit} must not be masked: the device or its applications need it"
        for unit in masked
        if NEEDED_UNITS.match(unit)
    ]
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """The filters, by name."""
        return {
            "hardening_dropins": dropins,
            "hardening_modprobe": modprobe_text,
            "hardening_problems": problems,
            "hardening_sysctl": sysctl_text,
            "hardening_tmpfiles": tmpfiles_text,
        }
