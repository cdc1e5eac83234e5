"""A layer's tar, put together again from what the engine keeps of it: bit for bit as it came.

overlay2 keeps for each layer a list, gzip of JSON lines (https://github.com/vbatts/tar-split):
stretches of the tar as they were (headers, padding), and between them files whose content is in the
layer's folder.
"""

import binascii
import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PIECE = 256 * 1024
_LINE = 4 * 1024**2  # bytes: names and stretches are far shorter
_FILE, _STRETCH = 1, 2


class TarSplitError(OSError):
    """The list, or what it names, is not as it must be."""


@dataclass(frozen=True, slots=True)
class SplitTar:
    """One layer: the list, and the folder with the files."""

    listing: Path
    folder: Path

    def size(self) -> int:
        """Bytes of the tar.

        Raises:
            OSError: the list cannot be read.
        """
        total = 0
        for kind, entry in self._entries():
            total += len(_payload(entry)) if kind == _STRETCH else _size(entry)
        return total

    def pieces(self) -> Iterator[bytes]:
        """The tar.

        Raises:
            OSError: the list or a file cannot be read, or is another than it was.
        """
        for kind, entry in self._entries():
            if kind == _STRETCH:
                yield _payload(entry)
            elif size := _size(entry):
                with _opened(self.folder, _name(entry)) as stream:
                    yield from _content(stream, size, self.listing)

    def _entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with gzip.open(self.listing, "rb") as lines:
                while line := lines.readline(_LINE):
                    entry = json.loads(line)
                    kind = entry["type"]
                    if kind not in (_FILE, _STRETCH):
                        raise ValueError(f"an entry of type {kind!r:.40}")
                    yield kind, entry
        except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
            raise TarSplitError(f"{self.listing} cannot be understood: {error}") from error


def _payload(entry: dict[str, Any]) -> bytes:
    return binascii.a2b_base64(entry.get("payload") or "")


def _size(entry: dict[str, Any]) -> int:
    size = entry.get("size", 0)
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"a size of {size!r:.40}")
    return size


def _name(entry: dict[str, Any]) -> bytes:
    """A name that is no UTF-8 is in a field of its own."""
    if raw := entry.get("name_raw"):
        return binascii.a2b_base64(raw)
    return str(entry["name"]).encode()


def _opened(folder: Path, name: bytes) -> IO[bytes]:
    """A file below the folder, on a way without links."""
    words = [each for each in name.split(b"/") if each not in (b"", b".")]
    if not words or b".." in words:
        raise TarSplitError(f"{folder}: a file called {name!r:.120}")
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        for word in words[:-1]:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            above, directory = directory, os.open(word, flags, dir_fd=directory)
            os.close(above)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        opened = os.open(words[-1], flags, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        with suppress(OSError):
            os.close(opened)
        raise TarSplitError(f"{folder}: {name!r:.120} is no file")
    return os.fdopen(opened, "rb")


def _content(stream: IO[bytes], size: int, listing: Path) -> Iterator[bytes]:
    while size > 0:
        piece = stream.read(min(PIECE, size))
        if not piece:
            raise TarSplitError(f"{listing}: a file is shorter than it was")
        size -= len(piece)
        yield piece
