"""Looking at a tree again and again: what changed since the last look.

Looked at and not listened to: that needs no library, and sees network file systems too.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from docker.utils.build import exclude_paths

from gantry.local.livesync import Changes

IGNORE_FILE = ".dockerignore"
# What no image wants and every editor or version control writes.
_NEVER = (".git", "**/.git", "**/*.swp", "**/*.swx", "**/*~", "**/.#*", "**/4913")

Snapshot = Mapping[str, tuple[int, int, int]]


def snapshot(context: Path) -> Snapshot:
    """Every file of a build's context that its .dockerignore leaves in: path to (mtime in ns, size,
    mode). Links are looked at themselves."""
    found: dict[str, tuple[int, int, int]] = {}
    for name in exclude_paths(str(context), [*_NEVER, *_ignored(context)]):
        path = context / name
        try:
            status = path.lstat()
        except OSError:
            continue  # gone since it was listed
        if not path.is_dir() or path.is_symlink():
            found[name.replace(os.sep, "/")] = (status.st_mtime_ns, status.st_size, status.st_mode)
    return found


def difference(old: Snapshot, new: Snapshot) -> Changes:
    """What became of the files between two looks."""
    return Changes(
        changed=tuple(sorted(path for path, what in new.items() if old.get(path) != what)),
        removed=tuple(sorted(path for path in old if path not in new)),
    )


def _ignored(context: Path) -> list[str]:
    try:
        lines = (context / IGNORE_FILE).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    # A change of it is one of the build, even where it leaves itself out.
    kept = [each.strip() for each in lines if each.strip() and not each.startswith("#")]
    return [*kept, f"!{IGNORE_FILE}"]
