"""A request's body as it arrives: unpacked and split into lines, with bounded memory."""

import zlib
from collections.abc import Iterator

from gantry.logs.errors import BadRequestError, UnsupportedError
from gantry.logs.lines import MAX_RAW

PIECE = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class Unpacker:
    """Undoes a content encoding piece by piece; never more than PIECE bytes at a time."""

    def __init__(self, encoding: str) -> None:
        """Raises UnsupportedError for an encoding other than gzip and identity."""
        if encoding not in ("", "identity", "gzip"):
            raise UnsupportedError(f"content encoding {encoding!r} is not spoken: use gzip or none")
        self._gzip = encoding == "gzip"
        self._inflate = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to.

        Raises:
            BadRequestError: it is not gzip.
        """
        if not self._gzip:
            if data:
                yield data
            return
        while data:
            if self._inflate.eof:  # one gzip member after another is one stream (RFC 1952, 2.2)
                self._inflate = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                raise BadRequestError(f"the body is not gzip: {error}") from error
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def finish(self) -> None:
        """Raises BadRequestError when the body ended in the middle of the gzip stream."""
        if self._gzip and self._begun and not self._inflate.eof:
            raise BadRequestError("the gzip stream ends before its end: send its lines again")


class Splitter:
    """Cuts a stream of bytes into lines. A line longer than MAX_RAW comes as None."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[bytes | None]:
        """The lines that `piece` completes; empty ones (heartbeats) are left out."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            yield from self._complete(piece[start:end])
            start = end + 1
        if self._skipping:
            return
        self._rest += piece[start:]
        if len(self._rest) > MAX_RAW:
            self._rest.clear()
            self._skipping = True

    def finish(self) -> Iterator[bytes | None]:
        """The last line, when no newline followed it."""
        yield from self._complete(b"")

    def _complete(self, end: bytes) -> Iterator[bytes | None]:
        too_long = self._skipping or len(self._rest) + len(end) > MAX_RAW
        line = b"" if too_long else bytes(self._rest + end).strip()
        self._rest.clear()
        self._skipping = False
        if too_long:
            yield None
        elif line:
            yield line
