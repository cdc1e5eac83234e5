"""Unpacking of a layer's columns: streams of bytes, numbers and texts within their lengths."""

import bz2
import lzma
import re
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any, Protocol

from gantry.deltas.format import Codec, Column, DeltaError, Layer, Packing

PIECE = 64 * 1024
TEXT_LIMIT = 64 * 1024
# A stream of LZMA begins with a zero, and its end may be zeros: neither is in the file.
LZMA1_BEGIN = b"\0"
PADDING = bytes(32)
# The first byte of a number of more than one; and each byte and one.
_LONG = re.compile(rb"[\x80-\xff]")
_ONE_MORE = bytes([*range(1, 256), 0])
# So many are summed up at once; what is beyond the limit was in vain.
_SUMMED = 512


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...


def filters(packing: Packing) -> list[dict[str, Any]]:
    """What liblzma is told to pack or unpack without headers."""
    properties = packing.properties
    found: list[dict[str, Any]] = []
    if packing.distance:
        found.append({"id": lzma.FILTER_DELTA, "dist": packing.distance})
    found.append(
        {
            "id": lzma.FILTER_LZMA1 if packing.codec is Codec.LZMA1 else lzma.FILTER_LZMA2,
            "dict_size": 1 << packing.dictionary,
            "lc": properties % 9,
            "lp": properties // 9 % 5,
            "pb": properties // 45,
        }
    )
    return found


class Packed:
    """Packed bytes, unpacked piece by piece, never more than `raw`.

    They are the `encoded` ones at `offset` of what `read` gives.
    """

    def __init__(
        self,
        packing: Packing,
        raw: int,
        encoded: int,
        read: Callable[[int, int], bytes],
        offset: int = 0,
    ) -> None:
        self._read = read
        self._offset = offset
        self._end = offset + encoded
        self._left = raw
        self.crc = 0
        self._decompressor = _decompressor(packing)
        is_lzma = packing.codec in (Codec.LZMA1, Codec.LZMA2)
        self._before = LZMA1_BEGIN if packing.codec is Codec.LZMA1 else b""
        self._behind = PADDING if is_lzma else b""

    def piece(self) -> bytes:
        """More bytes, at most PIECE; empty at the end.

        Raises:
            DeltaError: the stream is damaged or ends too early.
        """
        limit = min(PIECE, self._left)
        while limit:
            decompressor = self._decompressor
            if decompressor is None:
                found = self._input(limit)
            else:
                try:
                    data = self._packed() if decompressor.needs_input else b""
                    if decompressor.eof or (decompressor.needs_input and not data):
                        raise DeltaError("a stream of the delta ends too early")
                    found = decompressor.decompress(data, limit)
                except (lzma.LZMAError, OSError, EOFError) as error:
                    raise DeltaError(f"a stream of the delta is damaged: {error}") from error
            if found or decompressor is None:
                if not found:
                    raise DeltaError("a stream of the delta ends too early")
                self._left -= len(found)
                return found
        return b""

    def finish(self) -> None:
        """Take what is left of the packed bytes into the check.

        Raises:
            DeltaError: not all of it was used.
        """
        if self._left:
            raise DeltaError(f"{self._left} bytes of a stream of the delta were not used")
        while self._input(PIECE):
            pass

    def _packed(self) -> bytes:
        """What the decompressor is to have next; empty at the end."""
        data = self._before + self._input(PIECE)
        self._before = b""
        if not data:
            data, self._behind = self._behind, b""
        return data

    def _input(self, length: int) -> bytes:
        length = min(length, self._end - self._offset)
        data = self._read(self._offset, length) if length else b""
        self._offset += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return data


def _decompressor(packing: Packing) -> _Decompressor | None:
    if packing.codec is Codec.RAW:
        return None
    if packing.codec is Codec.BZIP2:
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters(packing))


class Stream:
    """A column: its values are read one after the other."""

    def __init__(self, piece: Callable[[], bytes]) -> None:
        self._piece = piece
        self._data = b""
        self._position = 0

    def number(self) -> int:
        """A number. Raises DeltaError where none is left, or it has more than 64 bits."""
        data, at = self._data, self._position
        if at < len(data) and (byte := data[at]) < 0x80:
            self._position = at + 1
            return byte
        value = shift = 0
        while True:
            if at == len(data):
                self._more()
                data, at = self._data, 0
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if value >> 64 or shift > 63:
                raise DeltaError("the delta has a number without end")
            if byte < 0x80:
                self._position = at
                return value
            shift += 7

    def signed(self) -> int:
        value = self.number()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def text(self) -> bytes:
        """Bytes before the next NUL."""
        parts = []
        total = 0
        while True:
            if self._position == len(self._data):
                self._more()
            end = self._data.find(b"\0", self._position)
            part = self._data[self._position : end if end >= 0 else None]
            self._position += len(part) + (end >= 0)
            parts.append(part)
            total += len(part)
            if total > TEXT_LIMIT:
                raise DeltaError("the delta has a text without end")
            if end >= 0:
                return b"".join(parts)

    def some(self, limit: int) -> bytes:
        """At least one byte, at most `limit`, which is positive."""
        if self._position == len(self._data):
            self._more()
        found = self._data[self._position : self._position + limit]
        self._position += len(found)
        return found

    def exactly(self, length: int) -> bytes:
        """So many bytes, held in memory: for what is short."""
        found = self.some(length) if length else b""
        if len(found) == length:
            return found
        parts = [found]
        length -= len(found)
        while length:
            parts.append(self.some(length))
            length -= len(parts[-1])
        return b"".join(parts)

    def positions(self, first: int, limit: int) -> tuple[list[int], int | None]:
        """Numbers as distances: positions below `limit`, the first one at `first`, each further
        one so many behind the one before as the next number says, and one. With them the position
        that is not below it any more; None where no number is left.
        """
        found: list[int] = []
        position = first
        while position < limit:
            found.append(position)
            if self.ended():
                return found, None
            # There are a million of them: those of one byte are summed up many at a time.
            at, end = self._position, self._position + _SUMMED
            long = _LONG.search(self._data, at, end)
            steps = self._data[at : long.start() if long else end].translate(_ONE_MORE)
            if not steps:
                position += self.number() + 1
                continue
            sums = list(accumulate(steps, initial=position))
            below = bisect_left(sums, limit)
            if below < len(sums):
                self._position += below
                return found + sums[1:below], sums[below]
            self._position += len(steps)
            found += sums[1:-1]
            position = sums[-1]
        return found, position

    def ended(self) -> bool:
        if self._position == len(self._data):
            self._data, self._position = self._piece(), 0
        return not self._data

    def _more(self) -> None:
        self._data, self._position = self._piece(), 0
        if not self._data:
            raise DeltaError("a column of the delta ends too early")


class Columns:
    """All columns of a layer. `read` gives bytes of the file, its groups begin at `offset`."""

    def __init__(self, layer: Layer, read: Callable[[int, int], bytes], offset: int) -> None:
        self._packed: list[Packed] = []
        row = layer.row
        if row is not None:
            packed = Packed(
                row.packing,
                row.raw,
                len(row.content),
                lambda at, length: row.content[at : at + length],
            )
            self._streams = dict.fromkeys(Column, Stream(packed.piece))
            return
        self._streams = {column: Stream(lambda: b"") for column in Column}
        for group in layer.groups:
            packed = Packed(group.packing, group.raw, group.encoded, read, offset)
            offset += group.encoded
            self._packed.append(packed)
            if len(group.columns) == 1:
                self._streams[group.columns[0][0]] = Stream(packed.piece)
                continue
            together = Stream(packed.piece)
            for column, length in group.columns:
                pieces = iter([together.exactly(length)])
                self._streams[column] = Stream(lambda pieces=pieces: next(pieces, b""))  # type: ignore[misc]

    def __getitem__(self, column: Column) -> Stream:
        return self._streams[column]

    def finish(self) -> None:
        """See that all is used, and take into the check what is left.

        Raises:
            DeltaError: something is left over in a column.
        """
        for column, stream in self._streams.items():
            if not stream.ended():
                raise DeltaError(f"the delta has more {column.name.lower()} than it uses")
        for packed in self._packed:
            packed.finish()

    @property
    def check(self) -> int:
        """That of the layer's packed bytes, once all is read."""
        return _joined(packed.crc for packed in self._packed)


def check(layer: Layer, read: Callable[[int, int], bytes], offset: int) -> int:
    """The check of a layer's packed bytes, as they are in the file."""
    found = []
    for group in layer.groups:
        crc, end = 0, offset + group.encoded
        while data := read(offset, min(PIECE, end - offset)):
            crc = zlib.crc32(data, crc)
            offset += len(data)
        found.append(crc)
    return _joined(found)


def _joined(sums: Iterable[int]) -> int:
    joined = b"".join(each.to_bytes(4) for each in sums)
    return zlib.crc32(joined) if joined else 0
