"""Long rows of zeros do not hold bsdiff up, and come back as they are."""

import random
from pathlib import Path

import pytest

from gantry.deltas.create.differ import Stretch, jobs, patch
from gantry.deltas.create.padding import filled, subtract


def test_rows_of_zeros_are_filled_and_nothing_else() -> None:
    content = b"begin" + bytes(5000) + b"middle" + bytes(100) + b"end" + bytes(3000)
    found, rows = filled(content)
    assert rows == [(5, 5005), (len(content) - 3000, len(content))]
    assert len(found) == len(content)
    back = bytearray(found)
    for begin, end in rows:
        assert found[begin:end].count(0) < 100
        back[begin:end] = bytes(end - begin)
    assert back == content
    assert filled(b"short" + bytes(2000)) == (b"short" + bytes(2000), [])


def test_differences_are_those_of_single_bytes() -> None:
    chance = random.Random(1)  # noqa: S311 - the same bytes each time
    source = chance.randbytes(9000)
    target = source[:5000] + chance.randbytes(4000)
    found = subtract(target, source)
    assert found[:4096] == bytes(4096)
    assert bytes((a + b) & 255 for a, b in zip(source, found, strict=True)) == target


@pytest.mark.parametrize("lengths", [(60_000, 60_003), (60_003, 60_000), (5000, 0), (0, 5000)])
def test_padding_that_has_become_longer_or_shorter(
    lengths: tuple[int, int], tmp_path: Path
) -> None:
    chance = random.Random(2)  # noqa: S311 - the same bytes each time
    first, second = chance.randbytes(20_000), chance.randbytes(20_000)
    old, new = (first + bytes(length) + second for length in lengths)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    source, target = Stretch(tmp_path / "old", 0, len(old)), Stretch(tmp_path / "new", 0, len(new))
    (job,) = jobs(source, target, 10**8)
    found = patch(job)
    out = bytearray()
    added = inserted = 0
    for step in found.steps:
        origin = old[step.position : step.position + step.add]
        difference = found.difference[added : added + step.add]
        out += bytes((a + b) & 255 for a, b in zip(origin, difference, strict=True))
        out += found.new[inserted : inserted + step.insert]
        added += step.add
        inserted += step.insert
    assert out == new
    assert inserted <= max(0, lengths[1] - lengths[0]) + 100
    assert not any(found.difference)
