"""A layer's blob becomes its tar: piece by piece, and checked on both sides."""

import hashlib
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from gantry.deltas.server.errors import TemporaryError, WholeError
from gantry.deltas.server.images import Layer

# What is made of a piece at a time: gzip may make a thousand times as much of it, zstd, whose
# output cannot be bounded, 128 KiB of four bytes.
OUTPUT_LIMIT = 1024**2
ZSTD_SLICE = 1024
_GZIP = 16 + zlib.MAX_WBITS


class _Decoder(Protocol):
    def feed(self, piece: bytes) -> Iterator[bytes]: ...

    def complete(self) -> bool: ...


class Unpacker:
    """Fed with a blob's bytes, it gives the tar's; at the end both digests must be right."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._blob = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._received = 0
        self.size = 0
        self._decoder: _Decoder | None = _decoder(layer.compression)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The next bytes of the tar, in pieces of which none is large.

        Raises:
            TemporaryError: these are not the blob's bytes.
        """
        self._blob.update(piece)
        self._received += len(piece)
        if self._received > self._layer.size:
            raise self._corrupt(f"it has more than {self._layer.size} bytes")
        try:
            for each in self._decoder.feed(piece) if self._decoder else (piece,):
                self._tar.update(each)
                self.size += len(each)
                yield each
        except (zlib.error, zstandard.ZstdError) as error:
            raise self._corrupt(str(error)) from error

    def finish(self) -> None:
        """All bytes were there.

        Raises:
            TemporaryError: the blob is another, or was cut off.
            WholeError: the blob is right, and the tar is not what the image says.
        """
        if f"sha256:{self._blob.hexdigest()}" != self._layer.digest:
            raise self._corrupt("its digest is another")
        diff_id = f"sha256:{self._tar.hexdigest()}"
        if diff_id != self._layer.diff_id or (self._decoder and not self._decoder.complete()):
            raise WholeError(
                f"layer {self._layer.digest} holds {diff_id}, not {self._layer.diff_id} as the "
                "image says"
            )

    def _corrupt(self, reason: str) -> TemporaryError:
        return TemporaryError(f"the registry sent a corrupt layer {self._layer.digest}: {reason}")


def _decoder(compression: str) -> _Decoder | None:
    match compression:
        case "gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
    return None


class _Gzip:
    """Several members after each other are one stream (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            out = self._member.decompress(piece, OUTPUT_LIMIT)
            yield out
            piece = self._member.unconsumed_tail or self._member.unused_data
            while not piece and len(out) == OUTPUT_LIMIT:
                # It has taken all of the input, and holds output back.
                out = self._member.decompress(b"", OUTPUT_LIMIT)
                yield out

    def complete(self) -> bool:
        return self._member.eof


class _Zstd:
    """Several frames after each other are one stream (RFC 8878)."""

    def __init__(self) -> None:
        self._frame = self._new()

    @staticmethod
    def _new() -> "zstandard.ZstdDecompressionObj":
        # A window over 128 MiB is not for the small: the library's own limit.
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        for start in range(0, len(piece), ZSTD_SLICE):
            left = piece[start : start + ZSTD_SLICE]
            while left:
                if self._frame.eof:
                    self._frame = self._new()
                yield self._frame.decompress(left)
                left = self._frame.unused_data

    def complete(self) -> bool:
        return self._frame.eof
