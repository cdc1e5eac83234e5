"""Writing a layer's entries into columns: the counterpart of `apply`."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry.deltas import entries as told
from gantry.deltas.create.columns import Writers
from gantry.deltas.create.differ import Patch
from gantry.deltas.create.matching import Match, Source, common
from gantry.deltas.create.steps import Sparse, Steps
from gantry.deltas.create.tars import Entry, OnDisk, Plain, Tar
from gantry.deltas.entries import Before, Special
from gantry.deltas.format import Column, varint, zigzag
from gantry.deltas.headers import Header
from gantry.deltas.sources import Facts

_PIECE = 1024**2
# Bytes in a row that do not differ from the source's and are worth a step of their own in a row.
_IN_ROW = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What is told of an entry: the step of the walk that names it, and what its content is."""

    entry: Entry
    step: int | None
    walked: OnDisk | None
    match: Match | None


class Telling:
    """One layer on its way from a tar to columns, in the order in which a reader takes them.

    `told` counts, of the entry that was told last, bytes that differ from its source's and bytes
    that are in no source.
    """

    def __init__(self, columns: Writers, tar: Tar) -> None:
        self._columns = columns
        self._tar = tar
        self._before = Before()
        self._shapes = {shape: number for number, shape in enumerate(self._before.shapes)}
        self._next = 0
        self._sparse = Sparse(lambda column, data: columns[column].write(data))
        # What follows an entry's kind, which is known when all else is.
        self._held: list[tuple[Column, bytes]] = []
        self.told = (0, 0)

    def plain(self, plain: Plain) -> None:
        if plain.zeros and plain.offset + plain.length == self._tar.size:
            self._columns.write(Column.KINDS, bytes([told.SPECIAL | Special.REST << 2]))
            return
        code = Special.ZEROS if plain.zeros else Special.PLAIN
        self._columns.write(Column.KINDS, bytes([told.SPECIAL | code << 2]))
        self._columns.write(Column.LENGTHS, varint(plain.length))
        if not plain.zeros:
            self._copy(Column.NEW, plain.offset, plain.length)

    def entry(self, plan: Plan, patches: Iterator[Patch]) -> None:
        """Write an entry; `patches` are those of its match."""
        entry = plan.entry
        kind = self._name(plan)
        how = self._body(plan)
        kind |= how << told.BODY_SHIFT | self._fields(plan, how)
        self._columns.write(Column.KINDS, bytes([kind]))
        for column, data in self._held:
            self._columns.write(column, data)
        self._held.clear()
        self.told = (0, entry.content if how == told.BODY_NEW else 0)
        if how == told.BODY_NEW:
            extended = entry.header.type in told.EXTENDED_TYPES
            column = Column.EXTENDED if extended else Column.NEW
            self._copy(column, entry.offset, entry.content)
        elif plan.match is not None and plan.match.patched:
            self._patched(patches, entry.content)

    def _number(self, column: Column, value: int) -> None:
        self._held.append((column, varint(value)))

    def _signed(self, column: Column, value: int) -> None:
        self._held.append((column, varint(zigzag(value))))

    def _text(self, column: Column, value: bytes) -> None:
        self._held.append((column, value + b"\0"))

    def _name(self, plan: Plan) -> int:
        before, path = self._before.path, plan.entry.header.path
        self._before.path = path
        if plan.step is None:
            shared = common(before, path)
            self._number(Column.LENGTHS, shared)
            self._text(Column.NAMES, path[shared:])
            return told.NAME_NEW
        skip = plan.step - self._next
        self._next = plan.step + 1
        if not skip:
            return told.NAME_NEXT
        self._number(Column.LENGTHS, skip)
        return told.NAME_SKIP

    def _body(self, plan: Plan) -> int:
        match = plan.match
        if match is None:
            return told.BODY_NEW if plan.entry.content else told.BODY_FORETOLD
        if plan.walked is not None and match.source.entry is plan.walked.entry:
            return told.BODY_PATCH if match.patched else told.BODY_FORETOLD
        self._reference(plan.entry.header.path, match.source, match.patched)
        return told.BODY_REFERENCE

    def _reference(self, path: bytes, source: Source, patched: bool) -> None:
        begin = common(path, source.path)
        end = common(path[begin:][::-1], source.path[begin:][::-1])
        self._number(Column.REFERENCES, source.layer << 1 | patched)
        self._number(Column.LENGTHS, begin)
        self._number(Column.LENGTHS, end)
        self._text(Column.MIDDLES, source.path[begin : len(source.path) - end])

    def _fields(self, plan: Plan, how: int) -> int:
        """Write what is not foretold; gives the bits that say so."""
        header = plan.entry.header
        facts = _facts(plan, how)
        before = self._before
        owner = (facts.mode, facts.uid, facts.gid) if facts else before.owner(header.type)
        values = (header.mode, header.uid, header.gid)
        differs = 0 if header.type == (facts.type if facts else told.REGULAR) else told.TYPE
        for bit, value, foretold in zip(
            (told.MODE, told.UID, told.GID), values, owner, strict=True
        ):
            differs |= bit if value != foretold else 0
        size = facts.size if facts and how != told.BODY_NEW else 0
        sized = how == told.BODY_NEW or header.size != size
        differs |= told.SIZE if sized and how != told.BODY_NEW else 0
        differs |= told.LINK if header.link != (facts.link if facts else b"") else 0
        if differs:
            self._number(Column.META, differs)
        if differs & told.TYPE:
            self._number(Column.META, header.type)
        for bit, value in zip((told.MODE, told.UID, told.GID), values, strict=True):
            if differs & bit:
                self._number(Column.META, value)
        if sized:
            self._signed(Column.SIZES, header.size - size)
        if differs & told.LINK:
            self._text(Column.LINKS, header.link)
        before.owners[header.type] = values
        kind = told.OTHER_FIELDS if differs else 0
        return kind | self._time(header, facts) | self._shape(header)

    def _time(self, header: Header, facts: Facts | None) -> int:
        before = self._before
        foretold = facts.mtime if facts and facts.type != told.SYMLINK else None
        last = before.time(foretold)
        if header.mtime == (last if foretold is None else foretold):
            how = told.TIME_FORETOLD
        elif header.mtime == last:
            how = told.TIME_BEFORE
        else:
            how = told.TIME_OTHER
            self._signed(Column.TIMES, header.mtime - last)
        before.mtime = header.mtime
        return how << told.TIME_SHIFT

    def _shape(self, header: Header) -> int:
        before, shape = self._before, header.shape
        foretold = before.shape(header.type)
        if before.shapes[foretold] == shape:
            before.use(header.type, foretold)
            return 0
        is_new = shape not in self._shapes
        if is_new:
            self._shapes[shape] = len(before.shapes)
            before.shapes.append(shape)
        number = self._shapes[shape]
        self._number(Column.FORMS, number)
        if is_new:
            self._held.append((Column.SHAPES, shape.pack()))
        before.use(header.type, number)
        return told.OTHER_SHAPE

    def _patched(self, patches: Iterator[Patch], size: int) -> None:
        changed = fresh = 0
        # In columns zeros are for nothing, in a row they are not.
        tellers = [
            Steps(0, size, self._write),
            Steps(_IN_ROW, size, lambda _, data: self._columns.line.add(data)),
        ]
        for patch in patches:
            if self._columns.line.is_full:
                del tellers[1:]
            differences, new = memoryview(patch.difference), memoryview(patch.new)
            for step in patch.steps:
                some, differences = bytes(differences[: step.add]), differences[step.add :]
                more, new = new[: step.insert], new[step.insert :]
                for each in tellers:
                    each.step(step.position, some, more)
                changed += step.add - some.count(0)
                fresh += step.insert
        self.told = (changed, fresh)

    def _write(self, column: Column, data: bytes | memoryview) -> None:
        if column is Column.DIFF:
            self._sparse.write(data)
        else:
            self._columns[column].write(data)

    def _copy(self, column: Column, offset: int, length: int) -> None:
        while length:
            data = self._tar.read(offset, min(length, _PIECE))
            self._columns.write(column, data)
            offset += len(data)
            length -= len(data)


def _facts(plan: Plan, how: int) -> Facts | None:
    """What a device finds of the entry's source, before it knows more of it."""
    if how == told.BODY_REFERENCE and plan.match is not None:
        return plan.match.source.facts
    return plan.walked.facts if plan.walked is not None else None
