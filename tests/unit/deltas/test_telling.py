"""What a small delta is told by: steps of patches, usual shapes, ends of streams."""

import asyncio
from pathlib import Path

import pytest

from gantry.deltas.create.columns import Writers, _pack
from gantry.deltas.create.steps import Steps
from gantry.deltas.create.trimming import trimmed
from gantry.deltas.format import Codec, Column, Packing
from gantry.deltas.headers import SHAPE_LENGTH, USUAL_SHAPES, read_shape
from gantry.deltas.packing import Packed
from gantry.supervisor.deltas.rebuilding import Rebuilder
from tests.layers import Member, dice, made, tar_of

ADDS, INSERTS, SEEKS = Column.ADDS, Column.INSERTS, Column.SEEKS


def told(least: int, size: int, *steps: tuple[int, bytes, bytes]) -> list[tuple[Column, bytes]]:
    """What steps write, but for new bytes that there are none of."""
    found: list[tuple[Column, bytes]] = []
    telling = Steps(least, size, lambda column, data: found.append((column, bytes(data))))
    for position, difference, new in steps:
        telling.step(position, difference, new)
    return [each for each in found if each[1]]


def test_a_file_that_is_as_its_source_is_two_bytes() -> None:
    assert told(4, 5000, (0, bytes(5000), b"")) == [(ADDS, b"\0\0")]


def test_what_is_the_same_in_the_middle_costs_no_differences() -> None:
    steps = told(4, 107, (0, b"\1" + bytes(100) + b"\2", b"new"), (105, b"\0\0", b""))
    assert steps == [
        *((ADDS, b"\2"), (INSERTS, b"\0"), (SEEKS, b"\0"), (Column.DIFF, b"\1")),
        (ADDS, b"\0\x64"),
        *((ADDS, b"\2"), (INSERTS, b"\3"), (SEEKS, b"\0"), (Column.DIFF, b"\2")),
        (Column.NEW, b"new"),
        *((ADDS, b"\3"), (INSERTS, b"\0"), (SEEKS, b"\0"), (Column.DIFF, b"\0\0")),
    ]


def test_where_the_source_goes_on_is_told_by_a_step_with_differences() -> None:
    assert told(4, 40, (7, bytes(30), b"")) == [
        *((ADDS, b"\2"), (INSERTS, b"\0"), (SEEKS, b"\x0e"), (Column.DIFF, b"\0")),
        (ADDS, b"\0\x1d"),
    ]
    # Too short a row of zeros, and only new bytes.
    assert told(4, 6, (0, bytes(3), b""), (9, b"", b"new")) == [
        *((ADDS, b"\4"), (INSERTS, b"\0"), (SEEKS, b"\0"), (Column.DIFF, bytes(3))),
        *((ADDS, b"\1"), (INSERTS, b"\3"), (Column.NEW, b"new")),
    ]


@pytest.mark.parametrize("least", [1, 2, 12, 4096])
def test_steps_are_what_a_reader_makes_of_them(least: int, tmp_path: Path) -> None:
    """Whole files, changed here and there, in rows and in columns."""
    chance = dice(least)
    for size in (40, 9000, 150_000):
        source = chance.randbytes(size)
        target = bytearray(source)
        for _ in range(12):
            at = chance.randrange(size)
            kind = chance.randrange(3)
            target[at : at + kind * 3] = chance.randbytes(kind * chance.randrange(1, 40))
        old, new = (tar_of([Member("file", content=bytes(e))]) for e in (source, target))
        found = made(tmp_path / f"{size}", [old], [new], bare=True)
        assert found.rebuilt(found.targets[0].diff_id) == new


def test_usual_shapes_are_shapes() -> None:
    assert len(set(USUAL_SHAPES)) == len(USUAL_SHAPES)
    for each in USUAL_SHAPES:
        assert len(each.pack()) == SHAPE_LENGTH
        assert read_shape(each.pack()) == each


@pytest.mark.parametrize("length", [0, 1, 40, 3000, 100_000])
def test_ends_of_streams_are_left_out(length: int) -> None:
    packing = Packing(Codec.LZMA1, 3, 17)
    for content in (dice(length).randbytes(length), b"text\n" * (length // 5), bytes(length)):
        packed = b"".join(_pack(packing, iter([content])))
        short = trimmed(packing, content, packed)
        assert len(short) <= max(0, len(packed) - 6)
        stream = Packed(packing, len(content), len(short), lambda at, n, s=short: s[at : at + n])
        assert b"".join(iter(stream.piece, b"")) == content
        stream.finish()


def test_a_layer_of_much_has_no_row(tmp_path: Path) -> None:
    columns = Writers(tmp_path)
    columns.write(Column.NEW, bytes(60_000))
    row = columns.row()
    assert row is not None
    assert len(row.content) < 100
    columns.write(Column.NEW, bytes(6000))
    assert columns.row() is None
    columns.close()


def test_images_of_many_layers_are_rebuilt_by_the_device(tmp_path: Path) -> None:
    """A hundred layers on both sides, each of them named to the child."""
    old = [tar_of([Member(f"file{n}", content=b"old %d" % n)]) for n in range(100)]
    new = [tar_of([Member(f"file{n}", content=b"new %d" % n)]) for n in range(100)]
    found = made(tmp_path, old, new, bare=True)
    assert found.delta.stat().st_size < 100 * 40

    async def tar(number: int) -> bytes:
        rebuilder = Rebuilder(found.open(), found.folders, asyncio.Semaphore(1))
        pieces = [each async for each in rebuilder.tar(found.targets[number].diff_id)]
        return b"".join(pieces)

    for number in (0, 57, 99):
        assert asyncio.run(tar(number)) == new[number]
