#!/usr/bin/python
"""Where /mnt/boot, /mnt/state and /mnt/data are: writes /etc/fstab and mounts what it names.

One module for what would be ten tasks: a task costs seconds on a Pi Zero and under qemu.
"""

import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gantry_fstab import (
    FAT_OPTIONS,
    LABELS,
    Host,
    LayoutError,
    Plan,
    Wanted,
    plan,
)

DOCUMENTATION = """
---
module: storage_layout
short_description: Mount the boot, state and data partitions, or make folders in their place
description:
  - Rewrites the block between its marks in fstab, the options of the boot partition's own line
    and, for a read-only root, those of the root's line. Other lines stay as they are.
options:
  boot:
    description: C(auto), C(folder), a device (C(/dev/…), C(LABEL=…)) or a folder to bind.
    type: str
    default: auto
  state:
    description: C(auto), C(folder) or a device.
    type: str
    default: auto
  data:
    description: C(auto), C(folder) or a device.
    type: str
    default: auto
  boot_firmware:
    description: The folder that a plain Raspberry Pi OS has its boot partition on, if it has one.
    type: path
  read_only_root:
    description: Whether the root file system is mounted read-only from the next boot on.
    type: bool
    default: false
  mount:
    description: Whether to mount, and to look for labels; not in an image's build.
    type: bool
    default: true
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Lay out the storage
  storage_layout:
    boot_firmware: /boot/firmware
"""

RETURN = """
sources:
  description: What is at /mnt/boot, /mnt/state and /mnt/data; C(folder) for a folder of the root.
  type: dict
  returned: always
"""

FSTAB = Path("/etc/fstab")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command with its output caught."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def mounted() -> dict[str, str]:
    """Mount points and the options of their file systems."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        found[fields[4].replace("\\040", " ")] = fields[-1]
    return found


def observe(look_for_labels: bool) -> Host:
    """The host as it is. In a build, labels would be those of the machine that builds."""
    labels: set[str] = set()
    if look_for_labels:
        labels = set(run("blkid", "-c", "/dev/null", "-o", "value", "-s", "LABEL").stdout.split())
    # gantry-config keeps a copy of config.json in the state folder, and writes it anew.
    harmless = {"gantry", "lost+found"}
    occupied = set()
    for name in LABELS:
        folder = Path("/mnt", name)
        if folder.is_dir() and {each.name for each in folder.iterdir()} - harmless:
            occupied.add(str(folder))
    return Host(frozenset(labels), mounted() if look_for_labels else {}, frozenset(occupied))


def tighten(boot: str) -> str:
    """Mount a FAT boot partition anew if others than root may read it; the problem, or ''.

    A remount does not change masks, so everything that shows the partition goes for a moment.
    """
    options = mounted().get(boot, "")
    if "fmask=" not in options or set(FAT_OPTIONS) <= set(options.split(",")):
        return ""
    bound = boot != "/mnt/boot" and "/mnt/boot" in mounted()
    away = (["/mnt/boot"] if bound else []) + [boot]
    results = [run("umount", each) for each in away]
    results += [run("mount", each) for each in reversed(away) if each not in mounted()]
    wrong = [each.stderr.strip() for each in results if each.returncode]
    return "; ".join(wrong)


def carry_out(made: Plan) -> list[str]:
    """Mount what is planned; warnings.

    Raises:
        LayoutError: a mount fails.
    """
    run("systemctl", "daemon-reload")
    warnings = []
    if problem := tighten(made.boot_line):
        warnings.append(
            f"{made.boot_line} is in use ({problem}): others than root can read it until the "
            "device is restarted"
        )
    for where in made.mounts:
        if where not in mounted():
            result = run("mount", where)
            if result.returncode:
                raise LayoutError(f"{where} cannot be mounted: {result.stderr.strip()}")
    return warnings


def make_folders(boot: str, check: bool) -> bool:
    """Have the mount points, and the boot folder closed where no mask does it; whether one was
    missing or open."""
    mounts = mounted()
    missing = [folder for name in LABELS if not (folder := Path("/mnt", name)).is_dir()]
    closed = {Path(each) for each in (boot, "/mnt/boot") if each not in mounts}
    open_ones = [each for each in closed if each.is_dir() and each.stat().st_mode & 0o077]
    if not check:
        for folder in missing:
            folder.mkdir(mode=0o755, parents=True)
        for folder in closed:
            folder.chmod(0o700)
    return bool(missing or open_ones)


def put_in_place(made: Plan, old: str, module: AnsibleModule) -> None:
    """Write fstab and mount; if that fails, fstab is as it was.

    Raises:
        LayoutError: as `carry_out`.
    """
    if made.fstab != old:
        write(module, made.fstab)
    if not module.params["mount"]:
        return
    try:
        for warning in carry_out(made):
            module.warn(warning)
    except LayoutError:
        if made.fstab != old:
            write(module, old)
            run("systemctl", "daemon-reload")
        raise


def write(module: AnsibleModule, text: str) -> None:
    """Replace fstab at once."""
    temporary = FSTAB.with_name(".fstab.gantry")
    temporary.write_text(text, encoding="utf-8")
    module.atomic_move(str(temporary), str(FSTAB))


def main() -> None:
    """Ansible's entry point."""
    options: dict[str, dict[str, Any]] = {
        **{name: {"type": "str", "default": "auto"} for name in LABELS},
        "boot_firmware": {"type": "path"},
        "read_only_root": {"type": "bool", "default": False},
        "mount": {"type": "bool", "default": True},
    }
    module = AnsibleModule(options, supports_check_mode=True)
    asked = module.params
    sources = {name: asked[name] for name in LABELS}
    wanted = Wanted(sources, asked["boot_firmware"] or "", asked["read_only_root"])
    try:
        old = FSTAB.read_text(encoding="utf-8") if FSTAB.exists() else ""
        made = plan(old, wanted, observe(asked["mount"]))
        missing = asked["mount"] and not set(made.mounts) <= set(mounted())
        changed = make_folders(made.boot_line, module.check_mode)
        if not module.check_mode:
            put_in_place(made, old, module)
    except (LayoutError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed or missing or made.fstab != old,
        sources=made.sources,
        diff={"before": old, "after": made.fstab, "before_header": str(FSTAB)},
    )


if __name__ == "__main__":
    main()
