"""Trees of files in memory, and layers of them as BuildKit writes them.

A layer's tar has its names in the order of a walk, whole seconds, PAX headers only where a name or
a number asks for one (Go's archive/tar, format PAX), and root for what no package gives to others.
"""

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

Content = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a tree: `kind` is a type of tarfile, `link` where it points, `read` its bytes."""

    name: str
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    mtime: int = 0
    link: str = ""
    read: Content = bytes
    uid: int = 0
    gid: int = 0


Tree = dict[str, Entry]


def tree_of(entries: Iterable[Entry]) -> Tree:
    """A tree with the folders that nobody named; a later entry of a name wins."""
    tree: Tree = {}
    for entry in entries:
        for folder in reversed(Path(entry.name).parents):
            if (name := str(folder)) != ".":
                tree.setdefault(name, Entry(name, tarfile.DIRTYPE, 0o755, entry.mtime))
        tree[entry.name] = entry
    return tree


def with_times(tree: Tree, at: int, files_a_second: int = 400) -> Tree:
    """The same content, written anew: times go on while an installer writes."""
    names = sorted(tree)
    return {
        name: replace(tree[name], mtime=at + index // files_a_second)
        for index, name in enumerate(names)
    }


def renamed(tree: Tree, old: str, new: str) -> Tree:
    """The folder `old` and all in it is `new`, as `mv` leaves it."""
    moved = []
    for entry in tree.values():
        inside = entry.name == old or entry.name.startswith(f"{old}/")
        name = new + entry.name.removeprefix(old) if inside else entry.name
        hard = entry.kind == tarfile.LNKTYPE and entry.link.startswith(f"{old}/")
        link = new + entry.link.removeprefix(old) if hard else entry.link
        moved.append(replace(entry, name=name, link=link))
    return tree_of(moved)


def write(tree: Tree, path: Path) -> None:
    """The layer of a tree. A hard link comes after the file that it means."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(tree, key=lambda name: name.split("/")):
            _add(tar, tree[name])
        end = tar.offset
    # Python fills a record of 10 KiB; Go ends with two blocks.
    os.truncate(path, end + 2 * tarfile.BLOCKSIZE)


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    folder = entry.kind == tarfile.DIRTYPE
    header = tarfile.TarInfo(entry.name + "/" * folder)
    header.type, header.mode, header.mtime = entry.kind, entry.mode, entry.mtime
    header.linkname, header.uid, header.gid = entry.link, entry.uid, entry.gid
    content = entry.read() if entry.kind == tarfile.REGTYPE else b""
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
