"""Deltas of somebody who means harm: refused, within the memory of any other."""

import lzma
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gantry.deltas import packing
from gantry.deltas.arguments import TROUBLE, UNFIT
from gantry.deltas.format import (
    Codec,
    Column,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    varint,
)
from gantry.deltas.headers import USUAL_SHAPES
from gantry.deltas.index import encode, encode_layer, encode_names
from gantry.deltas.names import Names
from gantry.deltas.reader import Delta, DeltaError
from tests.hostile import (
    CONFIG,
    DIFF_ID,
    RAW,
    SOURCE,
    Packed,
    delta,
    numbers,
    plain,
    row,
    shape_of,
    signed,
    written,
)
from tests.layers import ROOT, Made, Member, apply_measured, tar_of

MIB = 1024**2
MEMORY = 32 * MIB
SECRET = b"the secret of somebody else"
BIG = Packing(Codec.LZMA2, properties=93, dictionary=20)
# An entry with a name (bits 0 and 1) and a shape (bit 2) of its own, whose content is another
# file's, or new (bits 6 and 7).
REFERENCE, ENTRY_NEW = 0b11000110, 0b01000110
PLAIN, ZEROS = 0b00000011, 0b00000111
# The walk's file, after steps that are passed over.
WALK_SKIP = 0b00000001
# With a MiB more than it has already.
SHORT_OF_MEMORY = """
import re, resource, sys
from gantry.deltas.apply import main
kilobytes = re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]
limit = (int(kilobytes) + 1024) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""
SHAPE = {
    Column.FORMS: numbers(len(USUAL_SHAPES)),
    Column.SHAPES: plain(shape_of(tar_of([Member("any")])[:512])),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A source layer's folder with traps in it, and something outside."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    folder = tmp_path / "files"
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    (folder / "folder" / "inner").write_bytes(b"content")
    (folder / "out").symlink_to("../outside")
    (folder / "away").symlink_to(tmp_path / "outside")
    (folder / "link").symlink_to("../secret")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    if ROOT:
        os.mknod(folder / "zero", 0o20666, os.makedev(1, 5))
    return folder


def refused(path: Path, files: Path, out: Path) -> str:
    """Apply it in a process of its own; what it says. It must end by itself, and hold little."""
    code, said, peak = apply_measured(Made(path, {SOURCE: files}, ()), DIFF_ID, out, timeout=30)
    # Where it is the place that ends, nothing is said of the delta.
    assert code == (TROUBLE if "File too large" in said else UNFIT), said
    assert peak <= MEMORY
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    return said


def reference(path: bytes, patched: bool = False) -> Mapping[Column, Packed]:
    """An entry whose content is that of a source file, or made from it."""
    return {
        **SHAPE,
        Column.KINDS: plain(bytes([REFERENCE])),
        Column.LENGTHS: numbers(0, 0, 0),
        Column.NAMES: plain(b"stolen\0"),
        Column.REFERENCES: numbers(int(patched)),
        Column.MIDDLES: plain(path + b"\0"),
    }


@pytest.mark.parametrize(
    "path",
    [
        b"../secret",
        b"folder/../../secret",
        b"/etc/passwd",
        b"",
        b".",
        b"..",
        b"folder/.",
        b"folder//file",
        b"out/secret",
        b"away/secret",
        b"folder",
        b"link",
        b"loop",
        b"pipe",
        b"missing",
        b"file/below",
        pytest.param(b"zero", marks=pytest.mark.skipif(not ROOT, reason="makes a device")),
        b"/".join([b"d"] * 300),
        b"n" * 5000,
    ],
    ids=lambda path: path[:20].decode(),
)
def test_no_path_leads_out_of_the_source(path: bytes, files: Path, tmp_path: Path) -> None:
    """Whether it is copied, or patched with a size of the delta's own: that opens what is empty."""
    out = tmp_path / "out.tar"
    copied = delta(tmp_path / "copied", reference(path))
    refused(copied, files, out)
    assert SECRET not in out.read_bytes()
    columns = {
        **reference(path, patched=True),
        Column.KINDS: plain(bytes([REFERENCE | 1 << 5])),
        Column.META: numbers(1 << 4 | 1, ord("0")),
        Column.SIZES: numbers(len(SECRET) << 1),
        Column.ADDS: numbers(len(SECRET) + 1),
        Column.INSERTS: numbers(0),
        Column.DIFF: plain(bytes(len(SECRET))),
    }
    said = refused(delta(tmp_path / "patched", columns), files, out)
    assert "source" in said
    assert SECRET not in out.read_bytes()


def test_the_same_deltas_read_what_they_may(files: Path, tmp_path: Path) -> None:
    """So the ones before are refused for their paths: this one is for its digest alone."""
    out = tmp_path / "out.tar"
    said = refused(delta(tmp_path / "harmless", reference(b"folder/inner"), 1024), files, out)
    assert "instead of" in said
    assert b"content" in out.read_bytes()


@pytest.mark.parametrize("layer", [1, 2**20, 2**62])
def test_a_source_that_is_not_there(layer: int, files: Path, tmp_path: Path) -> None:
    columns = {**reference(b"file"), Column.REFERENCES: numbers(layer << 1)}
    refused(delta(tmp_path / "hostile", columns), files, tmp_path / "out.tar")


def zeros_packed(length: int) -> bytes:
    """So many zeros as LZMA2: some ten thousandth of them."""
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=packing.filters(BIG))
    parts = [packer.compress(bytes(MIB)) for _ in range(length // MIB)]
    return b"".join([*parts, packer.flush()])


ZEROS_PACKED = zeros_packed(32 * MIB)


@pytest.mark.parametrize("size", [2**20, 2**40])
def test_a_stream_that_unpacks_to_a_gigabyte(size: int, files: Path, tmp_path: Path) -> None:
    """Where the layer is smaller, and where it is larger than the disk."""
    bomb = Packed(2**30, ZEROS_PACKED, BIG)
    columns = {
        Column.KINDS: plain(bytes([PLAIN])),
        Column.LENGTHS: numbers(2**30),
        Column.NEW: bomb,
    }
    path = delta(tmp_path / "hostile", columns, size)
    limited(16 * MIB, lambda: refused(path, files, tmp_path / "out.tar"))
    assert (tmp_path / "out.tar").stat().st_size <= 16 * MIB


def limited(largest: int, work: object) -> None:
    """No file grows above this: what a full disk is to a device."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        work()  # type: ignore[operator]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_zeros_without_end(files: Path, tmp_path: Path) -> None:
    columns = {Column.KINDS: plain(bytes([ZEROS])), Column.LENGTHS: numbers(2**40)}
    small = delta(tmp_path / "small", columns, 2**20)
    assert "zeros" in refused(small, files, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").stat().st_size == 0
    large = delta(tmp_path / "large", columns, 2**40)
    limited(16 * MIB, lambda: refused(large, files, tmp_path / "out.tar"))


@pytest.mark.parametrize("column", [Column.NAMES, Column.LINKS, Column.MIDDLES])
def test_texts_without_end(column: Column, files: Path, tmp_path: Path) -> None:
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=packing.filters(BIG))
    endless = b"".join([*(packer.compress(b"a" * MIB) for _ in range(2)), packer.flush()])
    columns = {
        **reference(b"file"),
        Column.KINDS: plain(bytes([REFERENCE | 1 << 5])),
        Column.META: numbers(0b111111, 48, 0, 0, 0, 0),
        Column.SIZES: numbers(0),
        column: Packed(2 * MIB, endless, BIG),
    }
    refused(delta(tmp_path / "hostile", columns), files, tmp_path / "out.tar")


@pytest.mark.parametrize("column", [Column.LENGTHS, Column.REFERENCES])
def test_numbers_without_end(column: Column, files: Path, tmp_path: Path) -> None:
    columns = {**reference(b"file"), column: plain(b"\xff" * 100_000)}
    refused(delta(tmp_path / "hostile", columns), files, tmp_path / "out.tar")


@pytest.mark.parametrize("size", [2**35, 2**63 - 1])
def test_a_file_that_claims_to_be_huge(size: int, files: Path, tmp_path: Path) -> None:
    columns = {
        **SHAPE,
        Column.KINDS: plain(bytes([ENTRY_NEW])),
        Column.LENGTHS: numbers(0),
        Column.NAMES: plain(b"huge\0"),
        Column.SIZES: numbers(size << 1),
        Column.NEW: plain(b"little"),
    }
    refused(delta(tmp_path / "hostile", columns, 2**40), files, tmp_path / "out.tar")


@pytest.mark.parametrize("seek", [-1, -(2**40), 2**40, 2**62])
def test_a_patch_that_reads_beside_its_file(seek: int, files: Path, tmp_path: Path) -> None:
    zigzag = seek << 1 if seek >= 0 else (-seek << 1) - 1
    columns = {
        **reference(b"file"),
        Column.REFERENCES: numbers(1),
        Column.ADDS: numbers(2, 7),
        Column.INSERTS: numbers(0, 0),
        Column.SEEKS: numbers(zigzag, 0),
        Column.DIFF: plain(bytes(7)),
    }
    said = refused(delta(tmp_path / "hostile", columns), files, tmp_path / "out.tar")
    assert "shorter" in said


@pytest.mark.parametrize("step", [numbers(0, 1), numbers(2, 0, 1), numbers(2)])
def test_steps_of_a_byte(step: Packed, files: Path, tmp_path: Path) -> None:
    """Hundreds of thousands of pieces do not take much more room than their bytes."""
    count = 300_000
    (files / "file").write_bytes(bytes(2 * count))
    columns = {
        **reference(b"file", patched=True),
        Column.ADDS: plain(step.content * count),
        Column.INSERTS: plain(bytes(count)),
        Column.SEEKS: plain(bytes(count)),
    }
    refused(delta(tmp_path / "hostile", columns, 2**20), files, tmp_path / "out.tar")


@pytest.mark.parametrize("gaps", [numbers(2**63), plain(b"\xff" * 100_000), plain(bytes(100_000))])
def test_differences_that_are_not_there(gaps: Packed, files: Path, tmp_path: Path) -> None:
    """Words that lie behind the file, numbers without end, more places than words."""
    columns = {
        **reference(b"file", patched=True),
        Column.ADDS: numbers(8),
        Column.INSERTS: numbers(0),
        Column.SEEKS: numbers(0),
        Column.DIFF: plain(b"wor"),
        Column.GAPS: gaps,
    }
    refused(delta(tmp_path / "hostile", columns, 1024), files, tmp_path / "out.tar")


def test_entries_without_end(files: Path, tmp_path: Path) -> None:
    """A hundred thousand that give nothing, in a few bytes: their column is the end of it."""
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=packing.filters(BIG))
    kinds = packer.compress(bytes([PLAIN]) * (MIB // 8)) + packer.flush()
    lengths = zeros_packed(MIB)
    columns = {
        Column.KINDS: Packed(MIB // 8, kinds, BIG),
        Column.LENGTHS: Packed(MIB, lengths, BIG),
    }
    refused(delta(tmp_path / "hostile", columns, 2**20), files, tmp_path / "out.tar")


def test_a_walk_through_a_folder_of_very_many_names(files: Path, tmp_path: Path) -> None:
    for number in range(60_000):
        os.mknod(files / "folder" / f"{number:060}")
    columns = {
        Column.KINDS: plain(bytes([WALK_SKIP])),
        Column.LENGTHS: numbers(50_000),
    }
    path = delta(tmp_path / "hostile", columns, base=0)
    assert "too many names to walk through" in refused(path, files, tmp_path / "out.tar")


def test_memory_that_is_not_there(files: Path, tmp_path: Path) -> None:
    """What the decoder would take is more than the process may have."""
    big = Packing(Codec.LZMA2, properties=93, dictionary=23)
    columns = {Column.KINDS: Packed(MIB, zeros_packed(MIB), big)}
    path = delta(tmp_path / "large", columns)
    words = [sys.executable, "-c", SHORT_OF_MEMORY, str(path), DIFF_ID]
    done = subprocess.run(
        [*words, "--source", f"{SOURCE}={files}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "it takes more memory than this process may have\n"


# What is refused before anything is applied.


def opened(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused_at_opening(path)


def refused_at_opening(path: Path) -> None:
    with pytest.raises(DeltaError):
        Delta.open(path)


NAMED = encode_names(Names(CONFIG, (), (DIFF_ID,)))


def test_the_helper_signs_as_the_library_does() -> None:
    for groups in ((), (Group(RAW, ((Column.NEW, 3),), 3),)):
        layer = Layer(10, None, Order.FOLDERS, groups, 5 if groups else 0)
        names = Names(CONFIG, (), (DIFF_ID,))
        content = encode(Index((layer,)), names, bare=False)
        index = encode_layer(layer, is_last=True)
        assert signed(NAMED, index, b"" if groups else None) == content


@pytest.mark.parametrize("count", [5000, 2**31, 2**62, 2**70])
def test_huge_counts(count: int, tmp_path: Path) -> None:
    config = bytes(32)
    endless = varint(count)
    opened(tmp_path / "sources", signed(config + endless, b""))
    opened(tmp_path / "layers", signed(config + varint(0) + endless, b""))
    layer = varint(10) + varint(0)
    opened(tmp_path / "row", signed(NAMED, layer + b"\x84" + varint(count * 1000)))
    opened(tmp_path / "group", signed(NAMED, layer + b"\x01" + bytes(4) + b"\x00" + endless))
    opened(tmp_path / "length", signed(NAMED, layer + b"\x01" + bytes(6) + endless))
    opened(tmp_path / "size", signed(NAMED, endless))


def test_an_index_of_a_length_that_may_not_be(tmp_path: Path) -> None:
    opened(tmp_path / "hostile", signed(NAMED, bytes(2**20 + 1)))
    opened(tmp_path / "hostile", signed(NAMED, bytes(2**20 + 1), b"payload"))
    # So the file is not even read: a terabyte of nothing that claims to be a row.
    with (tmp_path / "hostile").open("wb") as file:
        file.write(signed(NAMED, varint(10) + varint(0) + b"\x80"))
        file.truncate(2**40)
    with pytest.raises(DeltaError, match="at most"):
        Delta.open(tmp_path / "hostile")


def test_a_row_that_unpacks_to_a_megabyte(files: Path, tmp_path: Path) -> None:
    """Where it is read as a name, as new bytes, and as a file's steps."""
    out = tmp_path / "out.tar"
    name = bytes([ENTRY_NEW]) + varint(0)
    for begin in (name, bytes([PLAIN]) + varint(2**30), bytes([ZEROS]) + varint(2**40)):
        packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=packing.filters(BIG))
        packed = packer.compress(begin + b"a" * (8 * MIB)) + packer.flush()
        path = row(tmp_path / "hostile", Packed(MIB, packed, BIG))
        limited(16 * MIB, lambda path=path: refused(path, files, out))


def test_a_row_that_is_longer_or_shorter_than_it_says(files: Path, tmp_path: Path) -> None:
    content = bytes([0b00001011])  # zeros up to the end: all that is needed
    out = tmp_path / "out.tar"
    said = refused(row(tmp_path / "right", plain(content), 1024), files, out)
    assert "instead of" in said
    said = refused(row(tmp_path / "more", plain(content * 2), 1024), files, out)
    assert "instead of" in said
    assert "too early" in refused(row(tmp_path / "less", plain(b""), 1024), files, out)
    for length in (0, 2, MIB, 2**40):
        packed = Packed(length, packed_small(content), SMALL)
        refused(row(tmp_path / "packed", packed, 1024), files, out)


SMALL = Packing(Codec.LZMA1, 93, 12)


def packed_small(content: bytes) -> bytes:
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=packing.filters(SMALL))
    return (packer.compress(content) + packer.flush())[1:]


def test_zeros_behind_a_stream_come_to_an_end(files: Path, tmp_path: Path) -> None:
    """A stream may end early, as zeros follow; not endlessly many do."""
    columns = {
        Column.KINDS: plain(bytes([PLAIN])),
        Column.LENGTHS: numbers(2**30),
        Column.NEW: Packed(2**30, packed_small(bytes(2 * MIB))[:-8], SMALL),
    }
    path = delta(tmp_path / "hostile", columns, 2**40)
    limited(16 * MIB, lambda: refused(path, files, tmp_path / "out.tar"))


def test_lengths_that_do_not_add_up(tmp_path: Path) -> None:
    group = Group(Packing(Codec.RAW), ((Column.NEW, 2**39),), 2**39)
    layer = Layer(2**39, None, Order.FOLDERS, (group,))
    refused_at_opening(written(tmp_path / "hostile", (layer,), payload=b"little"))


def test_columns_that_would_be_held_in_memory_together(tmp_path: Path) -> None:
    columns = ((Column.NAMES, 2**30), (Column.LINKS, 2**30))
    group = Group(Packing(Codec.LZMA2, 93, 20), columns, 10)
    layer = Layer(2**39, None, Order.FOLDERS, (group,))
    refused_at_opening(written(tmp_path / "hostile", (layer,), payload=bytes(10)))


def test_dictionaries_that_together_are_too_large(tmp_path: Path) -> None:
    groups = tuple(
        Group(Packing(Codec.LZMA2, 93, 23), ((column, 10),), 10) for column in list(Column)[:4]
    )
    layer = Layer(2**20, None, Order.FOLDERS, groups)
    refused_at_opening(written(tmp_path / "hostile", (layer,), payload=bytes(40)))


@pytest.mark.parametrize("dictionary", [24, 31, 40, 255])
def test_one_dictionary_that_is_too_large(dictionary: int, tmp_path: Path) -> None:
    group = Group(Packing(Codec.LZMA1, 93, dictionary), ((Column.NEW, 10),), 10)
    layer = Layer(2**20, None, Order.FOLDERS, (group,))
    refused_at_opening(written(tmp_path / "hostile", (layer,), payload=bytes(10)))
