"""What is written stays within what a reader takes, whatever the layers are."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from gantry.deltas.create.choosing import within
from gantry.deltas.create.columns import PackedGroup, Writers
from gantry.deltas.create.tars import Tar, on_disk
from gantry.deltas.entries import SHAPES_LIMIT
from gantry.deltas.format import (
    MEMORY_LIMIT,
    SIZE_LIMIT,
    TOGETHER_LIMIT,
    Codec,
    Column,
    Index,
    Layer,
    Order,
    Packing,
)
from gantry.deltas.headers import USUAL_SHAPES, parse
from gantry.deltas.index import encode, read
from gantry.deltas.names import Names
from tests.layers import CONFIG, dice, made, tar_of

KIB, MIB = 1024, 1024**2
NAMES = Names(CONFIG, (), (f"sha256:{64 * 'a'}",))


def lzma(dictionary: int) -> Packing:
    return Packing(Codec.LZMA1, 3, dictionary)


def text(seed: int, size: int) -> bytes:
    """Packs well, and fast, but not to nothing."""
    line = dice(seed).randbytes(64).hex().encode()
    return b"\n".join(line[n % 90 :] for n in range(size // 64))[:size].ljust(size, b".")


def packed(folder: Path, lengths: Mapping[Column, int]) -> list[PackedGroup]:
    """Columns of so many bytes, as they are packed; their index is what a reader takes."""
    columns = Writers(folder)
    for column, length in lengths.items():
        columns[column].write(text(column, length))
    groups = columns.pack(2)
    columns.close()
    layer = Layer(512, None, Order.FOLDERS, tuple(each.group for each in groups), 1)
    content = encode(Index((layer,)), NAMES, bare=True)
    payload = sum(each.group.encoded for each in groups)
    found = read(io.BytesIO(content), len(content) + payload, NAMES)
    assert found == (NAMES, Index((layer,)))
    told = {column: size for each in groups for column, size in each.group.columns}
    assert told == lengths
    for each in groups:
        each.content.close()
    return groups


def memory(groups: list[PackedGroup]) -> int:
    return sum(each.group.packing.memory for each in groups)


@pytest.mark.parametrize(("count", "size"), [(7, 1100 * KIB), (3, 2100 * KIB), (6, 1100 * KIB)])
def test_many_large_columns_and_many_small_ones(tmp_path: Path, count: int, size: int) -> None:
    lengths = {column: size if column < count else 90 * KIB for column in Column}
    groups = packed(tmp_path, lengths)
    # It is what would have been too much: seven times 2 MiB are 14.4, three times 4 MiB 12.2.
    assert 10 * MIB < memory(groups) <= MEMORY_LIMIT


def test_more_small_columns_than_may_be_together(tmp_path: Path) -> None:
    groups = packed(tmp_path, dict.fromkeys(Column, 128 * KIB))
    assert [len(each.group.columns) for each in groups] == [8, *[1] * 10]
    assert groups[0].group.raw == TOGETHER_LIMIT
    few = dict.fromkeys(Column, 20 * KIB)
    (tmp_path / "few").mkdir()
    (group,) = packed(tmp_path / "few", few)
    assert len(group.group.columns) == len(Column)


def test_dictionaries_are_halved_where_there_is_no_room() -> None:
    raw = Packing(Codec.RAW)
    fits = [[lzma(22)], [raw, lzma(20)], [raw]]
    assert within(fits, MEMORY_LIMIT) == fits
    assert within(fits, 5 * MIB + 128 * KIB) == fits
    assert within(fits, 5 * MIB) == [[lzma(21)], [raw, lzma(20)], [raw]]
    assert within([[lzma(21)]] * 7, MEMORY_LIMIT) == [[lzma(20)], *[[lzma(21)]] * 6]
    assert within([[raw]], 0) == [[raw]]


def header(name: str, owner: str = "", mtime: int = 0, size: int = 0, link: str = "") -> bytes:
    found = tarfile.TarInfo(name)
    found.uname, found.mtime, found.size, found.linkname = owner, mtime, size, link
    found.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
    return found.tobuf(tarfile.GNU_FORMAT)


def test_more_shapes_than_there_may_be_are_plain_bytes(tmp_path: Path) -> None:
    """Each header has an owner of its own; the last ones have the first one's."""
    many = SHAPES_LIMIT - len(USUAL_SHAPES) + 50
    content = b"twelve bytes".ljust(512, b"\0")
    owners = [*map(str, range(many)), *["0"] * 3]
    old = tar_of([])
    new = b"".join(
        header(f"file{number}", f"owner{owner}", size=12) + content
        for number, owner in enumerate(owners)
    ) + bytes(1024)
    found = made(tmp_path, [old], [new])
    assert found.rebuilt(found.targets[0].diff_id) == new


@pytest.mark.parametrize(
    "odd",
    [header("late", mtime=2**70), header("large", size=SIZE_LIMIT + 1, link="to")],
    ids=["mtime", "size"],
)
def test_numbers_that_are_too_large_are_plain_bytes(tmp_path: Path, odd: bytes) -> None:
    assert parse(odd) is not None
    before, end = header("before", mtime=5), bytes(1024)
    layer = before + odd + header("behind", mtime=6) + end
    for sources in ([], [before + end]):
        found = made(tmp_path / str(len(sources)), sources, [layer])
        assert found.rebuilt(found.targets[0].diff_id) == layer


def test_a_source_of_such_a_time_foretells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tar"
    path.write_bytes(header("late", mtime=2**70) + header("soon", mtime=5) + bytes(1024))
    tar = Tar(path)
    found = on_disk([*tar.entries()])
    tar.close()
    assert found
    assert [each.facts is None for each in found] == [True, False]
