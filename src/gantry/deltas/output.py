"""The tar that comes into being."""

import hashlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

from gantry.deltas.format import DeltaError
from gantry.deltas.packing import PIECE

_ZEROS = bytes(PIECE)
# Small pieces are gathered before they are hashed and written. Each takes some room of its own.
_GATHER = 128 * 1024
_EACH = 128


class Output:
    """The tar that comes into being: never longer than it may be, and hashed on the way.

    Of a larger one the hashing and writing are done beside, in a thread, which `close` ends.
    """

    def __init__(self, diff_id: str, size: int, write: Callable[[bytes], object]) -> None:
        self._diff_id = diff_id
        self._size = size
        self._write = write
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._gathered = 0
        self._beside: _Beside | None = None
        self._may_have_thread = True
        self.left = size

    def write(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            DeltaError: they are more than there may be.
            OSError: `write` raised it, for these or for earlier ones.
        """
        self.left -= len(data)
        if self.left < 0:
            raise DeltaError(
                f"the layer would have more than its {self._size} bytes: "
                "a source file is not what it was"
            )
        self._parts.append(data)
        self._gathered += len(data) + _EACH
        if self._gathered >= _GATHER:
            self._give(self._joined())

    def zeros(self, length: int) -> None:
        while length:
            self.write(_ZEROS[: min(length, len(_ZEROS))])
            length -= min(length, len(_ZEROS))

    def finish(self) -> None:
        """See that it is the layer. Raises DeltaError, and what `write` raises."""
        if self._beside is not None:
            self._beside.wait()
        self._take(self._joined())
        found = f"sha256:{self._hash.hexdigest()}"
        if self.left or found != self._diff_id:
            raise DeltaError(
                f"the rebuilt layer is {found} instead of {self._diff_id}: "
                "a source file is not what it was"
            )

    def close(self) -> None:
        """End what is done beside; nothing is written after it."""
        if self._beside is not None:
            self._beside.close()

    def _give(self, data: bytes) -> None:
        if self._beside is None and self._may_have_thread:
            try:
                self._beside = _Beside(self._take)
            except RuntimeError:  # no room for its stack, or no more threads allowed
                self._may_have_thread = False
        if self._beside is None:
            self._take(data)
        else:
            self._beside.give(data)

    def _joined(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        self._gathered = 0
        return data

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self._write(data)


class _Beside:
    """A thread that takes one piece after the other; while it has one, the next is made."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._taken: SimpleQueue[BaseException | None] = SimpleQueue()
        self._taken.put(None)
        self._is_free = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def give(self, piece: bytes) -> None:
        """Let it have a piece, once it is done with the one before. Raises what that one raised."""
        self.wait()
        self._is_free = False
        self._pieces.put(piece)

    def wait(self) -> None:
        """Until it has none. Raises what taking the last one raised."""
        if self._is_free:
            return
        error = self._taken.get()
        self._is_free = True
        try:
            if error is not None:
                raise error
        finally:
            del error

    def close(self) -> None:
        self._pieces.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                self._take(piece)
            except BaseException as error:
                self._taken.put(error)
            else:
                self._taken.put(None)
