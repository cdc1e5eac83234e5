"""The folder of deltas that are on their way, in the supervisor's data directory.

A file is named by the image that it is for and by its own digest, so that after a loss of power it
is known which half is whose. What is there is hashed again before it is gone on with, and a whole
file before it is used: no byte is believed.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

_PIECE = 256 * 1024
# After so many new bytes they are on the disk: power that is lost costs no more.
_SYNC_EVERY = 1024**2


class DamagedError(Exception):
    """The file's content is another than its digest says. It is removed."""


def key(reference: str) -> str:
    """The beginning of the names of an image's files."""
    return hashlib.sha256(reference.encode()).hexdigest()[:32]


def tidy(folder: Path, kept: Iterable[str]) -> None:
    """Remove all files but those of images with these keys."""
    names = set(kept)
    with suppress(FileNotFoundError):
        for each in folder.iterdir():
            if each.name.partition("-")[0] not in names:
                each.unlink(missing_ok=True)


def remove(folder: Path, image: str, but: Path | None = None) -> None:
    """Remove all files of the image with this key, but for one."""
    for each in folder.glob(f"{image}-*"):
        if each != but:
            each.unlink(missing_ok=True)


def is_sound(path: Path) -> bool:
    """Whether a whole file is still what its name says. One that cannot be read is not."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == path.name.partition("-")[2]
    except OSError:
        return False


class DeltaFile:
    """One delta: the file with this digest, of `size` bytes. All of it blocks: for a thread."""

    def __init__(self, folder: Path, image: str, digest: str, size: int) -> None:
        self._folder = folder
        self._image = image
        self._hex = digest.partition(":")[2]
        self._size = size
        self._hash = hashlib.sha256()
        self._stream: IO[bytes] | None = None
        self._unsynced = 0
        self.path = folder / f"{image}-{self._hex}"
        self.length = 0

    def open(self) -> int:
        """Take up what is there already; how many bytes that is.

        Raises:
            OSError: the disk.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove(self._folder, self._image, but=self.path)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._stream = os.fdopen(descriptor, "r+b", buffering=0)
        while self.length < self._size and (piece := self._stream.read(_PIECE)):
            piece = piece[: self._size - self.length]
            self._hash.update(piece)
            self.length += len(piece)
        self._stream.truncate(self.length)
        self._stream.seek(self.length)
        return self.length

    def begin_anew(self) -> None:
        """The server would not go on: forget what is there."""
        self._hash = hashlib.sha256()
        self.length = 0
        if self._stream is not None:
            self._stream.seek(0)
            self._stream.truncate(0)

    def add(self, piece: bytes) -> None:
        """Write what comes next."""
        if self._stream is None:
            raise RuntimeError("the file is not open")
        rest = memoryview(piece)
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._hash.update(piece)
        self.length += len(piece)
        self._unsynced += len(piece)
        if self._unsynced >= _SYNC_EVERY:
            os.fsync(self._stream.fileno())
            self._unsynced = 0

    def finish(self) -> None:
        """See that the file is whole and what its digest says, and have it on the disk.

        Raises:
            DamagedError: it is not.
        """
        if self.length != self._size or self._hash.hexdigest() != self._hex:
            self.remove()
            raise DamagedError("the delta is damaged: its digest is not the announced one")
        if self._stream is not None and self._unsynced:
            os.fsync(self._stream.fileno())
        self.close()

    def close(self) -> None:
        """Leave the file as it is."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Close the file and remove it."""
        self.close()
        self.path.unlink(missing_ok=True)
