#!/usr/bin/python
"""What a device is: its board, its device type, its settings, and whether systemd runs it.

One module for what would be six tasks: a task costs seconds on a Pi Zero and under qemu.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gantry_config import ConfigError, boot_source, booted, read

DOCUMENTATION = """
---
module: device_facts
short_description: Read what a device is, and what keeps it from being one
description:
  - Changes nothing. The settings hold keys - register the result with C(no_log).
options:
  releases:
    description: Supported operating systems, by the C(ID) of os-release; lists of C(VERSION_ID).
    type: dict
    required: true
  device_type:
    description: >-
      The device type to take instead of the board's. A board that has none keeps the one that an
      earlier run was given.
    type: str
    default: ""
  boot:
    description: Where the boot partition is found once the host is a device.
    type: path
    default: /mnt/boot
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Read what the device is
  device_facts:
    releases: {debian: ["12", "13"], raspbian: ["12", "13"]}
  register: found
  no_log: true
"""

RETURN = """
booted: {description: systemd is PID 1 here, returned: always, type: bool}
board: {description: "The board's model, '' if unknown", returned: always, type: str}
device_type: {description: "Its device type, '' if unknown", returned: always, type: str}
boot_source: {description: The boot partition's folder, returned: always, type: str}
cmdline: {description: "The file with the kernel's command line, ''", returned: always, type: str}
kernel_options: {description: What the running kernel was told, returned: always, type: list}
config: {description: "config.json, {} if there is none", returned: always, type: dict}
variant: {description: "The variant that the host was given, ''", returned: always, type: str}
problems: {description: What keeps it from being a device, returned: always, type: list}
packages: {description: Packages that are installed by wish, returned: always, type: list}
"""

MODEL = Path("/sys/firmware/devicetree/base/model")
OS_RELEASE = Path("/etc/os-release")
PRODUCT = Path("/sys/class/dmi/id/product_name")
DEVICE = Path("/etc/gantry/device.json")
PACKAGES = Path("/var/lib/dpkg/status")
AUTOMATIC = Path("/var/lib/apt/extended_states")
# The first that fits names the board's family. Zero 2 and the later Pi 2 have the Pi 3's processor.
FAMILIES = (
    (r"Raspberry Pi (4|5|400|500|Compute Module [45])", "4"),
    (r"Raspberry Pi (3|Zero 2|Compute Module 3)", "3"),
    (r"Raspberry Pi 2", "2"),
    (r"Raspberry Pi (Zero|Model [AB]|Compute Module)", "1"),
)
# (family, Debian's architecture) to the slugs of src/gantry/contracts/device_types.py. A board that
# runs a 32 bit OS runs that OS's images, whatever its processor could do.
DEVICE_TYPES = {
    ("1", "armhf"): "raspberry-pi",
    ("1", "armel"): "raspberry-pi",
    ("2", "armhf"): "raspberry-pi2",
    ("2", "arm64"): "raspberrypi3-64",
    ("3", "armhf"): "raspberrypi3",
    ("3", "arm64"): "raspberrypi3-64",
    ("4", "armhf"): "raspberrypi3",
    ("4", "arm64"): "raspberrypi4-64",
}


def text_of(path: Path) -> str:
    """A file of the kernel's, without the zero byte at its end; '' if there is none."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def device_type_of(model: str, architecture: str, product: str) -> str:
    """The slug for a board's model, Debian's name of the OS's architecture, and DMI's product."""
    if architecture == "amd64":
        return "intel-nuc" if "NUC" in product else "generic-amd64"
    for pattern, family in FAMILIES:
        if re.match(pattern, model):
            return DEVICE_TYPES.get((family, architecture), "")
    return ""


def os_problem(release: str, supported: dict[str, list[str]]) -> str:
    """Why this operating system will not do; '' if it will."""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', release, re.MULTILINE))
    versions = [str(each) for each in supported.get(fields.get("ID", ""), [])]
    if fields.get("VERSION_ID") in versions:
        return ""
    name = fields.get("PRETTY_NAME") or fields.get("ID") or "an unknown system"
    known = ", ".join(f"{each} {'/'.join(supported[each])}" for each in sorted(supported))
    return f"the operating system is {name}: install one of {known}"


def board_problem(device_type: str, model: str, architecture: str) -> str:
    """Why this board will not do; '' if it will."""
    if device_type:
        return ""
    return (
        f"the board is {model or 'unknown'} ({architecture or 'unknown architecture'}), which has "
        "no device type: set device_config_forced_device_type to one of docs/supported-boards.md"
    )


def offline_problem(is_booted: bool) -> str:
    """systemctl and Ansible know a chroot by themselves, but not a container's build."""
    if is_booted or os.environ.get("SYSTEMD_OFFLINE") == "1":
        return ""
    try:
        if not os.path.samestat(os.stat("/proc/1/root"), os.stat("/")):
            return ""
    except OSError:
        return ""
    return "systemd does not run here: set SYSTEMD_OFFLINE=1 in the environment of an image's build"


def noted(name: str, path: Path) -> str:
    """What an earlier run wrote down under this name; '' if none did."""
    found = re.search(rf'"{name}":\s*"([\w-]+)"', text_of(path))
    return found[1] if found else ""


def wanted_packages() -> list[str]:
    """The packages that are installed and that no `apt autoremove` takes away, sorted.

    Module apt asks the same of python-apt, which costs seconds a task on a Pi Zero and under qemu.
    """
    installed = re.findall(
        r"^Package: (\S+)\nStatus: \S+ ok installed$", text_of(PACKAGES), re.MULTILINE
    )
    automatic = re.findall(
        r"^Package: (\S+)\nArchitecture: \S+\nAuto-Installed: 1$", text_of(AUTOMATIC), re.MULTILINE
    )
    return sorted(set(installed) - set(automatic))


def facts(parameters: dict[str, Any], architecture: str) -> dict[str, Any]:
    """Everything that the module returns."""
    model = text_of(MODEL)
    kind = (
        parameters["device_type"]
        or device_type_of(model, architecture, text_of(PRODUCT))
        or noted("deviceType", DEVICE)
    )
    boot = Path(parameters["boot"])
    source = boot_source(boot)
    cmdline = source / "cmdline.txt"
    config: dict[str, Any] = {}
    config_problem = ""
    try:
        there = (boot / "config.json").exists()
        config = read((boot if there else source) / "config.json")
    except ConfigError as error:
        config_problem = str(error)
    is_booted = booted()
    problems = (
        os_problem(text_of(OS_RELEASE), parameters["releases"]),
        board_problem(kind, model, architecture),
        offline_problem(is_booted),
        config_problem,
    )
    return {
        "booted": is_booted,
        "board": model,
        "device_type": kind,
        "boot_source": str(source),
        "cmdline": str(cmdline) if cmdline.is_file() else "",
        "kernel_options": text_of(Path("/proc/cmdline")).split(),
        "config": config,
        "variant": noted("variant", DEVICE),
        "problems": [each for each in problems if each],
        "packages": wanted_packages(),
    }


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "releases": {"type": "dict", "required": True},
            "device_type": {"type": "str", "default": ""},
            "boot": {"type": "path", "default": "/mnt/boot"},
        },
        supports_check_mode=True,
    )
    # The kernel may be 64 bit under a 32 bit OS: dpkg says what the OS is.
    found = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=False
    )
    module.exit_json(changed=False, **facts(module.params, found.stdout.strip()))


if __name__ == "__main__":
    main()
