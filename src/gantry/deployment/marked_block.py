"""Our lines in files that are not ours: one marked block a fleet, nothing else touched."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


class WriteError(Exception):
    """A file could not be written; the message says which and what to do."""


def with_block(text: str, fleet: str, lines: Sequence[str], *, first: bool = False) -> str:
    """`text` with the fleet's block holding `lines`: in its place, else at the end (or beginning).

    No lines: the block is taken out. The rest of the text stays as it is, byte for byte.
    """
    begin, end = f"# >>> gantry {fleet} >>>", f"# <<< gantry {fleet} <<<"
    block = "\n".join([begin, *lines, end, ""]) if lines else ""
    pattern = re.compile(rf"^{re.escape(begin)}\n.*?^{re.escape(end)}(?:\n|\Z)", re.S | re.M)
    if pattern.search(text):
        # The first becomes the block; what an accident doubled goes.
        parts = iter([block])
        return pattern.sub(lambda _: next(parts, ""), text)
    if not block:
        return text
    if first:
        return block + text
    return f"{text}\n{block}" if text and not text.endswith("\n") else text + block


def update(
    path: Path, fleet: str, lines: Sequence[str], *, first: bool = False, mode: int = 0o644
) -> bool:
    """Put the fleet's block into a file, atomically; True if that changed it.

    A file that does not exist is made with `mode`; one that does keeps mode and owner. Where the
    folder is not ours to write, sudo is asked.

    Raises:
        WriteError: neither we nor sudo can write it.
    """
    old = path.read_text() if path.exists() else ""
    new = with_block(old, fleet, lines, first=first)
    if new == old:
        return False
    if os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK)):
        write_atomically(path, new, mode)
    else:
        _write_with_sudo(path, new)
    return True


def write_atomically(path: Path, text: str, mode: int) -> None:
    """Write a file so that readers see the old or the new text; a link is followed."""
    target = path.resolve()
    before = target.stat() if target.exists() else None
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(before.st_mode & 0o7777 if before else mode)
        if before and os.geteuid() == 0:
            os.chown(temporary, before.st_uid, before.st_gid)
        temporary.replace(target)
    except OSError as error:
        if not os.path.ismount(target):
            raise WriteError(f"cannot write {path}: {error}") from error
        # Docker mounts /etc/hosts into its containers: such a file cannot be replaced.
        target.write_text(text)
    finally:
        temporary.unlink(missing_ok=True)


def _write_with_sudo(path: Path, text: str) -> None:
    if shutil.which("sudo") is None:
        raise WriteError(f"cannot write {path}: run as root, or install sudo")
    beside = path.with_name(f".{path.name}.gantry")
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(["sudo", "tee", str(beside)], input=text.encode(), check=True, stdout=quiet)
        subprocess.run(["sudo", "chmod", "0644", str(beside)], check=True)
        subprocess.run(["sudo", "mv", "--force", str(beside), str(path)], check=True)
    except subprocess.CalledProcessError as error:
        raise WriteError(f"cannot write {path}, with sudo neither: {error}") from error
