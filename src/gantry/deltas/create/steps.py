"""The steps of a patch as values of columns."""

import re
from array import array
from collections.abc import Callable
from itertools import compress, pairwise

from gantry.deltas import entries as told
from gantry.deltas.differences import ITEM, WORD
from gantry.deltas.format import Column, varint, zigzag

Write = Callable[[Column, bytes | memoryview], object]


class Steps:
    """Steps of one file's patch, which has `left` bytes. Of differences, zeros that are `least` in
    a row are no differences but a step of bytes that are as in the source; never with 0."""

    def __init__(self, least: int, left: int, write: Write) -> None:
        self._zeros = re.compile(b"\\0{%d,}" % least) if least else None
        self._least = least
        self._left = left
        self._write = write
        self._position = 0

    def step(self, position: int, difference: bytes, new: bytes | memoryview) -> None:
        """Differences that are added to the source's bytes at `position`, then new bytes."""
        if not difference:
            self._added(self._position, b"", new)
            return
        done = 0
        for found in self._zeros.finditer(difference) if self._zeros else ():
            begin = found.start()
            # Only a step with differences says where it is.
            if position + begin != self._position and begin == done:
                begin += 1
            if found.end() - begin < self._least:
                continue
            if begin > done:
                self._added(position + done, difference[done:begin], b"")
            self._exact(found.end() - begin)
            done = found.end()
        if done < len(difference) or new:
            self._added(position + done, difference[done:], new)

    def _exact(self, length: int) -> None:
        said = told.EXACT_REST if length == self._left else length
        self._write(Column.ADDS, varint(told.STEP_EXACT) + varint(said))
        self._move(length)

    def _added(self, position: int, difference: bytes, new: bytes | memoryview) -> None:
        self._write(Column.ADDS, varint(len(difference) + 1))
        self._write(Column.INSERTS, varint(len(new)))
        if difference:
            self._write(Column.SEEKS, varint(zigzag(position - self._position)))
            self._position = position
            self._write(Column.DIFF, difference)
        self._write(Column.NEW, new)
        self._move(len(difference) + len(new))

    def _move(self, length: int) -> None:
        self._position += length
        self._left -= length


class Sparse:
    """Differences of a layer's steps as words that are not zero, and the gaps between them."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._gap = 0

    def write(self, difference: bytes | memoryview) -> None:
        """Those of a step."""
        padding = bytes(-len(difference) % WORD)
        words = array(ITEM, bytes(difference) + padding)
        positions = list(compress(range(len(words)), words))
        if not positions:
            self._gap += len(words)
            return
        gaps = bytearray(varint(self._gap + positions[0]))
        for before, after in pairwise(positions):
            gap = after - before - 1
            if gap < 0x80:
                gaps.append(gap)
            else:
                gaps += varint(gap)
        self._gap = len(words) - 1 - positions[-1]
        self._write(Column.GAPS, bytes(gaps))
        self._write(Column.DIFF, array(ITEM, compress(words, words)).tobytes())
