"""Rebuilding of a layer's tar from a delta and the files of source layers.

As a program: `python -m gantry.deltas.apply DELTA DIFFID --source sha256:…=/folder …` writes the
tar to standard output. A bare delta's names are its sources in order, `--config sha256:…`, and
`--layer sha256:…` for each layer in it, in order. Memory is bounded whatever the layer's size.
"""

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas import arguments as words
from gantry.deltas import entries as told
from gantry.deltas.entries import Before, Special
from gantry.deltas.format import BLOCK, PATH_LIMIT, SIZE_LIMIT, Column, DeltaError, Layer
from gantry.deltas.headers import SHAPE_LENGTH, Header, build, read_shape
from gantry.deltas.output import Output
from gantry.deltas.packing import Columns, check
from gantry.deltas.patch import Patching
from gantry.deltas.reader import Delta
from gantry.deltas.sources import Facts, Place, SourceLayer

# Of errors at a source, those that say nothing of it.
_PASSING = (errno.EIO, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def rebuild(
    delta: Delta,
    diff_id: str,
    sources: Mapping[str, Path],
    write: Callable[[bytes], object],
    tell: "Callable[[Told], object] | None" = None,
) -> None:
    """Write a layer's tar, piece by piece; who hears of an error throws away what came.

    `sources` gives for the diffID of each source layer the folder of its files. `tell` hears of
    each file that has content. `write` is called one piece after the other, perhaps in another
    thread.

    Raises:
        DeltaError: the delta is damaged or asks for what it may not; a source is missing or not
            what it was; the result is not the layer.
        OSError: the delta cannot be read, or `write` raised it.
    """
    layer, offset = delta.find(diff_id)
    missing = [name for name in delta.sources if name not in sources]
    if missing:
        raise DeltaError(f"the delta needs the source layer {missing[0]}, which is not given")
    out = Output(diff_id, layer.size, write)
    opened: dict[int, SourceLayer] = {}
    with delta.path.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()

        def read(at: int, length: int) -> bytes:
            return os.pread(descriptor, length, at)

        try:
            columns = Columns(layer, read, offset)
            folders = [sources[name] for name in delta.sources]
            _Rebuilding(layer, columns, folders, opened, out, tell).run()
            out.finish()
            columns.finish()
        except DeltaError as error:
            if check(layer, read, offset) != layer.check:
                raise _damaged(diff_id) from error
            raise
        finally:
            for each in opened.values():
                each.close()
            out.close()
        if columns.check != layer.check:
            raise _damaged(diff_id)


def _damaged(diff_id: str) -> DeltaError:
    return DeltaError(f"the delta's part for {diff_id} is damaged: download it again")


@dataclass(frozen=True, slots=True)
class Told:
    """A file of a layer: the source's path where it has one, and what the delta holds of it.

    `changed` are bytes that differ from the source's, `new` those that are in no source.
    """

    path: bytes
    size: int
    source: bytes | None
    is_patched: bool
    changed: int
    new: int


@dataclass(slots=True)
class _Body:
    """Where an entry's content comes from."""

    how: int
    place: Place | None = None
    patched: bool = False


class _Rebuilding:
    """One layer on its way from columns to a tar."""

    def __init__(
        self,
        layer: Layer,
        columns: Columns,
        folders: Sequence[Path],
        opened: dict[int, SourceLayer],
        out: Output,
        tell: Callable[[Told], object] | None,
    ) -> None:
        self._layer = layer
        self._columns = columns
        self._folders = folders
        self._opened = opened
        self._out = out
        self._before = Before()
        self._tell = tell
        self._patching = Patching(columns, layer.row is not None, out)

    def run(self) -> None:
        kinds = self._columns[Column.KINDS]
        while self._out.left:
            (kind,) = kinds.some(1)
            if kind & 3 == told.SPECIAL:
                self._special(kind >> 2)
            else:
                self._entry(kind)

    def _special(self, code: int) -> None:
        if code == Special.REST:
            self._out.zeros(self._out.left)
            return
        length = self._number(SIZE_LIMIT)
        if code == Special.PLAIN:
            self._copy_column(Column.NEW, length)
        elif code == Special.ZEROS:
            if length > self._out.left:
                raise DeltaError("the delta has more zeros than the layer is long")
            self._out.zeros(length)
        else:
            raise DeltaError(f"the delta has something {code}, which is not known")

    def _entry(self, kind: int) -> None:
        path, place = self._name(kind)
        body = self._body(kind, path, place)
        place = body.place or place
        header = self._header(kind, path, place, body)
        self._out.write(build(header))
        if header.type in told.EMPTY_TYPES and body.how == told.BODY_FORETOLD:
            return
        patching = self._patching
        changed, new = patching.changed, patching.new
        self._content(header, body, place)
        if self._tell and header.size and header.type not in told.EXTENDED_TYPES:
            source = place.path if place and body.how != told.BODY_NEW else None
            counts = (body.patched, patching.changed - changed, patching.new - new)
            self._tell(Told(path, header.size, source, *counts))
        self._out.zeros(-header.size % BLOCK)

    def _name(self, kind: int) -> tuple[bytes, Place | None]:
        if kind & 3 == told.NAME_NEW:
            shared = self._number(PATH_LIMIT)
            path = self._before.path[:shared] + self._columns[Column.NAMES].text()
            place = None
        else:
            base = self._layer.base
            if base is None:
                raise DeltaError("the delta walks through a source layer without naming it")
            skip = self._number(SIZE_LIMIT) if kind & 3 == told.NAME_SKIP else 0
            place = self._source(base).next(skip, self._layer.order)
            path = place.path
        if len(path) > PATH_LIMIT:
            raise DeltaError("the delta has a name that is too long")
        self._before.path = path
        return path, place

    def _body(self, kind: int, path: bytes, place: Place | None) -> _Body:
        how = kind >> told.BODY_SHIFT
        if how != told.BODY_REFERENCE:
            patched = how == told.BODY_PATCH
            return _Body(how, None, patched)
        code = self._columns[Column.REFERENCES].number()
        layer = code >> 1
        if layer >= len(self._folders):
            raise DeltaError(f"the delta names a source layer {layer}, which it does not have")
        begin, end = self._number(PATH_LIMIT), self._number(PATH_LIMIT)
        middle = self._columns[Column.MIDDLES].text()
        source = path[:begin] + middle + (path[-end:] if end else b"")
        return _Body(how, self._source(layer).place(source), bool(code & 1))

    def _header(self, kind: int, path: bytes, place: Place | None, body: _Body) -> Header:
        before = self._before
        meta = self._columns[Column.META]
        differs = meta.number() if kind & told.OTHER_FIELDS else 0
        facts = place.facts if place else None
        type_ = meta.number() & 0xFF if differs & told.TYPE else _type(facts)
        mode, uid, gid = (facts.mode, facts.uid, facts.gid) if facts else before.owner(type_)
        mode = meta.number() if differs & told.MODE else mode
        uid = meta.number() if differs & told.UID else uid
        gid = meta.number() if differs & told.GID else gid
        size = facts.size if facts and body.how != told.BODY_NEW else 0
        if body.how == told.BODY_NEW or differs & told.SIZE:
            size += self._columns[Column.SIZES].signed()
        link = self._columns[Column.LINKS].text() if differs & told.LINK else _link(facts)
        mtime = self._time(kind, facts)
        before.mtime = mtime
        before.owners[type_] = (mode, uid, gid)
        if not 0 <= size <= SIZE_LIMIT:
            raise DeltaError(f"the delta has a file of {size} bytes")
        shape = before.shapes[self._shape(kind, type_)]
        return Header(path, type_, mode, uid, gid, size, mtime, link, shape)

    def _time(self, kind: int, facts: Facts | None) -> int:
        how = kind >> told.TIME_SHIFT & 3
        foretold = facts.mtime if facts and facts.type != told.SYMLINK else None
        if how == told.TIME_FORETOLD and foretold is not None:
            return foretold
        before = self._before.time(foretold)
        return before + self._columns[Column.TIMES].signed() if how == told.TIME_OTHER else before

    def _shape(self, kind: int, type_: int) -> int:
        before = self._before
        number = before.shape(type_)
        if kind & told.OTHER_SHAPE:
            number = self._columns[Column.FORMS].number()
            if number == len(before.shapes) < told.SHAPES_LIMIT:
                content = self._columns[Column.SHAPES].exactly(SHAPE_LENGTH)
                before.shapes.append(read_shape(content))
        if not 0 <= number < len(before.shapes):
            raise DeltaError("the delta uses a shape of headers that it does not have")
        before.use(type_, number)
        return number

    def _content(self, header: Header, body: _Body, place: Place | None) -> None:
        if body.how == told.BODY_NEW:
            extended = header.type in told.EXTENDED_TYPES
            self._copy_column(Column.EXTENDED if extended else Column.NEW, header.size)
            return
        if not header.size and not body.patched:
            return
        if place is None:
            raise DeltaError("the delta has content that comes from nowhere")
        source = place.open()
        try:
            if body.patched:
                self._patching.run(source, header.size)
                return
            for piece in source.pieces(0, header.size):
                self._out.write(piece)
        finally:
            source.close()

    def _copy_column(self, column: Column, length: int) -> None:
        stream = self._columns[column]
        self._patching.new += length
        while length:
            some = stream.some(length)
            self._out.write(some)
            length -= len(some)

    def _number(self, limit: int) -> int:
        value = self._columns[Column.LENGTHS].number()
        if value > limit:
            raise DeltaError(f"the delta has a length of {value}, where at most {limit} may be")
        return value

    def _source(self, number: int) -> SourceLayer:
        if number not in self._opened:
            self._opened[number] = SourceLayer(self._folders[number])
        return self._opened[number]


def _type(facts: Facts | None) -> int:
    return facts.type if facts else told.REGULAR


def _link(facts: Facts | None) -> bytes:
    return facts.link if facts else b""


def main(arguments: Sequence[str]) -> int:
    """The program. Exit status 0, or one of those in `arguments.py`."""
    try:
        given = words.read(arguments)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return words.USAGE
    try:
        delta = Delta.open(given.path, given.names)
        rebuild(delta, given.diff_id, given.sources, _writer(sys.stdout.fileno()))
    except (DeltaError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return words.TROUBLE if _is_trouble(error) else words.UNFIT
    except MemoryError:
        # What it may have is the same another time.
        sys.stderr.write("it takes more memory than this process may have\n")
        return words.UNFIT
    return 0


def _is_trouble(error: DeltaError | OSError) -> bool:
    if isinstance(error, OSError):
        return True
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _PASSING


def _writer(descriptor: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
