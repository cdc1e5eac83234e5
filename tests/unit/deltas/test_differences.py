"""Differences in columns: words that are not zero, and the gaps between them."""

import random

import pytest

from gantry.deltas.create import steps as writing
from gantry.deltas.differences import Row, Sparse, add
from gantry.deltas.format import Column, DeltaError, varint
from gantry.deltas.packing import PIECE, Stream


def stream(content: bytes) -> Stream:
    """A column in pieces of some bytes."""
    pieces = iter([content[at : at + 7] for at in range(0, len(content), 7)])
    return Stream(lambda: next(pieces, b""))


def written(*steps: bytes) -> dict[Column, bytes]:
    """The columns of steps' differences."""
    found = {Column.GAPS: b"", Column.DIFF: b""}

    def write(column: Column, data: bytes | memoryview) -> None:
        found[column] += data

    sparse = writing.Sparse(write)
    for each in steps:
        sparse.write(each)
    return found


def test_words_that_differ_are_told_with_their_gaps() -> None:
    found = written(bytes(8) + b"\1", bytes(400), b"\0\0\0\2\3\0\0\0")
    assert found == {
        Column.GAPS: varint(2) + varint(100) + varint(0),
        Column.DIFF: b"\1\0\0\0\0\0\0\2\3\0\0\0",
    }


@pytest.mark.parametrize("rarity", [1, 3, 50, 5000])
def test_differences_come_back(rarity: int) -> None:
    chance = random.Random(rarity)  # noqa: S311 - the same bytes each time
    steps = []
    for length in (1, 3, 4, 5, 1000, 70_001, 0, 131_072):
        steps.append(bytes(0 if chance.randrange(rarity) else 7 for _ in range(length)))
    columns = written(*steps)
    found = Sparse(stream(columns[Column.DIFF]), stream(columns[Column.GAPS]))
    for step in steps:
        source = chance.randbytes(len(step))
        back = b""
        while len(back) < len(step):
            some = source[len(back) : len(back) + PIECE]
            back += found.add(some.ljust(-(-len(some) // 4) * 4, b"\xff"))[: len(some)]
        assert back == bytes((a + b) & 255 for a, b in zip(source, step, strict=True))
    assert found.changed == sum(len(step) - step.count(0) for step in steps)


def test_a_row_has_every_bytes_difference() -> None:
    found = Row(stream(b"\1\0\377" + bytes(9)))
    assert found.add(b"\1\1\1") == b"\2\1\0"
    assert found.add(bytes(9)) == bytes(9)
    assert found.changed == 2
    with pytest.raises(DeltaError, match="too early"):
        found.add(b"\1")


def test_words_that_are_missing_are_said() -> None:
    found = Sparse(stream(b"\1\0\0"), stream(b"\0"))
    with pytest.raises(DeltaError, match="too early"):
        found.add(bytes(4))
    found = Sparse(stream(bytes(40)), stream(b"\x80"))
    with pytest.raises(DeltaError, match="too early"):
        found.add(bytes(4))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 4096, PIECE - 1, PIECE])
def test_sums_are_those_of_single_bytes(length: int) -> None:
    chance = random.Random(length)  # noqa: S311 - the same bytes each time
    first, second = chance.randbytes(length), chance.randbytes(length)
    assert add(first, second) == bytes((a + b) & 255 for a, b in zip(first, second, strict=True))
    assert add(first, bytes(length)) == first
    assert add(b"\xff" * length, b"\xff" * length) == b"\xfe" * length
