"""One build at a time for an application: the next push waits until the branch has moved.

The lock is taken in the hook but held by the forced command, from which the hook inherits its open
file: it lasts until git has moved the branch, which is after the hook has ended.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "GANTRY_PUSH_LOCK"
_FILE = "gantry-push"
_MAX_HOLDER = 200


def open_lock(repository: Path) -> int:
    """The open file of the repository's lock, not locked yet."""
    return os.open(repository / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def acquire(descriptor: int, holder: str, waiting: Callable[[str, float], None]) -> None:
    """Waits for the lock and leaves the words `holder` for those who come next.

    While it waits it calls `waiting` with the holder's words and the seconds so far: at once, then
    every ten seconds.
    """
    start = time.monotonic()
    told = -10.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            spent = time.monotonic() - start
            if spent - told >= 10:
                waiting(os.pread(descriptor, _MAX_HOLDER, 0).decode(errors="replace"), spent)
                told = spent
            time.sleep(0.2)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode()[:_MAX_HOLDER], 0)
            return


def release(descriptor: int) -> None:
    """Gives the lock up for every process that inherited it, git's own helpers among them."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
