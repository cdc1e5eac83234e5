"""A USB stick with a bundle: what it holds is copied to the data partition, where the supervisor
finds it. The unit gantry-bundle@ runs this when a stick comes; its mounts are its own and end with
it. The stick is read only, and may be pulled out once the journal says so."""

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from gantry_supervisor import files, settings

SUFFIX = ".gantry-bundle"
# As gantry.contracts.bundle has it, which is not on the host: see docs/bundle-format.md.
MAGIC = b"\x89GANTRY\n"
HEADER_LENGTH = 64
FOLDER = settings.DATA / "bundles"
LAST = FOLDER / ".last-stick.json"
# Left free beside the copy, in bytes.
RESERVE = 64 * 1024**2
PIECE = 1024**2

Say = Callable[[str], None]


def main(device: str) -> int:
    """Bring the bundles of this block device; the exit status."""
    try:
        if is_mounted(device):
            return 0  # it is one of this host's own
        with mounted(device) as stick:
            bring_all(stick, FOLDER, say)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"{device} cannot be read: {error}")
        return 1
    return 0


def say(text: str) -> None:
    """A line for the journal."""
    print(text, flush=True)


def is_mounted(device: str, mounts: Path = Path("/proc/1/mounts")) -> bool:
    """Whether the host itself has it mounted, by this name."""
    lines = mounts.read_text().splitlines()
    return any(line.split(" ", 1)[0] == device for line in lines)


@contextlib.contextmanager
def mounted(device: str):  # type: ignore[no-untyped-def]
    """The stick as a folder: nothing on it is run, and nothing of it written."""
    with tempfile.TemporaryDirectory(dir=settings.RUN, prefix="stick-") as place:
        command = ["mount", "-o", "ro,nosuid,nodev,noexec", "--", device, place]
        subprocess.run(command, check=True, capture_output=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


def bring_all(stick: Path, folder: Path, say: Say) -> None:
    """Copy what the stick's top folder holds, by name; what came the last time does not come again.

    Raises:
        OSError: the stick cannot be read, or the folder not be written.
    """
    for bundle in sorted(stick.glob(f"*{SUFFIX}")):
        if bundle.name.startswith(".") or bundle.is_symlink() or not bundle.is_file():
            continue
        with bundle.open("rb") as stream:
            head = stream.read(HEADER_LENGTH)
        if not head.startswith(MAGIC):
            say(f"{bundle.name} is no bundle")
            continue
        mark = hashlib.sha256(bundle.name.encode() + b"\0" + head).hexdigest()
        if mark in marks(folder):
            say(f"{bundle.name} was brought already; rename it to bring it again")
            continue
        if bring(bundle, folder, say):
            say(f"{bundle.name} is copied; the stick may be pulled out")
            remember(folder, mark)


def marks(folder: Path) -> list[str]:
    """What the last sticks brought."""
    with contextlib.suppress(files.FileError):
        found = (files.read_object(folder / LAST.name) or {}).get("brought")
        return [str(each) for each in found] if isinstance(found, list) else []
    return []


def remember(folder: Path, mark: str) -> None:
    """Note what was brought. Where that fails, it comes again, which does no harm."""
    with contextlib.suppress(files.FileError):
        files.write_object(folder / LAST.name, {"brought": [*marks(folder), mark][-16:]})


def bring(bundle: Path, folder: Path, say: Say) -> bool:
    """Copy one, whole or not at all; whether there was room.

    Raises:
        OSError: the stick cannot be read, or the folder not be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    size, usage = bundle.stat().st_size, os.statvfs(folder)
    free = usage.f_bavail * usage.f_frsize
    if free < size + RESERVE:
        mib = 1024**2
        say(f"{bundle.name} has {size // mib} MiB, and {free // mib} MiB are free: too little room")
        return False
    partial = folder / f"{bundle.name}.part"
    try:
        with bundle.open("rb") as source, partial.open("wb") as target:
            while piece := source.read(PIECE):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, folder / bundle.name)
        files.sync_folder(folder)
    finally:
        partial.unlink(missing_ok=True)
    return True
