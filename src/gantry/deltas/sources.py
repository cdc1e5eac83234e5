"""Files of source layers, as the engine's storage driver keeps them.

A delta says which: so no symbolic link is followed anywhere on the way, and nothing but regular
files is opened.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gantry.deltas.format import (
    DEPTH_LIMIT,
    NAMES_LIMIT,
    NAMES_SIZE_LIMIT,
    PATH_LIMIT,
    DeltaError,
    Order,
)
from gantry.deltas.packing import PIECE

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Behind a name that a walk holds, and what no name has: a folder, which is entered when the walk
# has been at it; what is in a folder, where its path sorts.
_ENTERED, _INSIDE = b"\0", b"/"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a source file is, in tar's words. `size` is 0 but of a regular file."""

    type: int
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    link: bytes = b""


class SourceFile:
    """A regular file that is open."""

    def __init__(self, descriptor: int, size: int, name: bytes) -> None:
        self._descriptor = descriptor
        self.size = size
        self.name = name

    def some(self, offset: int, length: int, least: int) -> bytes:
        """So many bytes, or what there is of them.

        Raises:
            DeltaError: that is less than the least.
        """
        found = b""
        if 0 <= offset <= self.size:
            try:  # a context manager would take longer than the reading
                found = os.pread(self._descriptor, length, offset)
            except OSError as error:
                raise _unreadable(self.name, error) from error
        if len(found) < least:
            raise DeltaError(
                f"the source file {os.fsdecode(self.name)} is shorter than the delta says"
            )
        return found

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """Exactly so many bytes, at most PIECE at a time.

        Raises:
            DeltaError: it has fewer.
        """
        while length:
            some = min(length, PIECE)
            yield self.some(offset, some, some)
            offset += some
            length -= some

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _reading(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: bytes, error: OSError) -> DeltaError:
    return DeltaError(f"the source {os.fsdecode(path)!r} cannot be read: {error.strerror}")


def check_path(path: bytes) -> list[bytes]:
    """A path's parts.

    Raises:
        DeltaError: it is absolute or empty, goes upwards, or is too long or too deep.
    """
    parts = path.split(b"/")
    if len(path) > PATH_LIMIT or len(parts) > DEPTH_LIMIT or b"\0" in path:
        raise DeltaError("the delta names a source file by a path that is too long or has a NUL")
    if any(part in (b"", b".", b"..") for part in parts):
        raise DeltaError(f"the delta names a source file by a path that is not allowed: {path!r}")
    return parts


def facts(name: bytes, folder: int) -> Facts:
    """What a name in a folder is. Raises OSError."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    mode = found.st_mode
    size = 0
    link = b""
    if stat.S_ISREG(mode):
        kind, size = b"0", found.st_size
    elif stat.S_ISDIR(mode):
        kind = b"5"
    elif stat.S_ISLNK(mode):
        kind, link = b"2", os.readlink(name, dir_fd=folder)
    else:
        kind = {stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}.get(
            stat.S_IFMT(mode), b"0"
        )
    mtime = found.st_mtime_ns // 10**9
    return Facts(kind[0], mode & 0o7777, found.st_uid, found.st_gid, mtime, size, link)


@dataclass(slots=True)
class Place:
    """A name in a folder that is open: where a walk stands, or where a path leads to."""

    folder: int
    name: bytes
    path: bytes
    known: Facts | None = field(default=None)

    @property
    def facts(self) -> Facts:
        if self.known is None:
            with _reading(self.path):
                self.known = facts(self.name, self.folder)
        return self.known

    def open(self) -> SourceFile:
        """Open it for reading.

        Raises:
            DeltaError: it is no regular file, or cannot be opened.
        """
        shown = os.fsdecode(self.path)
        with _reading(self.path):
            descriptor = os.open(self.name, _READ, dir_fd=self.folder)
            found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise DeltaError(f"the source {shown} is no regular file")
        return SourceFile(descriptor, found.st_size, self.path)


class SourceLayer:
    """A source layer's folder."""

    def __init__(self, root: Path) -> None:
        with _reading(os.fsencode(root)):
            self._root = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
        self._walk: Iterator[Place] | None = None
        self._parent: list[int] = []

    def close(self) -> None:
        self._forget()
        if self._walk is not None:
            self._walk.close()  # type: ignore[attr-defined]
        os.close(self._root)

    def place(self, path: bytes) -> Place:
        """Where a path leads to; it holds until the next is asked for.

        Raises:
            DeltaError: the path is not allowed; a folder on the way is not there, or is none.
        """
        *folders, name = check_path(path)
        self._forget()
        folder = self._root
        for part in folders:
            with _reading(path):
                folder = os.open(part, _FOLDER, dir_fd=folder)
            self._forget()
            self._parent.append(folder)
        return Place(folder, name, path)

    def next(self, skip: int, order: Order) -> Place:
        """The walk's next place but `skip`: folders before what is in them, names in byte order.

        Raises:
            DeltaError: there are no more, or it would have to hold too many of them.
        """
        if self._walk is None:
            self._walk = _walk(self._root, b"", order, _Room(NAMES_LIMIT, NAMES_SIZE_LIMIT, 0))
        for place in self._walk:
            if not skip:
                return place
            skip -= 1
        raise DeltaError("a source layer has fewer files than the delta says")

    def _forget(self) -> None:
        for descriptor in self._parent:
            os.close(descriptor)
        self._parent.clear()


@dataclass(frozen=True, slots=True)
class _Room:
    """What a walk may hold at a depth: so many names, of so many bytes together."""

    names: int
    size: int
    depth: int


def _walk(folder: int, path: bytes, order: Order, room: _Room) -> Iterator[Place]:
    if room.depth > DEPTH_LIMIT:
        raise DeltaError(f"the source folder {os.fsdecode(path)} is too deep")
    names, room = _listing(folder, path or b"/", order, room)
    # From behind, so that names are given back as they are done with.
    names.sort(reverse=True)
    while names:
        held = names.pop()
        name = held.rstrip(_ENTERED + _INSIDE)
        here = path + b"/" + name if path else name
        if not held.endswith(_INSIDE):
            yield Place(folder, name, here)
        if len(held) > len(name):
            with _reading(here):
                inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                yield from _walk(inner, here, order, room)
            finally:
                os.close(inner)


def _listing(folder: int, path: bytes, order: Order, room: _Room) -> tuple[list[bytes], _Room]:
    """The names of a folder, as a walk holds them, and what it may hold further in."""
    held: list[bytes] = []
    names, size = room.names, room.size
    for name, is_folder in _entries(folder, path):
        times = 1 + is_folder
        names -= times
        size -= times * len(name)
        if names < 0 or size < 0:
            raise DeltaError(
                f"the source folder {os.fsdecode(path)} has too many names to walk through: with "
                f"those above it {NAMES_LIMIT} of {NAMES_SIZE_LIMIT} bytes may be held"
            )
        if is_folder and order is Order.PATHS:
            held.append(name + _INSIDE)
        held.append(name + _ENTERED if is_folder and order is Order.FOLDERS else name)
    return held, _Room(names, size, room.depth + 1)


def _entries(folder: int, path: bytes) -> Iterator[tuple[bytes, bool]]:
    """The names in a folder, and which of them are folders."""
    with _reading(path):
        descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)
        finally:
            os.close(descriptor)
