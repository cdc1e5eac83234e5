"""Fuzzing of what reads and applies deltas: `python -m tests.fuzz.delta [options of libFuzzer]`.

Whatever the bytes: a DeltaError, and never more output than the layer's size says. The first byte
says what the others are: a file as it is; an index, whose check is made right; or the columns of a
layer, unpacked, so that the fuzzer gets past the checks that guard them. It begins with real ones.
"""

import hashlib
import struct
import sys
import tarfile
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gantry.deltas"]):
    from gantry.deltas import apply, entries, headers, packing, patch, reader, sources
    from gantry.deltas.format import (
        HEADER_LENGTH,
        Codec,
        Column,
        DeltaError,
        Index,
        Packing,
        encode_index,
    )

from tests.hostile import CONFIG, DIFF_ID, RAW, SOURCE, Packed, delta
from tests.layers import Made, Member, dice, made, tar_of

FILE, INDEX, COLUMNS = range(3)
LARGEST = 1 << 20
LZMA = Packing(Codec.LZMA2, 93, 16)
_USED = (entries, headers, patch, sources)


class TooMuchError(Exception):
    """More came than the layer has."""


def sample(folder: Path) -> Made:
    """A true delta, with all kinds of entries."""
    chance = dice(1)
    noise = chance.randbytes(3000)
    old = [
        Member("a", tarfile.DIRTYPE, mode=0o755),
        Member("a/file", content=b"some content\n" * 50),
        Member("a/noise", content=noise),
        Member("link", tarfile.SYMTYPE, link="a/file"),
        Member("pipe", tarfile.FIFOTYPE),
    ]
    new = [
        old[0],
        replace(old[1], content=b"some other content\n" + old[1].content, mtime=1_800_000_000),
        replace(old[2], name="b/moved", content=noise[:1000] + b"changed" + noise[1100:]),
        replace(old[2], name="c/copy", pax={"comment": "told"}),
        *old[3:],
        Member("new", content=b"nobody had this\n" * 9, mode=0o600, uid=5),
        Member("hard", tarfile.LNKTYPE, link="new"),
    ]
    return made(folder, [tar_of(old)], [tar_of(new)])


def unpacked(path: Path) -> tuple[int, int | None, dict[Column, bytes]]:
    """Size, base and columns of a delta's first layer."""
    found = reader.Delta.open(path)
    layer, offset = found.find(found.layers[0].diff_id)
    content = path.read_bytes()
    columns = {}
    for group in layer.groups:
        stream = packing.Packed(group, lambda at, length: content[at : at + length], offset)
        offset += group.encoded
        whole = b""
        while some := stream.piece():
            whole += some
        for column, length in group.columns:
            columns[column], whole = whole[:length], whole[length:]
    return layer.size, layer.base, columns


def seeds(path: Path) -> list[bytes]:
    """A true delta in each of the three ways."""
    content = path.read_bytes()
    (length,) = struct.unpack(">I", content[12:16])
    rest = content[HEADER_LENGTH:]
    size, base, columns = unpacked(path)
    told = struct.pack("<IB", size, base is not None)
    for column in Column:
        some = columns.get(column, b"")
        told += struct.pack("<HB", len(some), 0) + some
    return [
        bytes([FILE]) + content,
        bytes([INDEX]) + struct.pack("<H", length) + rest,
        bytes([COLUMNS]) + told,
    ]


class Target:
    """What is fuzzed."""

    def __init__(self, folder: Path, true: Made) -> None:
        self._path = folder / "fuzzed"
        (self._files,) = true.folders.values()

    def __call__(self, data: bytes) -> None:
        """One input."""
        if not data:
            return
        kind, rest = data[0] % 3, data[1:]
        if kind == FILE:
            self._path.write_bytes(rest)
        elif kind == INDEX:
            self._path.write_bytes(self._signed(rest))
        elif not self._columns(rest):
            return
        self._apply()

    @staticmethod
    def _signed(rest: bytes) -> bytes:
        """An index of these bytes, then a payload of them."""
        length = int.from_bytes(rest[:2], "little")
        index, payload = rest[2 : 2 + length], rest[2 + length :]
        check = hashlib.sha256(index).digest()[:8]
        header = encode_index(Index(CONFIG, (), ()))[:HEADER_LENGTH]
        return header[:12] + struct.pack(">I", len(index)) + check + index + payload

    def _columns(self, rest: bytes) -> bool:
        """A delta of one layer with these columns, some of which are packed, truly or not."""
        if len(rest) < 5:
            return False
        size, base = struct.unpack("<IB", rest[:5])
        rest = rest[5:]
        columns = {}
        for column in Column:
            if len(rest) < 3:
                break
            length, how = struct.unpack("<HB", rest[:3])
            content, rest = rest[3 : 3 + length], rest[3 + length :]
            if content:
                lie = how & 0x7F if how & 0x80 else 0
                columns[column] = Packed(len(content) + lie, content, LZMA if lie else RAW)
        delta(self._path, columns, size % LARGEST, 0 if base & 1 else None)
        return True

    def _apply(self) -> None:
        try:
            found = reader.Delta.open(self._path)
            places = dict.fromkeys([*found.sources, SOURCE], self._files)
            for layer in found.layers:
                self._rebuild(found, layer, places)
        except DeltaError:
            pass

    @staticmethod
    def _rebuild(found: reader.Delta, layer: reader.DeltaLayer, places: dict[str, Path]) -> None:
        total = 0

        def write(some: bytes) -> None:
            nonlocal total
            total += len(some)
            if total > layer.size:
                raise TooMuchError(f"{total} bytes of a layer of {layer.size}")
            if total > LARGEST:
                raise DeltaError("enough of it")

        try:
            apply.rebuild(found, layer.diff_id, places, write)
        except DeltaError:
            return
        if layer.diff_id == DIFF_ID:
            raise AssertionError("a layer with an invented digest was taken")


def main() -> None:
    """Fuzz until the options say that it is enough, or something else than a DeltaError comes."""
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        true = sample(folder / "sample")
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(true.delta)):
            (corpus / f"seed{number}").write_bytes(seed)
        target = Target(folder, true)
        for seed in corpus.iterdir():
            target(seed.read_bytes())
        atheris.Setup([*sys.argv, str(corpus)], target, enable_python_coverage=True)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
