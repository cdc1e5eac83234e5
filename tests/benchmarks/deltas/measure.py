"""One command: how long it takes, and the most memory that it and its children hold at once."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2
SAMPLE_SECONDS = 0.1


class ToolError(Exception):
    """A tool failed; holds its command and its last words."""


class ToolTimeoutError(ToolError):
    """A tool took longer than it is given."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock, resident bytes at most, and seconds of processors.

    The last are the same on a busy machine, or nearly so.
    """

    seconds: float = 0.0
    memory: int = 0
    processor: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(
            self.seconds + other.seconds,
            max(self.memory, other.memory),
            self.processor + other.processor,
        )


def run(words: list[str], timeout: float) -> Cost:
    """Run a command to its end.

    Of one process the kernel knows the peak exactly, and GNU time asks it (of a child of this
    program the kernel would count what this program had). Of several at once the sum is sampled.

    Raises:
        ToolTimeoutError: it was ended after `timeout` seconds.
        ToolError: it failed.
    """
    with tempfile.NamedTemporaryFile("r") as told, tempfile.TemporaryFile("w+") as errors:
        begin = time.monotonic()
        child = subprocess.Popen(
            ["/usr/bin/time", "-q", "-f", "%M %U %S", "-o", told.name, *words],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        sampler = _Sampler(child.pid)
        sampler.start()
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ToolTimeoutError(f"{words[0]}: not ready after {timeout:.0f} s") from None
        finally:
            _end(child)
            sampler.stop()
        seconds = time.monotonic() - begin
        if child.returncode:
            errors.seek(0)
            raise ToolError(f"{' '.join(words)} → {child.returncode}:\n{errors.read()[-2000:]}")
        memory, user, system = told.read().split()
        peak = max(int(memory) * 1024, sampler.peak)
        return Cost(seconds, peak, float(user) + float(system))


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


class _Sampler(threading.Thread):
    """Adds up the proportional shares of all processes of one session; `peak` in bytes."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session, self._ended = session, threading.Event()
        self.peak = 0

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._ended.wait(SAMPLE_SECONDS):
            pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
            shares = [_share(pid) for pid in pids if _session_of(pid) == self._session]
            if len(shares) > 2:  # of `time` and one more the kernel's own figure is better
                self.peak = max(self.peak, sum(shares))

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()


def _session_of(pid: str) -> int:
    try:
        return os.getsid(int(pid))
    except OSError:
        return 0


def _share(pid: str) -> int:
    """Proportional share of a process in bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
