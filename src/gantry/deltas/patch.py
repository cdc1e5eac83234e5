"""Steps of patches, as many at a time as a piece has room for: one by one they would cost more
than their bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gantry.deltas import entries as told
from gantry.deltas.differences import WORD, Row, Sparse
from gantry.deltas.format import Column, DeltaError
from gantry.deltas.output import Output
from gantry.deltas.packing import PIECE, Columns
from gantry.deltas.sources import SourceFile

# Many steps read on where the one before ended: so much of the source is read at once.
_WINDOW = 8 * 1024
# Where bytes of the source begin, how many differences are added to, and how many new ones follow.
_Step = tuple[int, int, int]


@dataclass(slots=True)
class _Steps:
    """Steps that are done together, and bytes of the source that follow as they are."""

    steps: list[_Step] = field(default_factory=list)
    # While they are gathered: at least what they have of the source, each rounded up to whole
    # words, and of new bytes.
    size: int = 0
    inserted: int = 0
    begin: int = 0
    exact: int = 0


class Patching:
    """A layer's patches. `new` counts bytes that come from no source."""

    def __init__(self, columns: Columns, is_row: bool, out: Output) -> None:
        self._adds = columns[Column.ADDS]
        self._inserts = columns[Column.INSERTS]
        self._seeks = columns[Column.SEEKS]
        self._fresh = columns[Column.NEW]
        self._out = out
        # A row has all differences; columns have the words that are not zero.
        dense = columns[Column.DIFF]
        self._differences = Row(dense) if is_row else Sparse(dense, columns[Column.GAPS])
        # In a row all values of a step come before those of the next.
        self._room = 0 if is_row else PIECE
        self.new = 0

    @property
    def changed(self) -> int:
        """Bytes that differences were added to."""
        return self._differences.changed

    def run(self, source: SourceFile, size: int) -> None:
        """Write a file of so many bytes.

        Raises:
            DeltaError: the patch does not fit the file or the source, or a column ends too early.
        """
        for some in self._gathered(size):
            if some.steps:
                self._write(source, some)
            for piece in source.pieces(some.begin, some.exact):
                self._out.write(piece)

    def _gathered(self, left: int) -> Iterator[_Steps]:
        """The steps of a file."""
        some = _Steps()
        position = 0
        while left:
            code = self._adds.number()
            if code == told.STEP_EXACT:
                length, more = self._exact(left), 0
            else:
                length, more = code - 1, self._inserts.number()
                position += self._seeks.signed() if length else 0
            left -= length + more
            if left < 0 or not length + more:
                raise DeltaError("the delta has a patch that does not fit its file")
            if code == told.STEP_EXACT:
                some.begin, some.exact = position, length
                yield some
                some = _Steps()
            elif (size := some.size + length + more + WORD) <= self._room:
                some.steps.append((position, length, more))
                some.size = size
                some.inserted += more
            else:
                yield some
                yield from _parts(position, length, more)
                some = _Steps()
            position += length + more
        yield some

    def _exact(self, left: int) -> int:
        length = self._adds.number()
        return left if length == told.EXACT_REST else length

    def _write(self, source: SourceFile, some: _Steps) -> None:
        added = self._differences.add(b"".join(self._sources(source, some.steps)))
        new = self._fresh.exactly(some.inserted)
        self.new += some.inserted
        unit = self._differences.unit
        parts = []
        at = begin = 0
        for _, length, more in some.steps:
            parts.append(added[at : at + length])
            at += length + -length % unit
            if more:
                parts.append(new[begin : begin + more])
                begin += more
        self._out.write(b"".join(parts))

    def _sources(self, source: SourceFile, steps: list[_Step]) -> list[bytes]:
        """The source's bytes of each step, rounded up to whole units of differences."""
        unit = self._differences.unit
        found = []
        window, base = b"", 0
        for position, length, _ in steps:
            if not length:
                continue
            padded = length + -length % unit
            begin = position - base
            if begin < 0 or begin + padded > len(window):
                window = source.some(position, max(padded, _WINDOW), length)
                base, begin = position, 0
            piece = window[begin : begin + padded]
            # A file's last word may be cut off.
            found.append(piece if len(piece) == padded else piece.ljust(padded, b"\0"))
        return found


def _parts(position: int, length: int, more: int) -> Iterator[_Steps]:
    """A step as steps of at most a PIECE."""
    while length + more:
        add = min(length, PIECE)
        insert = min(more, PIECE - add) if add == length else 0
        yield _Steps([(position, add, insert)], inserted=insert)
        position += add
        length -= add
        more -= insert
