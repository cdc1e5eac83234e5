"""Runs git for a client and ends it, with all that it started, when the client goes away.

sshd does not signal a command whose client is gone: it closes its ends of the command's output.
While a hook is silent nobody would notice; so we watch for that.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType

GRACE = 3.0
"""Seconds between the request to end and the kill."""


class Cause(StrEnum):
    """Why the command ended."""

    EXITED = "exited"
    CLIENT_GONE = "client gone"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class End:
    """How the command ended; `code` is its exit code, that of a shell for a signal."""

    cause: Cause
    code: int


class _StopError(Exception):
    """The service is going down."""


def run(argv: list[str], environment: dict[str, str], keep: int) -> End:
    """Runs `argv` on our own standard streams; the descriptor `keep` stays open in it.

    The command leads a process group of its own: its end is the end of the whole group.
    """
    with _signals() as alarm:
        child = subprocess.Popen(argv, env=environment, pass_fds=(keep,), start_new_session=True)
        poller = select.poll()
        poller.register(alarm, select.POLLIN)
        # No event is asked for: the loss of the other end is always told.
        poller.register(1, 0)
        poller.register(2, 0)
        try:
            while child.poll() is None:
                found = [descriptor for descriptor, _ in poller.poll()]
                if alarm in found:
                    os.read(alarm, 100)
                elif found:
                    _end_group(child)
                    return End(Cause.CLIENT_GONE, 1)
        except _StopError:
            _end_group(child)
            return End(Cause.STOPPED, 1)
    return End(Cause.EXITED, child.returncode if child.returncode >= 0 else 128 - child.returncode)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable when a child ends; SIGTERM and SIGHUP raise _StopError."""

    def on_child(_signal: int, _frame: FrameType | None) -> None:
        return  # Its number is written to the descriptor: that is all.

    def on_stop(_signal: int, _frame: FrameType | None) -> None:
        raise _StopError

    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    handlers = {signal.SIGCHLD: on_child, signal.SIGTERM: on_stop, signal.SIGHUP: on_stop}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    previous = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Asks the group to end, waits for its leader, and kills what is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
