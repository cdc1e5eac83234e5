"""The columns of a layer while they are written, and their packing."""

import bz2
import lzma
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from gantry.deltas.format import (
    MEMORY_LIMIT,
    Codec,
    Column,
    Group,
    Packing,
    varint,
    zigzag,
)
from gantry.deltas.packing import filters

_PIECE = 256 * 1024
# Columns up to this size are packed together, as far as that is smaller.
_SMALL = 128 * 1024
# Larger ones are looked at before: of every so many pieces one.
_LARGE = 4 * 1024**2
_SAMPLED = 16
_SETTINGS = ((3, 0, 0), (0, 0, 0), (3, 0, 2), (4, 0, 0), (0, 2, 2))


class Writer:
    """A column in a file of its own, so that memory does not grow with it."""

    def __init__(self, path: Path) -> None:
        self._stream: BinaryIO = path.open("w+b")
        path.unlink()
        self.length = 0

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self.length += len(data)

    def number(self, value: int) -> None:
        self.write(varint(value))

    def signed(self, value: int) -> None:
        self.write(varint(zigzag(value)))

    def text(self, value: bytes) -> None:
        self.write(value + b"\0")

    def pieces(self) -> Iterator[bytes]:
        self._stream.flush()
        offset = 0
        while data := os.pread(self._stream.fileno(), _PIECE, offset):
            offset += len(data)
            yield data

    def close(self) -> None:
        self._stream.close()


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """A group and its packed bytes, which are in a file."""

    group: Group
    content: Writer

    @property
    def crc(self) -> int:
        crc = 0
        for piece in self.content.pieces():
            crc = zlib.crc32(piece, crc)
        return crc


class Writers:
    """All columns of a layer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers = {column: Writer(folder / column.name.lower()) for column in Column}

    def __getitem__(self, column: Column) -> Writer:
        return self._writers[column]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def pack(self, workers: int) -> list[PackedGroup]:
        """The columns in groups, each packed by what makes it smallest."""
        small = [c for c, writer in self._writers.items() if 0 < writer.length <= _SMALL]
        large = [c for c, writer in self._writers.items() if writer.length > _SMALL]
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(self._packed, [column], len(large)) for column in large]
            groups = [job.result() for job in jobs]
            alone = list(pool.map(lambda column: self._packed([column], 16), small))
        if len(small) > 1:
            together = self._packed(small, 16)
            worse = [together]
            if together.group.encoded < sum(each.group.encoded + 4 for each in alone):
                worse, alone = alone, [together]
            for each in worse:
                each.content.close()
        return alone + groups

    def _packed(self, columns: list[Column], sharing: int) -> PackedGroup:
        total = sum(self._writers[column].length for column in columns)
        best: PackedGroup | None = None
        lengths = tuple((column, self._writers[column].length) for column in columns)
        # Packing what is packed already, or noise, takes minutes and makes it longer.
        is_dense = total > _LARGE and _is_dense(self._pieces(columns))
        for packing in (Packing(Codec.RAW),) if is_dense else _candidates(total, sharing):
            content = Writer(self._folder / f"packed-{columns[0].name.lower()}")
            for piece in _pack(packing, self._pieces(columns)):
                content.write(piece)
            found = PackedGroup(Group(packing, lengths, content.length), content)
            if best is None or content.length < best.group.encoded:
                if best is not None:
                    best.content.close()
                best = found
            else:
                content.close()
        if best is None:
            raise AssertionError("a column has no way to be packed")
        return best

    def _pieces(self, columns: list[Column]) -> Iterator[bytes]:
        for column in columns:
            yield from self._writers[column].pieces()


def _candidates(total: int, sharing: int) -> Iterator[Packing]:
    """Packings that are worth a try for so many bytes."""
    if total <= 256:
        yield Packing(Codec.RAW)
    limit = min(23, (MEMORY_LIMIT // max(sharing, 1)).bit_length() - 1)
    dictionary = max(12, min(limit, (total - 1).bit_length()))
    settings = _SETTINGS if total <= _LARGE else _SETTINGS[:1]
    codec = Codec.LZMA1
    for lc, lp, pb in settings:
        yield Packing(codec, lc + 9 * (lp + 5 * pb), dictionary)


def _is_dense(pieces: Iterator[bytes]) -> bool:
    """Whether what is in these cannot be made smaller, as far as some of them tell."""
    plain = packed = 0
    for piece in islice(pieces, 0, None, _SAMPLED):
        plain += len(piece)
        packed += len(zlib.compress(piece, 1))
    return packed > 0.98 * plain


def _pack(packing: Packing, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if packing.codec is Codec.RAW:
        yield from pieces
        return
    compressor: bz2.BZ2Compressor | lzma.LZMACompressor
    if packing.codec is Codec.BZIP2:
        compressor = bz2.BZ2Compressor(9)
    else:
        chain = filters(packing)
        chain[-1].update(mode=lzma.MODE_NORMAL, nice_len=273, mf=lzma.MF_BT4, depth=0)
        compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=chain)
    for piece in pieces:
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()
