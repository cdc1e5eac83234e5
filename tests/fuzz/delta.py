"""Fuzzing of what reads and applies deltas: `python -m tests.fuzz.delta [options of libFuzzer]`.

Whatever the bytes: a DeltaError, and never more output than the layer's size says. The first byte
says what the others are: a file as it is; names and an index, whose check is made right; the
columns of a layer, unpacked, so that the fuzzer gets past the checks that guard them; or a row of
one. It begins with real ones.
"""

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
    from gantry.deltas.format import Codec, Column, DeltaError, Packing
    from gantry.deltas.index import HEADER_LENGTH, encode_names

from tests.hostile import DIFF_ID, RAW, SOURCE, Packed, delta, row, signed
from tests.layers import Made, Member, dice, made, tar_of

FILE, INDEX, COLUMNS, ROW = range(4)
LARGEST = 1 << 20
LZMA = Packing(Codec.LZMA2, 93, 16)
_USED = (entries, headers, patch, sources)


class TooMuchError(Exception):
    """More came than the layer has."""


def sample(folder: Path, size: int) -> Made:
    """A true delta, with all kinds of entries, one of so many bytes that nothing shortens."""
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
        replace(old[2], name="unknown", content=chance.randbytes(size)),
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
        read = (lambda at, length: content[at : at + length], offset)
        stream = packing.Packed(group.packing, group.raw, group.encoded, *read)
        offset += group.encoded
        whole = b""
        while some := stream.piece():
            whole += some
        for column, length in group.columns:
            columns[column], whole = whole[:length], whole[length:]
    return layer.size, layer.base, columns


def unpacked_row(path: Path) -> bytes:
    """Size, base and row of a delta's first layer, as an input has them."""
    (layer,) = reader.Delta.open(path).index.layers
    told = layer.row
    if told is None:
        raise AssertionError("a small layer has no row")
    read = lambda at, length: told.content[at : at + length]  # noqa: E731
    stream = packing.Packed(told.packing, told.raw, len(told.content), read)
    return struct.pack("<IB", layer.size, layer.base is not None) + stream.piece()


def seeds(path: Path, small: Path) -> list[bytes]:
    """True deltas in each of the four ways."""
    content = path.read_bytes()
    found = reader.Delta.open(path)
    names = encode_names(found.names)
    rest = content[HEADER_LENGTH:]
    length = len(rest) - len(names) - found.index.payload
    size, base, columns = unpacked(path)
    told = struct.pack("<IB", size, base is not None)
    for column in Column:
        some = columns.get(column, b"")
        told += struct.pack("<HB", len(some), 0) + some
    return [
        bytes([FILE]) + content,
        bytes([INDEX]) + struct.pack("<HH", len(names), length) + rest,
        bytes([COLUMNS]) + told,
        bytes([FILE]) + small.read_bytes(),
        bytes([ROW]) + unpacked_row(small),
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
        kind, rest = data[0] % 4, data[1:]
        if kind == FILE:
            self._path.write_bytes(rest)
        elif kind == INDEX:
            self._path.write_bytes(self._signed(rest))
        elif not (self._columns(rest) if kind == COLUMNS else self._row(rest)):
            return
        self._apply()

    @staticmethod
    def _signed(rest: bytes) -> bytes:
        """Names and an index of these bytes, then a payload of them, or none."""
        begin, end = (int.from_bytes(rest[at : at + 2], "little") for at in (0, 2))
        names, index = rest[4 : 4 + begin], rest[4 + begin : 4 + begin + end]
        return signed(names, index, rest[4 + begin + end :] or None)

    def _row(self, rest: bytes) -> bool:
        """A delta of one layer with this row."""
        if len(rest) < 5:
            return False
        size, base = struct.unpack("<IB", rest[:5])
        row(self._path, Packed(len(rest) - 5, rest[5:]), size % LARGEST, 0 if base & 1 else None)
        return True

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
            if total > LARGEST:
                raise DeltaError("enough of it")

        try:
            apply.rebuild(found, layer.diff_id, places, write)
        except DeltaError:
            return
        finally:
            # What is raised while it is written would give way to an error of the delta.
            if total > layer.size:
                raise TooMuchError(f"{total} bytes of a layer of {layer.size}")
        if layer.diff_id == DIFF_ID:
            raise AssertionError("a layer with an invented digest was taken")


def main() -> None:
    """Fuzz until the options say that it is enough, or something else than a DeltaError comes."""
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        true = sample(folder / "sample", 17_000)
        small = sample(folder / "small", 1200)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(true.delta, small.delta)):
            (corpus / f"seed{number}").write_bytes(seed)
        target = Target(folder, true)
        for seed in corpus.iterdir():
            target(seed.read_bytes())
        atheris.Setup([*sys.argv, str(corpus)], target, enable_python_coverage=True)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
