"""What people see while something takes its time: no step is silent for more than ten seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[str], None]

HEARTBEAT_SECONDS = 8.0


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 07 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def line_printer(prefix: str = "", stream: TextIO | None = None) -> Progress:
    """A Progress that prints one flushed line a message, on stderr unless told otherwise."""

    def write(message: str) -> None:
        print(f"{prefix}{message}", file=stream or sys.stderr, flush=True)

    return write


@contextmanager
def step(
    title: str, progress: Progress, heartbeat: float = HEARTBEAT_SECONDS
) -> Iterator[Progress]:
    """Say what begins, what it took, and every `heartbeat` seconds of silence that it goes on.

    Yields a Progress for the step's own lines. A step that raises says after how long.
    """
    started = spoken = time.monotonic()
    finished = threading.Event()

    def say(message: str) -> None:
        nonlocal spoken
        spoken = time.monotonic()
        progress(f"    {message}")

    def beat() -> None:
        while not finished.wait(max(0.05, spoken + heartbeat - time.monotonic())):
            if time.monotonic() - spoken >= heartbeat:
                say(f"… still at it ({duration(time.monotonic() - started)})")

    progress(f"==> {title}")
    beater = threading.Thread(target=beat, name=f"heartbeat {title}", daemon=True)
    beater.start()
    outcome = "failed after"
    try:
        yield say
        outcome = "done in"
    finally:
        finished.set()
        beater.join()
        progress(f"    {outcome} {duration(time.monotonic() - started)}: {title}")
