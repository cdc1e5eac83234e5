"""The doorway to the process that makes one delta: its limits, its progress, its end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from gantry.deltas.server.errors import FullError, NotTodayError, TemporaryError, WholeError
from gantry.deltas.server.generate_order import Order

COMMAND = (sys.executable, "-m", "gantry.deltas.server.generate")
LINE_LIMIT = 64 * 1024
# In seconds: how often it is looked whether the process has ended.
LOOK_SECONDS = 0.5


class DiedError(TemporaryError):
    """The process ended by itself, or was killed, without a word."""


async def generate(order: Order, seconds: int, on_percent: Callable[[int], None]) -> None:
    """Make what `order` says; cancelled, or after so many seconds by the clock, it is ended.

    Raises:
        WholeError: it cannot be made, or only with more memory than there is.
        NotTodayError: it takes too long.
        DiedError, TemporaryError: it may be tried again.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=LINE_LIMIT,
        # A group of its own: it may have helpers, who end with it.
        start_new_session=True,
    )
    watching = asyncio.create_task(_end_helpers(process))
    try:
        async with asyncio.timeout(seconds):
            await _follow(process, order.encode(), on_percent)
    except TimeoutError as error:
        raise NotTodayError(f"making it takes longer than {seconds} s") from error
    finally:
        watching.cancel()
        _kill(process)
        await process.wait()
        if process.stdin:
            process.stdin.close()


async def _end_helpers(process: asyncio.subprocess.Process) -> None:
    """End the helpers of a process that has ended: they have its output open, so that it would be
    waited for. (`Process.wait` waits for that too: https://github.com/python/cpython/issues/119710)
    """
    while process.returncode is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(LOOK_SECONDS)
    _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _follow(
    process: asyncio.subprocess.Process, order: bytes, on_percent: Callable[[int], None]
) -> None:
    assert process.stdin  # noqa: S101 - both are pipes
    assert process.stdout  # noqa: S101
    with contextlib.suppress(ConnectionError):
        process.stdin.write(order)
        await process.stdin.drain()
    async for line in process.stdout:
        match _told(line):
            case {"percent": int(percent)}:
                on_percent(percent)
            case {"size": int()}:
                return
            case {"whole": str(reason)}:
                raise WholeError(reason)
            case {"full": str(reason)}:
                raise FullError(f"the delta could not be made: {reason}")
            case {"failed": str(reason)}:
                raise TemporaryError(f"the delta could not be made: {reason}")
    raise DiedError(f"the process that makes it ended ({await process.wait()})")


def _told(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
