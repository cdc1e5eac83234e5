"""`python -m gantry.deltas.server.generate`: makes one delta, as a process of its own.

The first line of stdin is the job; the rest of stdin stays open, and its end ends the process. What
is told on stdout, one JSON object a line: `{"percent": 12}`, and at the end one of `{"size": …}`,
`{"whole": "why there is none"}`, `{"failed": "why, and it may be tried again"}`, and `{"full": …}`
where that is the disk's room.
"""

import errno
import json
import os
import resource
import signal
import sys
import threading
from concurrent.futures import BrokenExecutor
from pathlib import Path

from gantry.deltas.create import LayerTar, Options, Progress, create
from gantry.deltas.reader import DeltaError
from gantry.deltas.server.generate_order import Order

NICE = 10
MEBIBYTE = 1024**2
# Of the memory that the process may have, what the generator plans with: the rest is Python's.
PLANNED = 0.6


def main() -> int:
    """Makes it; the exit code is 0 however it ended, as long as that was told."""
    order = Order.decode(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory, order.memory))
    try:
        _tell(size=_make(order))
    except MemoryError:
        _tell(whole=_too_much(order))
    except BrokenExecutor:
        # A helper was killed: as if it had been this process.
        return 1
    except DeltaError as error:
        _tell(whole=str(error))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            _tell(whole=_too_much(order))
        else:
            kind = "full" if error.errno == errno.ENOSPC else "failed"
            _tell(**{kind: f"{error.strerror or error} ({error.filename or 'delta'})"})
    except Exception as error:
        # Whatever it was: one sentence, and no traceback.
        _tell(failed=f"{type(error).__name__}: {error}")
    return 0


def _too_much(order: Order) -> str:
    return f"making it takes more than {order.memory // MEBIBYTE} MiB of memory"


def _make(order: Order) -> int:
    last = -1

    def progress(state: Progress) -> None:
        nonlocal last
        percent = min(99, 100 * state.done // state.total) if state.total else 0
        if percent != last:
            last = percent
            _tell(percent=percent)

    create(
        [LayerTar(diff_id, Path(path)) for diff_id, path in order.sources],
        [LayerTar(diff_id, Path(path)) for diff_id, path in order.targets],
        order.config,
        Path(order.out),
        Options(
            memory=int(order.memory * PLANNED),
            workers=order.processes,
            bare=True,
            limit=order.limit or None,
        ),
        progress,
    )
    return Path(order.out).stat().st_size


def _tell(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def _end_with_stdin() -> None:
    """Whoever started this has ended: so does this, with what it started itself."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
