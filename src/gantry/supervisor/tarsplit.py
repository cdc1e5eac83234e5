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
        return sum(each.size if isinstance(each, _File) else len(each) for each in self._entries())

    def pieces(self) -> Iterator[bytes]:
        """The tar.

        Raises:
            OSError: the list or a file cannot be read, or is another than it was.
        """
        for each in self._entries():
            if isinstance(each, bytes):
                yield each
            elif each.size:
                with _opened(self.folder, each.name) as stream:
                    yield from _content(stream, each.size, self.listing)

    def _entries(self) -> "Iterator[bytes | _File]":
        try:
            with gzip.open(self.listing, "rb") as lines:
                while line := lines.readline(_LINE):
                    yield _entry(json.loads(line))
        except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
            raise TarSplitError(f"{self.listing} cannot be understood: {error}") from error


@dataclass(frozen=True, slots=True)
class _File:
    """A file's content at this place of the tar."""

    name: bytes
    size: int


def _entry(document: dict[str, Any]) -> bytes | _File:
    kind, size = document["type"], document.get("size", 0)
    if kind == _STRETCH:
        return binascii.a2b_base64(document.get("payload") or "", strict_mode=True)
    if kind != _FILE or not isinstance(size, int) or size < 0:
        raise ValueError(f"an entry of type {kind!r:.40} and size {size!r:.40}")
    # A name that is no UTF-8 is in a field of its own.
    raw = document.get("name_raw")
    name = binascii.a2b_base64(raw, strict_mode=True) if raw else str(document["name"]).encode()
    return _File(name, size)


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
