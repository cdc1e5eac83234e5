"""A layer's tar from a delta, by a child process: what it needs of memory ends with it, and what a
hostile delta could ask for is limited."""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path

from gantry.deltas.arguments import UNFIT
from gantry.deltas.reader import Delta

# The child's own memory, and all that it may map, in bytes.
_DATA = 96 * 1024**2
_SPACE = 1024**3
_PIECE = 128 * 1024
# Applications go first.
_NICENESS = 10
# What the child inherits; of the rest it needs nothing.
_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE", "MALLOC_ARENA_MAX")
_LIMITS = (
    (resource.RLIMIT_DATA, _DATA),
    (resource.RLIMIT_AS, _SPACE),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_NOFILE, 256),
)


class RebuildError(OSError):
    """The layer cannot be rebuilt from what is here; the message is the child's last word."""


class ChildError(OSError):
    """The child could not be begun or was ended, or the machine failed it: of the delta, that says
    nothing."""


class Rebuilder:
    """Rebuilds layers, one at a time on the whole device: see `turn`. `folders` are those of source
    layers, by diffID."""

    def __init__(self, delta: Delta, folders: Mapping[str, Path], turn: asyncio.Semaphore) -> None:
        self._delta = delta
        self._folders = folders
        self._turn = turn
        self._children: set[asyncio.subprocess.Process] = set()
        self._is_closed = False

    async def tar(self, diff_id: str) -> AsyncGenerator[bytes, None]:
        """The tar of this layer. The last piece comes when the child says that the digest is right.

        Raises:
            RebuildError: it cannot be rebuilt.
            ChildError: it was not, this time.
        """
        async with self._turn:
            if self._is_closed:
                raise ChildError("it was given up")
            child = await self._begin(diff_id)
            try:
                async for piece in _pieces(child):
                    yield piece
            finally:
                await self._end(child)

    async def _begin(self, diff_id: str) -> asyncio.subprocess.Process:
        words = ["-s", "-m", "gantry.deltas.apply", str(self._delta.path), diff_id]
        # Of images with a hundred layers some 30 kB; the kernel takes two megabytes.
        for name in self._delta.sources:
            words += ["--source", f"{name}={self._folders[name]}"]
        words += ["--config", self._delta.config]
        for name in self._delta.names.layers:
            words += ["--layer", name]
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
                limit=_PIECE,
            )
        except OSError as error:
            raise ChildError(f"no process for it can be begun: {error.strerror}") from error
        self._children.add(child)
        # One that has ended already needs none; a host that refuses (a container's) has its own.
        with suppress(ProcessLookupError, PermissionError):
            for kind, limit in _LIMITS:
                resource.prlimit(child.pid, kind, (limit, limit))
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        return child

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            child.kill()
        # What it has written is read to its end: `wait` waits for that too, for ever where reading
        # had paused (https://github.com/python/cpython/issues/119710).
        await child.communicate()
        self._children.discard(child)

    def close(self) -> None:
        """End all children, and begin no more: who reads from them hears that they have failed."""
        self._is_closed = True
        for child in self._children:
            with suppress(ProcessLookupError):
                child.kill()


async def _pieces(child: asyncio.subprocess.Process) -> AsyncGenerator[bytes, None]:
    if child.stdout is None or child.stderr is None:
        raise RuntimeError("the child has no pipes")
    held = b""
    while piece := await child.stdout.read(_PIECE):
        if held:
            yield held
        held = piece
    said = (await child.stderr.read(2000)).decode(errors="replace").strip()
    status = await child.wait()
    if status < 0:
        raise ChildError(f"its process was ended by signal {-status}")
    if status != 0:
        last = said.splitlines()[-1] if said else f"it ended with status {status}"
        raise (RebuildError if status == UNFIT else ChildError)(last[:300])
    if held:
        yield held
