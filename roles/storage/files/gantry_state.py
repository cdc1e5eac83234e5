#!/usr/bin/python3
"""What persists on a device: `gantry-state start` at boot, `gantry-state writable` by hand.

Installed as /usr/local/sbin/gantry-state. At boot, before local-fs.target:
- where the root file system is read-only, folders that must be written get a layer in memory;
- what must persist is copied from the root to the state partition the first time, and bound in its
  place from then on.
A copy is made beside its place and renamed: power loss leaves it whole or absent.
Standard library only.
"""

import argparse
import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = Path("/usr/local/lib/gantry/storage.json")
STATE = Path("/mnt/state")
# The root's paths, below the state partition.
KEPT = STATE / "root-overlay"
# Copies that are being made. On the same file system, so that renaming is one step.
UNFINISHED = STATE / ".unfinished"
VOLATILE = Path("/run/gantry/volatile")
WRITABLE_ONCE = STATE / "gantry/root-writable"
MACHINE_ID = Path("/etc/machine-id")
CMDLINE = Path("/mnt/boot/cmdline.txt")
MOUNTINFO = Path("/proc/self/mountinfo")
FSTAB = Path("/etc/fstab")
VALID_ID = re.compile(r"[0-9a-f]{32}")


class StateError(Exception):
    """Something cannot be kept; the message says what and why."""


@dataclass(frozen=True)
class Entry:
    """One path that persists. `-` before it: only where it exists. `/` at its end: a folder, made
    where it is missing; else a file, made empty."""

    path: Path
    folder: bool
    optional: bool

    @classmethod
    def of(cls, text: str) -> "Entry":
        """From a line of the role's list."""
        plain = text.removeprefix("-")
        return cls(Path(plain), plain.endswith("/"), text.startswith("-"))

    @property
    def kept(self) -> Path:
        """Its place on the state partition."""
        return KEPT / self.path.relative_to("/")


def run(*command: str) -> None:
    """Run a command.

    Raises:
        StateError: it failed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise StateError(f"{command[0]}: {said}")


def mount_points() -> dict[str, str]:
    """Mount points, with their file systems' types."""
    found = {}
    for line in MOUNTINFO.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        found[fields[4].replace("\\040", " ")] = fields[fields.index("-") + 1]
    return found


def root_is_read_only() -> bool:
    """As the root is mounted now, whatever is asked for the next boot."""
    return bool(os.statvfs("/").f_flag & os.ST_RDONLY)


def sync_folder(folder: Path) -> None:
    """Have a rename in this folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, mode: int) -> None:
    """Replace a file so that a power loss leaves the old or the new one."""
    temporary = path.with_name(f".{path.name}.gantry")
    with temporary.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def populate(entry: Entry) -> None:
    """Copy what the root has to the state partition: whole, or not at all."""
    UNFINISHED.mkdir(mode=0o700, exist_ok=True)
    copy = UNFINISHED / entry.path.name
    try:
        run("cp", "--archive", "--one-file-system", "--", str(entry.path), str(copy))
        run("sync", "--file-system", str(copy))
        entry.kept.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(entry.kept)
    finally:
        shutil.rmtree(UNFINISHED, ignore_errors=True)
    sync_folder(entry.kept.parent)


def make(entry: Entry) -> None:
    """Have a mount point on the root."""
    if entry.folder:
        entry.path.mkdir(mode=0o755, parents=True, exist_ok=True)
    else:
        entry.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        entry.path.touch(mode=0o600)


def keep(entry: Entry) -> None:
    """Bind a path's place on the state partition over it, filled the first time.

    Raises:
        StateError: the root has something else there, or the mount fails.
    """
    if not entry.path.exists():
        if entry.optional:
            return
        make(entry)
    if entry.path.is_symlink() or entry.path.is_dir() != entry.folder:
        wanted = "folder" if entry.folder else "file"
        raise StateError(f"it is no {wanted} on the root")
    if entry.kept.exists() and entry.kept.samefile(entry.path):
        return
    if str(entry.path) in mount_points():
        raise StateError("something else is mounted there")
    if not entry.kept.exists():
        populate(entry)
        print(f"{entry.path} is kept on the state partition from now on")
    elif entry.kept.is_dir() != entry.folder:
        raise StateError(f"{entry.kept} is of another kind: remove it")
    run("mount", "--bind", str(entry.kept), str(entry.path))


def id_in(path: Path) -> str:
    """A valid machine id, or ''."""
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if VALID_ID.fullmatch(text):
            return text
    return ""


def keep_machine_id(entry: Entry) -> None:
    """Keep the machine id by copying: systemd refuses one that is bound from a disk."""
    own, kept = id_in(MACHINE_ID), id_in(entry.kept)
    if not kept:
        if own:
            entry.kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(entry.kept, f"{own}\n", 0o444)
        kept = own
    elif own != kept:
        try:
            write_whole(MACHINE_ID, f"{kept}\n", 0o444)
        except OSError as error:
            # PID 1's own, in memory, is mounted there; systemd commits it to the disk later.
            if error.errno != errno.EBUSY:
                raise
            MACHINE_ID.write_text(f"{kept}\n", encoding="ascii")
    if kept and root_is_read_only() and CMDLINE.exists():
        tell_kernel(kept)


def tell_kernel(machine_id: str) -> None:
    """A read-only root without an id gets a new one at each boot, unless the kernel's line names
    it: PID 1 and the journal read theirs before anything is mounted."""
    line = CMDLINE.read_text(encoding="utf-8").strip()
    words = [each for each in line.split() if not each.startswith("systemd.machine_id=")]
    wanted = " ".join([*words, f"systemd.machine_id={machine_id}"])
    if wanted != " ".join(line.split()):
        write_whole(CMDLINE, f"{wanted}\n", 0o600)


def layer(path: Path) -> None:
    """Let a folder of a read-only root be written, in memory, until the device restarts."""
    if mount_points().get(str(path)) == "overlay":
        return
    folder = VOLATILE / str(path).strip("/").replace("/", "-")
    upper, work = folder / "upper", folder / "work"
    for each in (upper, work):
        each.mkdir(parents=True)
    # The layer's own attributes are those that the folder shows.
    shutil.copystat(path, upper)
    status = path.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "gantry", str(path))


def layers(paths: Sequence[str], size: str) -> list[str]:
    """Layers for all; what is wrong."""
    try:
        VOLATILE.mkdir(mode=0o755, parents=True, exist_ok=True)
        if str(VOLATILE) not in mount_points():
            run("mount", "-t", "tmpfs", "-o", f"mode=0755,size={size}", "gantry", str(VOLATILE))
    except (StateError, OSError) as error:
        return [f"{VOLATILE}: {error}"]
    return attempt((path, lambda path=path: layer(Path(path))) for path in paths)


def attempt(steps: Any) -> list[str]:
    """Carry out all steps, (name, function), whatever becomes of the others; what is wrong."""
    problems = []
    for name, step in steps:
        try:
            step()
        except (StateError, OSError) as error:
            problems.append(f"{name}: {error}")
    return problems


def step_of(entry: Entry) -> Any:
    """How an entry is kept."""
    chosen = keep_machine_id if entry.path == MACHINE_ID else keep
    return lambda: chosen(entry)


def remount() -> None:
    """Let the root be written, with its own options: fstab may name it by what is not found."""
    run("mount", "--options-source=mtab", "-o", "remount,rw", "/")


def forget_writable() -> None:
    """The next boot has a read-only root again."""
    WRITABLE_ONCE.unlink()
    sync_folder(WRITABLE_ONCE.parent)


def state_is_missing() -> bool:
    """Whether there is a state partition that could not be mounted: its folder is none then."""
    lines = FSTAB.read_text(encoding="utf-8").splitlines() if FSTAB.exists() else []
    named = {line.split()[1] for line in lines if len(line.split()) > 1 and line[0] != "#"}
    return str(STATE) in named and str(STATE) not in mount_points()


def start() -> int:
    """What is done at boot; 1 if something is wrong. The device boots on in any case."""
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    problems = []
    if settings["read_only_root"] and root_is_read_only():
        wanted = WRITABLE_ONCE.exists()
        if wanted:
            problems += attempt([("/", remount), (str(WRITABLE_ONCE), forget_writable)])
        if wanted and not root_is_read_only():
            print("the root file system can be written until the device restarts")
        else:
            problems += layers(settings["volatile_paths"], settings["volatile_size"])
    if state_is_missing():
        problems.append(f"the partition of {STATE} is not mounted: nothing persists")
    else:
        shutil.rmtree(UNFINISHED, ignore_errors=True)
        entries = [Entry.of(each) for each in settings["persistent_paths"]]
        problems += attempt((str(each.path), step_of(each)) for each in entries)
    for problem in problems:
        print(f"gantry-state: {problem}", file=sys.stderr)
    return 1 if problems else 0


def writable(restart: bool) -> int:
    """Let the next boot, and only that, have a root that can be written."""
    if not json.loads(SETTINGS.read_text(encoding="utf-8"))["read_only_root"]:
        print("the root file system of this device can be written already")
        return 0
    WRITABLE_ONCE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(WRITABLE_ONCE, "", 0o600)
    print("the root file system can be written from the next boot until the one after that")
    if restart:
        run("systemctl", "reboot")
    return 0


def main(arguments: Sequence[str]) -> int:
    """`start`, or `writable [--restart]`."""
    parser = argparse.ArgumentParser(prog="gantry-state", description="What persists on a device")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="bind what persists; the unit gantry-state does it at boot")
    command = commands.add_parser("writable", help="make a read-only root writable for one boot")
    command.add_argument("--restart", action="store_true", help="restart the device at once")
    options = parser.parse_args(arguments)
    try:
        return start() if options.command == "start" else writable(options.restart)
    except (StateError, OSError, ValueError, KeyError) as error:
        print(f"gantry-state: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
