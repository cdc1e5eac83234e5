"""The tar that comes into being."""

import hashlib
from collections.abc import Callable

from gantry.deltas.format import DeltaError
from gantry.deltas.packing import PIECE

_ZEROS = bytes(PIECE)
# Small pieces are gathered before they are hashed and written.
_GATHER = 256 * 1024


class Output:
    """The tar that comes into being: never longer than it may be, and hashed on the way."""

    def __init__(self, diff_id: str, size: int, write: Callable[[bytes], object]) -> None:
        self._diff_id = diff_id
        self._size = size
        self._write = write
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._gathered = 0
        self.left = size

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise DeltaError(
                f"the layer would have more than its {self._size} bytes: "
                "a source file is not what it was"
            )
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= _GATHER:
            self._flush()

    def zeros(self, length: int) -> None:
        while length:
            self.write(_ZEROS[: min(length, len(_ZEROS))])
            length -= min(length, len(_ZEROS))

    def finish(self) -> None:
        self._flush()
        found = f"sha256:{self._hash.hexdigest()}"
        if self.left or found != self._diff_id:
            raise DeltaError(
                f"the rebuilt layer is {found} instead of {self._diff_id}: "
                "a source file is not what it was"
            )

    def _flush(self) -> None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._gathered = 0
        self._hash.update(data)
        self._write(data)
