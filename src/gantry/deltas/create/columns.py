"""The columns of a layer while they are written, and their packing."""

import bz2
import lzma
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from gantry.deltas.create.choosing import candidates, within
from gantry.deltas.create.trimming import LARGEST, trimmed
from gantry.deltas.format import (
    MEMORY_LIMIT,
    TOGETHER_LIMIT,
    Codec,
    Column,
    Group,
    Packing,
    Row,
)
from gantry.deltas.packing import LZMA1_BEGIN, filters

_PIECE = 256 * 1024
# Columns up to this size are packed together, as far as that is smaller.
_SMALL = 128 * 1024
# Unpacked, a layer of more bytes is not told by a row.
_ROW = 64 * 1024


class Line:
    """What a layer's columns are given, one behind the other, as far as that is little."""

    def __init__(self) -> None:
        self._content: bytearray | None = bytearray()

    def add(self, data: bytes | memoryview) -> None:
        if self._content is not None:
            self._content += data
            if len(self._content) > _ROW:
                self._content = None

    @property
    def is_full(self) -> bool:
        """Whether it was too much."""
        return self._content is None

    @property
    def content(self) -> bytes | None:
        """All of it; None where it is too much."""
        return None if self._content is None else bytes(self._content)


class Writer:
    """A column in a file of its own, so that memory does not grow with it."""

    def __init__(self, path: Path) -> None:
        self._stream: BinaryIO = path.open("w+b")
        path.unlink()
        self.length = 0

    def write(self, data: bytes | memoryview) -> None:
        self.length += self._stream.write(data)

    def read(self, offset: int, length: int) -> bytes:
        self._stream.flush()
        return os.pread(self._stream.fileno(), length, offset)

    def pieces(self) -> Iterator[bytes]:
        offset = 0
        while data := self.read(offset, _PIECE):
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
        self.line = Line()
        self._writers = {column: Writer(folder / column.name.lower()) for column in Column}

    def __getitem__(self, column: Column) -> Writer:
        return self._writers[column]

    def write(self, column: Column, data: bytes) -> None:
        """Write into a column, and into the line of all of them."""
        self._writers[column].write(data)
        self.line.add(data)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def row(self) -> Row | None:
        """All values in one row, packed by what makes it smallest; None for a large layer."""
        content = self.line.content
        if content is None:
            return None
        found = []
        for packing in candidates(len(content), 1, lambda at, n: content[at : at + n]):
            packed = b"".join(_pack(packing, iter([content])))
            found.append(Row(packing, len(content), trimmed(packing, content, packed)))
        found.append(Row(Packing(Codec.RAW), len(content), content))
        return min(found, key=lambda each: len(each.content))

    def pack(self, workers: int) -> list[PackedGroup]:
        """The columns in groups, each packed by what makes it smallest, as far as a reader's memory
        allows."""
        small = [c for c, writer in self._writers.items() if 0 < writer.length <= _SMALL]
        large = [c for c, writer in self._writers.items() if writer.length > _SMALL]
        with ThreadPoolExecutor(workers) as pool:
            groups = self._small(small, pool)
            room = MEMORY_LIMIT - sum(each.group.packing.memory for each in groups)
            found = within([self._candidates([column], len(large)) for column in large], room)
            jobs = [
                pool.submit(self._packed, [column], packings)
                for column, packings in zip(large, found, strict=True)
            ]
            return groups + [job.result() for job in jobs]

    def _small(self, columns: list[Column], pool: ThreadPoolExecutor) -> list[PackedGroup]:
        """Each alone, or as many as may be together where that is smaller."""
        packed = pool.map(lambda each: self._packed([each], self._candidates([each], 16)), columns)
        alone = dict(zip(columns, packed, strict=True))
        joined = self._joined(columns)
        if len(joined) < 2:
            return [*alone.values()]
        together = self._packed(joined, self._candidates(joined, 16))
        if together.group.encoded >= sum(alone[each].group.encoded + 4 for each in joined):
            together.content.close()
            return [*alone.values()]
        for each in joined:
            alone.pop(each).content.close()
        return [together, *alone.values()]

    def _joined(self, columns: list[Column]) -> list[Column]:
        """Those that may be packed together: as many as a reader takes."""
        total, joined = 0, set()
        for each in sorted(columns, key=lambda each: self._writers[each].length):
            total += self._writers[each].length
            if total <= TOGETHER_LIMIT:
                joined.add(each)
        return [each for each in columns if each in joined]

    def _candidates(self, columns: list[Column], sharing: int) -> list[Packing]:
        total = sum(self._writers[column].length for column in columns)
        return candidates(total, sharing, self._writers[columns[0]].read)

    def _packed(self, columns: list[Column], packings: list[Packing]) -> PackedGroup:
        best: PackedGroup | None = None
        lengths = tuple((column, self._writers[column].length) for column in columns)
        for packing in packings:
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
        return self._trimmed(best)

    def _trimmed(self, found: PackedGroup) -> PackedGroup:
        group = found.group
        if group.encoded > LARGEST or group.raw > LARGEST:
            return found
        columns = [column for column, _ in group.columns]
        content = b"".join(self._pieces(columns))
        packed = b"".join(found.content.pieces())
        shorter = trimmed(group.packing, content, packed)
        found.content.close()
        written = Writer(self._folder / f"packed-{columns[0].name.lower()}")
        written.write(shorter)
        return PackedGroup(replace(group, encoded=len(shorter)), written)

    def _pieces(self, columns: list[Column]) -> Iterator[bytes]:
        for column in columns:
            yield from self._writers[column].pieces()


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
    begin = LZMA1_BEGIN if packing.codec is Codec.LZMA1 else b""
    for piece in pieces:
        if packed := compressor.compress(piece):
            yield packed.removeprefix(begin)
            begin = b""
    yield compressor.flush().removeprefix(begin)
