"""The doorway to lock files in the runtime directories of services.

Applications write there whatever they like, so nothing is followed, waited for or trusted.
"""

import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
# A file's time beyond it (the year 2242) is none that a clock gave, and no date can be made of it.
_LAST_TIME = 2**33

# The family's, and its older name.
NAMES = ("updates.lock", "resin-updates.lock")
# The uid that the family's supervisor makes its lock files with: `nobody`.
_OWNER = 65534
_MARK = b"gantry-supervisor\n"
_DRAFT = ".gantry-lock-"


Alive = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True)
class LockFile:
    """An application's lock file; `since` in seconds since the epoch."""

    service: str
    path: Path
    since: float


def app_ids(services: Path) -> list[int]:
    """Applications that have a runtime directory."""
    with suppress(OSError):
        return sorted(int(each.name) for each in os.scandir(services) if each.name.isdecimal())
    return []


def of_application(services: Path, app_id: int, is_alive: Alive) -> list[LockFile]:
    """The lock files that an application's services hold, at most one a service. `is_alive` says
    whether anything of a service runs that could hold one."""
    found = []
    for directory in _service_directories(services, app_id):
        if not is_alive(app_id, directory.name):
            continue
        for name in NAMES:
            path = directory / name
            status = _status(path)
            if status is not None and not _is_ours(path, status):
                found.append(LockFile(directory.name, path, _since(status)))
                break
    return found


def take(
    services: Path, app_id: int, force: bool, is_alive: Alive
) -> tuple[dict[str, list[Path]], list[LockFile]]:
    """Take every lock file of an application: what was taken, by service, and who is in the way.
    With `force` nobody is, nor is a service of which nothing runs."""
    taken: dict[str, list[Path]] = {}
    refused = []
    for directory in _service_directories(services, app_id):
        mine = taken.setdefault(directory.name, [])
        is_free = force or not is_alive(app_id, directory.name)
        for name in NAMES:
            path = directory / name
            holder = _take_one(path, is_free)
            if holder is None:
                mine.append(path)
            else:
                refused.append(holder)
                break
    return taken, refused


def give_back(paths: Iterable[Path]) -> None:
    """Remove these files, as far as they are the supervisor's."""
    for path in paths:
        status = _status(path)
        if status is not None and _is_ours(path, status):
            with suppress(OSError):
                path.unlink()


def end_leftovers(services: Path) -> None:
    """Remove what a supervisor left when it ended amid an update."""
    for app_id in app_ids(services):
        for directory in _service_directories(services, app_id):
            give_back(directory / name for name in NAMES)
            for draft in directory.glob(f"{_DRAFT}*"):
                with suppress(OSError):
                    draft.unlink()


def end_of_life(services: Path, app_id: int, service: str, ended_ns: int) -> None:
    """Remove the lock files of a service whose processes have all ended, at this time (nanoseconds
    since the epoch): nobody could give them back. What changed later is of its next life."""
    for name in NAMES:
        path = services / str(app_id) / service / name
        status = _status(path)
        if status is None or status.st_ctime_ns > ended_ns or _is_ours(path, status):
            continue
        _LOG.warning("lock %s ends with the process that held it", path)
        _remove(path, status)


def prepare(services: Path, app_id: int, service: str) -> None:
    """Make a service's directory: whoever runs in its container may create files there."""
    directory = services / str(app_id) / service
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o1777)
    except OSError as error:
        _LOG.warning("runtime directory %s cannot be made: %s", directory, error)


def _service_directories(services: Path, app_id: int) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        for each in sorted(os.scandir(services / str(app_id)), key=lambda each: each.name):
            if each.is_dir(follow_symlinks=False):
                yield Path(each.path)


def _since(status: os.stat_result) -> float:
    """When it was made; now where the file's time is no time of this age."""
    return status.st_mtime if 0 <= status.st_mtime < _LAST_TIME else time.time()


def _take_one(path: Path, force: bool) -> LockFile | None:
    for _attempt in range(3):
        if _link(path):
            return None
        status = _status(path)
        if status is None:
            continue  # just given back
        if _is_ours(path, status):
            return None  # of a supervisor that is no more
        if not force:
            return LockFile(path.parent.name, path, _since(status))
        _LOG.warning("lock %s overridden", path)
        _remove(path, status)
    # It comes back as often as it is removed; who forces does not wait for that.
    return None if force else LockFile(path.parent.name, path, 0.0)


def _remove(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _link(path: Path) -> bool:
    """Create the lock file, ours from its first moment; False when there is one."""
    draft = path.parent / f"{_DRAFT}{secrets.token_hex(4)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            os.write(descriptor, _MARK)
            with suppress(PermissionError):  # only root may give files away
                os.fchown(descriptor, _OWNER, _OWNER)
            os.link(draft, path)
        finally:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        if _status(path) is not None:
            return False
        # A full or read-only disk must not keep the update away that may make room.
        _LOG.warning("lock %s cannot be written: %s; going on without", path, error)
    return True


def _status(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.lstat()
    return None


def _is_ours(path: Path, status: os.stat_result) -> bool:
    # What an application puts there may be anything: a FIFO would be waited for.
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(_MARK):
        return False
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(descriptor, len(_MARK)) == _MARK
        finally:
            os.close(descriptor)
    return False
