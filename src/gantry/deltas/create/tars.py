"""Layers' tars, read by offset: their entries, and what an engine makes of them on disk."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gantry.deltas import entries as told
from gantry.deltas.format import BLOCK, DEPTH_LIMIT, PATH_LIMIT, SIZE_LIMIT
from gantry.deltas.headers import FOLDER, USUAL_SHAPES, Header, parse
from gantry.deltas.sources import Facts

_PIECE = 1024**2
# Signed differences of times have 64 bits.
_LATEST = 2**62
_SEEN = frozenset(b"0256")
_ON_DISK = frozenset(b"0123456")
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Extended:
    """What pax headers and GNU's long names say of the entry that follows.

    `plain` is False where it changes what the content is, or owners: such entries are no sources.
    """

    path: bytes | None = None
    link: bytes | None = None
    mtime: int | None = None
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tar. `offset` is its content's place in it.

    `path` is the name that engines know it by: its own, or what the entries before it say.
    """

    header: Header
    offset: int
    digest: bytes
    path: bytes
    extended: Extended

    @property
    def content(self) -> int:
        """The length of its content."""
        return _content(self.header)

    @property
    def plain(self) -> "Plain":
        """The same as plain bytes."""
        length = BLOCK + self.content
        return Plain(self.offset - BLOCK, length + -length % BLOCK, False)


@dataclass(frozen=True, slots=True)
class Plain:
    """Blocks that are no header. `zeros` says whether they hold nothing else."""

    offset: int
    length: int
    zeros: bool


class Tar:
    """A tar that is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes. Raises OSError where there are fewer."""
        found = os.pread(self._descriptor, length, offset)
        if len(found) != length:
            raise OSError(f"{self.path} has become shorter")
        return found

    def digest(self, offset: int, length: int) -> bytes:
        """What tells contents apart."""
        hashed = hashlib.blake2b(digest_size=16)
        while length:
            data = self.read(offset, min(length, _PIECE))
            hashed.update(data)
            offset += len(data)
            length -= len(data)
        return hashed.digest()

    def entries(self) -> Iterator[Entry | Plain]:
        """All that the tar holds, in order and without gaps but for the padding of contents."""
        offset = 0
        extended = Extended()
        while offset < self.size:
            header = parse(self.read(offset, BLOCK)) if offset + BLOCK <= self.size else None
            size = _content(header)
            end = offset + BLOCK + size + -size % BLOCK
            if header is None or end > self.size or not self._padded(offset + BLOCK + size, end):
                yield (plain := self._plain(offset))
                offset += plain.length
                continue
            digest = self.digest(offset + BLOCK, size) if size else b""
            if header.type in told.EXTENDED_TYPES:
                yield Entry(header, offset + BLOCK, digest, b"", Extended())
                extended = self._extended(header, offset + BLOCK, extended)
            else:
                path = header.path if extended.path is None else extended.path
                yield Entry(header, offset + BLOCK, digest, path, extended)
                extended = Extended()
            offset = end

    def _padded(self, offset: int, end: int) -> bool:
        return not any(self.read(offset, end - offset))

    def _plain(self, offset: int) -> Plain:
        """Zeros up to the next other byte's block, or else one block."""
        begin = offset
        while offset < self.size:
            data = self.read(offset, min(_PIECE, self.size - offset))
            rest = data.lstrip(b"\0")
            offset += (len(data) - len(rest)) // BLOCK * BLOCK if rest else len(data)
            if rest:
                break
        if offset > begin:
            return Plain(begin, offset - begin, True)
        return Plain(begin, min(BLOCK, self.size - begin), False)

    def _extended(self, header: Header, offset: int, before: Extended) -> Extended:
        if header.size > _PIECE:
            return replace(before, plain=False)
        content = self.read(offset, header.size)
        if header.type == ord("L"):
            return replace(before, path=_tidy(content.rstrip(b"\0")))
        if header.type == ord("K"):
            return replace(before, link=content.rstrip(b"\0"))
        return _said(_pax(content), before) if header.type == ord("x") else before


def _content(header: Header | None) -> int:
    return 0 if header is None or header.type in told.EMPTY_TYPES else header.size


def _tidy(name: bytes) -> bytes:
    return name.removeprefix(b"./").removesuffix(b"/")


def _said(records: dict[bytes, bytes], before: Extended) -> Extended:
    others = records.keys() - {b"path", b"linkpath", b"mtime", b"atime", b"ctime"}
    plain = before.plain and all(key.startswith(b"SCHILY.xattr.") for key in others)
    # GNU tar gives sparse files another name than their own in the header.
    path = records.get(b"GNU.sparse.name", records.get(b"path"))
    time = records.get(b"mtime")
    seconds, _, fraction = time.partition(b".") if time else (b"", b"", b"")
    if time and not (seconds.isdigit() and (not fraction or fraction.isdigit())):
        plain = False
    return Extended(
        before.path if path is None else _tidy(path),
        records.get(b"linkpath", before.link),
        int(seconds) if seconds.isdigit() else before.mtime,
        plain,
    )


def _pax(content: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: `length key=value`, each with a line's end."""
    found = {}
    while content:
        digits, _, _ = content.partition(b" ")
        if not digits.isdigit() or not 0 < int(digits) <= len(content):
            break
        key, _, value = content[len(digits) + 1 : int(digits) - 1].partition(b"=")
        found[key] = value
        content = content[int(digits) :]
    return found


def tellable(entries: Iterable[Entry | Plain]) -> Iterator[Entry | Plain]:
    """The entries of a target; plain bytes instead of those whose headers would be told by what no
    reader takes: more shapes than there may be, or numbers that are too large."""
    shapes = set(USUAL_SHAPES)
    for each in entries:
        if isinstance(each, Entry):
            header = each.header
            is_known = header.shape in shapes or len(shapes) < told.SHAPES_LIMIT
            if not is_known or header.mtime > _LATEST or header.size > SIZE_LIMIT:
                yield each.plain
                continue
            shapes.add(header.shape)
        yield each


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A name in an extracted layer: the entry, and what a device sees of it.

    `facts` is None where that is not sure: folders that no entry tells of, whiteouts, and so on.
    """

    path: bytes
    entry: Entry | None
    facts: Facts | None

    @property
    def regular(self) -> bool:
        """Whether it is a file whose content is that of its entry."""
        entry = self.entry
        return self.facts is not None and entry is not None and entry.header.type == told.REGULAR


def on_disk(entries: list[Entry | Plain]) -> list[OnDisk] | None:
    """What an engine's storage driver has of a layer, in the order of a walk.

    None where that is not sure: entries that are there twice, lead through symbolic links, or have
    names that engines may read in more than one way.
    """
    found: dict[bytes, Entry | None] = {}
    for entry in entries:
        if isinstance(entry, Plain):
            if not entry.zeros:
                return None
            continue
        if entry.header.type in told.EXTENDED_TYPES:
            continue
        path = entry.path
        if not path:
            continue
        folder, _, name = path.rpartition(b"/")
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                # No name of its own, but its folder is there.
                if any(_not_a_folder(found.setdefault(parent, None)) for parent in _parents(path)):
                    return None
                continue
            if name.startswith(_WHITEOUT * 2):
                return None
            path = folder + b"/" + name[4:] if folder else name[4:]
        if found.get(path) is not None or not _sound(path, entry):
            return None
        for parent in _parents(path):
            if _not_a_folder(found.setdefault(parent, None)):
                return None
        if path in found and entry.header.type != FOLDER:
            return None
        found[path] = entry if entry.path == path else None
    order = sorted(found, key=lambda path: path.replace(b"/", b"\0"))
    return [OnDisk(path, found[path], _facts(path, found)) for path in order]


def _facts(path: bytes, found: dict[bytes, Entry | None]) -> Facts | None:
    entry = found[path]
    if entry is not None and entry.header.type == ord("1"):
        entry = found.get(_tidy(entry.header.link if entry.extended.link is None else b""))
        if entry is None or entry.header.type != told.REGULAR:
            return None
    if entry is None or not entry.extended.plain or entry.header.type not in _SEEN:
        return None
    header, extended = entry.header, entry.extended
    mtime = header.mtime if extended.mtime is None else extended.mtime
    if mtime > _LATEST:
        return None
    link = header.link if extended.link is None else extended.link
    return Facts(
        header.type,
        0o777 if header.type == told.SYMLINK else header.mode & 0o7777,
        header.uid,
        header.gid,
        mtime,
        entry.content,
        link if header.type == ord("2") else b"",
    )


def _sound(path: bytes, entry: Entry) -> bool:
    parts = path.split(b"/")
    return (
        entry.header.type in _ON_DISK
        and len(path) <= PATH_LIMIT
        and len(parts) < DEPTH_LIMIT
        and all(part not in (b"", b".", b"..") and len(part) <= 255 for part in parts)
    )


def _not_a_folder(entry: Entry | None) -> bool:
    return entry is not None and entry.header.type != FOLDER


def _parents(path: bytes) -> Iterator[bytes]:
    end = path.find(b"/")
    while end > 0:
        yield path[:end]
        end = path.find(b"/", end + 1)
