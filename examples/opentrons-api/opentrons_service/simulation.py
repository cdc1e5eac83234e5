"""Simulations, each in a process that is killed when it takes too long."""

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a protocol would do. Entries have `level`, `text` and `logs`."""

    runlog: list[dict[str, Any]]
    seconds: float


class ProtocolError(Exception):
    """The protocol cannot be simulated; `kind` is the name of its exception."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TooLongError(Exception):
    """The simulation was ended after its time."""


class Simulator:
    """Starts simulations. `max_seconds` bounds each of them."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["opentrons_service.worker"])

    def warm_up(self) -> float:
        """Loads `opentrons`, for which the first simulation would wait; the seconds it took."""
        start = time.monotonic()
        self._run("warm_up", max_seconds=None)
        return time.monotonic() - start

    def simulate(self, content: bytes, name: str) -> Simulated:
        """Simulates the protocol in `content`; `name` decides whether it is Python or JSON.

        Raises:
            ProtocolError: the protocol is wrong, in its own words.
            TooLongError: it was killed.
        """
        start = time.monotonic()
        answer = self._run("run", content, name, max_seconds=self._max_seconds)
        if answer[0] == "failed":
            raise ProtocolError(answer[1], answer[2])
        return Simulated(answer[1], time.monotonic() - start)

    def _run(self, function: str, *arguments: object, max_seconds: float | None) -> Any:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_call, args=(function, sender, *arguments))
        process.start()
        sender.close()
        try:
            if not receiver.poll(max_seconds):
                raise TooLongError(f"ended after {max_seconds:.0f} s: it may never have ended")
            return receiver.recv()
        except EOFError:
            process.join(5)
            raise ProtocolError("Ended", f"its process ended: {process.exitcode}") from None
        finally:
            receiver.close()
            _end(process)


def _call(function: str, *arguments: object) -> None:
    """Runs in the process, where alone `opentrons` is imported: it has 100 MB."""
    from opentrons_service import worker

    getattr(worker, function)(*arguments)


def _end(process: BaseProcess) -> None:
    process.join(0.2)
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
