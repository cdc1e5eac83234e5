"""Steps of patches, many at a time, against a plain reading of docs/delta-format.md."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gantry.deltas.create.steps import Sparse, Steps
from gantry.deltas.format import Column
from gantry.deltas.output import Output
from gantry.deltas.packing import PIECE, Stream
from gantry.deltas.patch import Patching
from gantry.deltas.sources import SourceLayer
from tests.layers import digest

Step = tuple[int, bytes, bytes]


def steps(chance: random.Random, source: bytes) -> Iterator[Step]:
    """Where each begins, its differences and its new bytes: short ones, empty ones, huge ones."""
    lengths = (0, 1, 2, 3, 4, 5, 460, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3)
    for _ in range(chance.randrange(1, 300)):
        add = chance.choice(lengths if chance.random() < 0.1 else lengths[:7])
        insert = chance.choice(lengths if chance.random() < 0.1 else (0, 0, 1, 7))
        if add + insert:
            # Now and then at the file's end, where the last word is cut off.
            last = len(source) - add
            begin = last if chance.random() < 0.1 else chance.randrange(last + 1)
            differences = bytes(
                chance.choice((0, 0, 0, 1, 255)) if chance.random() < 0.3 else 0 for _ in range(add)
            )
            yield begin, differences, chance.randbytes(insert)


def told(found: list[Step], least: int) -> tuple[dict[Column, bytes], bytes]:
    """The steps in columns, and in a row."""
    size = sum(len(differences) + len(new) for _, differences, new in found)
    columns = {column: bytearray() for column in Column}
    line = bytearray()
    sparse = Sparse(lambda column, data: columns[column].extend(data))

    def write(column: Column, data: bytes | memoryview) -> None:
        if column is Column.DIFF:
            sparse.write(data)
        else:
            columns[column].extend(data)

    tellers = (Steps(least, size, write), Steps(least, size, lambda _, data: line.extend(data)))
    for each in tellers:
        for step in found:
            each.step(*step)
    return {column: bytes(content) for column, content in columns.items()}, bytes(line)


def stream(content: bytes, piece: int) -> Stream:
    pieces = iter([content[at : at + piece] for at in range(0, len(content), piece)])
    return Stream(lambda: next(pieces, b""))


@pytest.mark.parametrize("least", [0, 24])
@pytest.mark.parametrize("seed", range(10))
def test_patches_are_the_sums_of_their_steps(seed: int, least: int, tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same bytes each time
    content = chance.randbytes(3 * PIECE + chance.randrange(8))
    (tmp_path / "source").write_bytes(content)
    found = list(steps(chance, content)) or [(0, b"", b"new")]
    made = b"".join(
        bytes((a + b) & 255 for a, b in zip(content[at:], differences, strict=False)) + new
        for at, differences, new in found
    )
    columns, line = told(found, least)
    piece = chance.choice((1, 1000, PIECE))
    one = stream(line, piece)
    layer = SourceLayer(tmp_path)
    source = layer.place(b"source").open()
    for is_row, streams in (
        (False, {column: stream(content, piece) for column, content in columns.items()}),
        (True, dict.fromkeys(Column, one)),
    ):
        out = bytearray()
        output = Output(digest(made), len(made), out.extend)
        patching = Patching(streams, is_row, output)
        patching.run(source, len(made))
        output.finish()
        output.close()
        assert out == made
        assert all(each.ended() for each in streams.values())
        assert patching.new == sum(len(new) for _, _, new in found)
        assert patching.changed == sum(len(some) - some.count(0) for _, some, _ in found)
    source.close()
    layer.close()
