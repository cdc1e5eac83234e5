"""Differences that are told sparsely: words of four bytes, and how far they are apart."""

from array import array

from gantry.deltas.packing import Stream

WORD = 4
# An array's item of so many bytes, on every platform that there is a Python for.
ITEM = "I"


class Differences:
    """A layer's differences: `words` are those that are not zero, `gaps` the numbers of zero words
    before each. The words of a step of a patch are its own, the last one may be cut off.
    """

    def __init__(self, words: Stream, gaps: Stream) -> None:
        self._words = words
        self._gaps = gaps
        self._begun = False
        # Zero words up to the next other one; None where there is none.
        self._next: int | None = None

    def some(self, length: int) -> bytes:
        """The next `length` bytes: a step's rest, or else a whole number of words.

        Raises:
            DeltaError: words or gaps are damaged.
        """
        if not self._begun:
            self._begun = True
            self._next = None if self._gaps.ended() else self._gaps.number()
        count = -(-length // WORD)
        if self._next is None:
            return bytes(length)
        if self._next >= count:
            self._next -= count
            return bytes(length)
        positions, following = self._gaps.rows(self._next, count)
        self._next = None if following is None else following - count
        out = array(ITEM, bytes(count * WORD))
        words = array(ITEM, self._words.exactly(len(positions) * WORD))
        for position, word in zip(positions, words, strict=True):
            out[position] = word
        return out.tobytes()[:length]
