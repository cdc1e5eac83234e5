"""Stopping early: what a delta will have at least, before it is made."""

import lzma
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gantry.deltas.create.columns import Writers
from gantry.deltas.create.tars import Tar
from gantry.deltas.format import Column, DeltaError

# Of what is looked at, so many pieces of so many bytes.
_PIECES, _PIECE = 8, 64 * 1024
# What packing all may save over packing samples.
_MARGIN = 0.8
# While a layer is told it is looked at again after so many more bytes.
_AGAIN = 4 * 1024**2
_COLUMNS = (Column.NEW, Column.DIFF, Column.GAPS)


class TooLargeError(DeltaError):
    """The delta would be larger than it may be; `size` is what it would have at least, about."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the delta would have more than {size} bytes, and may have {limit}")
        self.size = size
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Fresh:
    """Contents of one layer that are in no source: (offset, length) in its tar."""

    tar: Tar
    stretches: Sequence[tuple[int, int]]


class Limit:
    """Adds up what is packed, what is told and what is to come; None is no limit.

    Nothing is looked at before it could be too much if it could not be packed at all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._to_come: list[int] = []
        self._packed = 0
        self._looked = 0

    def expect(self, layers: Sequence[Fresh]) -> None:
        """What is new in all layers, in their order.

        Raises:
            TooLargeError: that alone is too much.
        """
        if self._limit is None:
            return
        totals = [sum(length for _, length in each.stretches) for each in layers]
        if sum(totals) > self._limit:
            self._to_come = [
                _estimate(total, _reader(each)) for total, each in zip(totals, layers, strict=True)
            ]
            self._check(0)

    def told(self, columns: Writers) -> None:
        """What the present layer has by now. Raises as `expect`."""
        if self._limit is None:
            return
        length = sum(columns[each].length for each in _COLUMNS)
        if length > self._looked + _AGAIN and length + self._packed > self._limit:
            self._looked = length
            found = (_estimate(columns[each].length, columns[each].read) for each in _COLUMNS)
            self._check(sum(found))

    def made(self, length: int) -> None:
        """The present layer is packed, and has so many bytes. Raises as `expect`."""
        self._packed += length
        self._to_come = self._to_come[1:]
        self._looked = 0
        self._check(0)

    def _check(self, told: int) -> None:
        present = max(told, *self._to_come[:1], 0)
        size = self._packed + present + sum(self._to_come[1:])
        if self._limit is not None and size > self._limit:
            raise TooLargeError(size, self._limit)


def _estimate(total: int, read: Callable[[int, int], bytes]) -> int:
    """What so many bytes will be packed, rather too few than too many."""
    step = max(total // _PIECES, _PIECE)
    content = b"".join(read(at, min(_PIECE, total - at)) for at in range(0, total, step))
    if not content:
        return 0
    packed = len(lzma.compress(content, preset=6))
    return int(total * min(packed / len(content), 1) * _MARGIN)


def _reader(fresh: Fresh) -> Callable[[int, int], bytes]:
    """Reads all stretches as if they lay one behind the other."""
    ends = list(accumulate(length for _, length in fresh.stretches))

    def read(at: int, length: int) -> bytes:
        found = b""
        number = bisect_right(ends, at)
        while len(found) < length and number < len(ends):
            offset, size = fresh.stretches[number]
            into = size - (ends[number] - at - len(found))
            found += fresh.tar.read(offset + into, min(size - into, length - len(found)))
            number += 1
        return found

    return read
