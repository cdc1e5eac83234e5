"""Adding of bytes in long integers, against adding them one by one."""

import random

import pytest

from gantry.deltas.patch import PIECE, add


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 4096, PIECE - 1, PIECE])
def test_sums_are_those_of_single_bytes(length: int) -> None:
    chance = random.Random(length)  # noqa: S311 - the same bytes each time
    first, second = chance.randbytes(length), chance.randbytes(length)
    assert add(first, second) == bytes((a + b) & 255 for a, b in zip(first, second, strict=True))
    assert add(first, bytes(length)) == first
    assert add(b"\xff" * length, b"\xff" * length) == b"\xfe" * length
