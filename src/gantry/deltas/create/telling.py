"""Writing a layer's entries into columns: the counterpart of `apply`."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry.deltas import entries as told
from gantry.deltas.create.columns import Writers
from gantry.deltas.create.differ import Patch
from gantry.deltas.create.matching import Match, Source, common
from gantry.deltas.create.tars import Entry, OnDisk, Plain, Tar
from gantry.deltas.entries import Before, Special
from gantry.deltas.format import Column
from gantry.deltas.headers import Header
from gantry.deltas.sources import Facts

_PIECE = 1024**2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is told of an entry: the step of the walk that names it, and what its content is."""

    entry: Entry
    step: int | None
    walked: OnDisk | None
    match: Match | None


class Telling:
    """One layer on its way from a tar to columns."""

    def __init__(self, columns: Writers, tar: Tar) -> None:
        self._columns = columns
        self._tar = tar
        self._before = Before()
        self._next = 0

    def plain(self, plain: Plain) -> None:
        code = Special.ZEROS if plain.zeros else Special.PLAIN
        self._columns[Column.KINDS].write(bytes([told.SPECIAL | code << 2]))
        self._columns[Column.LENGTHS].number(plain.length)
        if not plain.zeros:
            self._copy(Column.NEW, plain.offset, plain.length)

    def entry(self, plan: Plan, patches: Iterator[Patch]) -> None:
        """Write an entry; `patches` are those of its match."""
        entry = plan.entry
        kind = self._name(plan)
        how = self._body(plan)
        kind |= how << told.BODY_SHIFT | self._fields(plan, how)
        self._columns[Column.KINDS].write(bytes([kind]))
        if how == told.BODY_NEW:
            extended = entry.header.type in told.EXTENDED_TYPES
            column = Column.EXTENDED if extended else Column.NEW
            self._copy(column, entry.offset, entry.content)
        elif plan.match is not None and plan.match.patched:
            self._patched(patches)

    def _name(self, plan: Plan) -> int:
        before, path = self._before.path, plan.entry.header.path
        self._before.path = path
        if plan.step is None:
            shared = common(before, path)
            self._columns[Column.LENGTHS].number(shared)
            self._columns[Column.NAMES].text(path[shared:])
            return told.NAME_NEW
        skip = plan.step - self._next
        self._next = plan.step + 1
        if not skip:
            return told.NAME_NEXT
        self._columns[Column.LENGTHS].number(skip)
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
        self._columns[Column.REFERENCES].number(source.layer << 1 | patched)
        self._columns[Column.LENGTHS].number(begin)
        self._columns[Column.LENGTHS].number(end)
        self._columns[Column.MIDDLES].text(source.path[begin : len(source.path) - end])

    def _fields(self, plan: Plan, how: int) -> int:
        """Write what is not foretold; gives the bits that say so."""
        header = plan.entry.header
        facts = _facts(plan, how)
        columns, before = self._columns, self._before
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
            columns[Column.META].number(differs)
        if differs & told.TYPE:
            columns[Column.META].number(header.type)
        for bit, value in zip((told.MODE, told.UID, told.GID), values, strict=True):
            if differs & bit:
                columns[Column.META].number(value)
        if sized:
            columns[Column.SIZES].signed(header.size - size)
        if differs & told.LINK:
            columns[Column.LINKS].text(header.link)
        before.owners[header.type] = values
        kind = told.OTHER_FIELDS if differs else 0
        return kind | self._time(header, facts) | self._shape(header)

    def _time(self, header: Header, facts: Facts | None) -> int:
        before = self._before
        sure = facts is not None and facts.type != told.SYMLINK
        if header.mtime == (facts.mtime if facts and sure else before.mtime):
            how = told.TIME_FORETOLD
        elif header.mtime == before.mtime:
            how = told.TIME_BEFORE
        else:
            how = told.TIME_OTHER
            self._columns[Column.TIMES].signed(header.mtime - before.mtime)
        before.mtime = header.mtime
        return how << told.TIME_SHIFT

    def _shape(self, header: Header) -> int:
        before, shape = self._before, header.shape
        foretold = before.shape(header.type)
        if foretold >= 0 and before.shapes[foretold] == shape:
            before.by_type[header.type] = foretold
            return 0
        try:
            number = before.shapes.index(shape)
        except ValueError:
            number = len(before.shapes)
            before.shapes.append(shape)
            self._columns[Column.SHAPES].write(shape.pack())
        self._columns[Column.FORMS].number(number)
        before.by_type[header.type] = number
        return told.OTHER_SHAPE

    def _patched(self, patches: Iterator[Patch]) -> None:
        columns = self._columns
        position = 0
        for patch in patches:
            for step in patch.steps:
                columns[Column.ADDS].number(step.add)
                columns[Column.INSERTS].number(step.insert)
                if step.add:
                    columns[Column.SEEKS].signed(step.position - position)
                    position = step.position + step.add
                position += step.insert
            columns[Column.DIFF].write(patch.difference)
            columns[Column.NEW].write(patch.new)

    def _copy(self, column: Column, offset: int, length: int) -> None:
        while length:
            data = self._tar.read(offset, min(length, _PIECE))
            self._columns[column].write(data)
            offset += len(data)
            length -= len(data)


def _facts(plan: Plan, how: int) -> Facts | None:
    """What a device finds of the entry's source, before it knows more of it."""
    if how == told.BODY_REFERENCE and plan.match is not None:
        return plan.match.source.facts
    return plan.walked.facts if plan.walked is not None else None
