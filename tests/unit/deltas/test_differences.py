"""Differences in columns: words that are not zero, and the gaps between them."""

import random

import pytest

from gantry.deltas.create.steps import Sparse
from gantry.deltas.differences import Differences
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

    sparse = Sparse(write)
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
    found = Differences(stream(columns[Column.DIFF]), stream(columns[Column.GAPS]))
    for step in steps:
        back = b""
        while len(back) < len(step):
            back += found.some(min(PIECE, len(step) - len(back)))
        assert back == step


def test_words_that_are_missing_are_said() -> None:
    found = Differences(stream(b"\1\0\0"), stream(b"\0"))
    with pytest.raises(DeltaError, match="too early"):
        found.some(4)
    found = Differences(stream(bytes(40)), stream(b"\x80"))
    with pytest.raises(DeltaError, match="too early"):
        found.some(4)
