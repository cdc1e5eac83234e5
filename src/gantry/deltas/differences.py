"""Differences that are added to a source's bytes, many at a time, without compiled code.

Sums are taken on long integers: each byte's lower seven bits, so that no sum runs over into the
next byte, and the highest bits apart from them.
"""

from array import array
from functools import cache
from operator import itemgetter

from gantry.deltas.packing import PIECE, Stream

WORD = 4
# An array's item of so many bytes, on every platform that there is a Python for.
ITEM = "I"


class Row:
    """Differences of a small layer: every byte's."""

    # What steps' lengths are rounded up to.
    unit = 1

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        # Bytes that were not added to with zero.
        self.changed = 0

    def add(self, source: bytes) -> bytes:
        """The source's bytes, at most PIECE, and the next differences. Raises DeltaError."""
        found = self._stream.exactly(len(source))
        self.changed += len(found) - found.count(0)
        return add(source, found)


class Sparse:
    """Differences in columns: `words` are those that are not zero, `gaps` the numbers of zero words
    before each. The words of a step of a patch are its own, the last one may be cut off.
    """

    unit = WORD

    def __init__(self, words: Stream, gaps: Stream) -> None:
        self._words = words
        self._gaps = gaps
        self._begun = False
        # Zero words up to the next other one; None where there is none.
        self._next: int | None = None
        self.changed = 0

    def add(self, source: bytes) -> bytes:
        """The source's bytes, whole words, at most PIECE, and the next differences.

        Raises:
            DeltaError: words or gaps are damaged.
        """
        if not self._begun:
            self._begun = True
            self._next = None if self._gaps.ended() else self._gaps.number()
        if self._next is None:
            return source
        count = len(source) // WORD
        if self._next >= count:
            self._next -= count
            return source
        positions, following = self._gaps.positions(self._next, count)
        self._next = None if following is None else following - count
        found = self._words.exactly(len(positions) * WORD)
        self.changed += len(found) - found.count(0)
        out = array(ITEM, source)
        # One position gives no tuple: it is asked for twice.
        picked = array(ITEM, itemgetter(*positions, positions[0])(out)[:-1]).tobytes()
        for position, word in zip(positions, array(ITEM, add(picked, found)), strict=True):
            out[position] = word
        return out.tobytes()


def add(source: bytes, difference: bytes) -> bytes:
    """The sums of two rows of bytes of one length, at most PIECE, each modulo 256."""
    length = len(source)
    low, high = _masks(length)
    first, second = int.from_bytes(source, "little"), int.from_bytes(difference, "little")
    found = (first & low) + (second & low) ^ ((first ^ second) & high)
    return found.to_bytes(length, "little")


def _masks(length: int) -> tuple[int, int]:
    """The lower seven bits and the highest of each byte."""
    low, high = _whole_masks()
    cut = (PIECE - length) * 8
    return low >> cut, high >> cut


@cache
def _whole_masks() -> tuple[int, int]:
    return int.from_bytes(b"\x7f" * PIECE), int.from_bytes(b"\x80" * PIECE)
