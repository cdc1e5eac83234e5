"""Files and folders as a stream of tar, there and back. What a device sends is not trusted."""

import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from gantry.client.errors import ClientError, UsageError

Moved = Callable[[int], None]
"""Told how many bytes of files went through since the last time."""
_PIECE = 1024 * 1024
_MODES = 0o777


def write(path: Path, name: str, stream: IO[bytes], moved: Moved) -> list[str]:
    """A file or folder as a tar, in which it is called `name` and is root's. What it leads to, if
    it is a link; links below stay links. Returns what was left out: sockets, pipes, devices.

    Raises:
        ClientError: a file cannot be read.
    """
    left_out: list[str] = []
    # GNU's form: names of any bytes and length, files of any size, and every tar reads it.
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_PIECE
    ) as archive:
        for each, inner in _tree(path.resolve(), name):
            try:
                _add(archive, each, inner, moved, left_out)
            except PermissionError as error:
                raise ClientError(f"{each} cannot be read: {error.strerror}") from error
    return left_out


def size_of(path: Path) -> int:
    """The bytes of all files, for a percentage."""
    return sum(
        each.lstat().st_size for each, _ in _tree(path.resolve(), "") if stat.S_ISREG(_mode(each))
    )


def _tree(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    yield path, name
    if path.is_dir() and not path.is_symlink():
        for each in sorted(path.iterdir()):
            yield from _tree(each, f"{name}/{each.name}")


def _mode(path: Path) -> int:
    return path.lstat().st_mode


def _add(
    archive: tarfile.TarFile, path: Path, name: str, moved: Moved, left_out: list[str]
) -> None:
    member = archive.gettarinfo(path, name)
    if member is None or not (member.isfile() or member.isdir() or member.issym()):
        # Two names of one file are two files there.
        if member is None or not member.islnk():
            left_out.append(str(path))
            return
        member.type, member.linkname, member.size = tarfile.REGTYPE, "", path.stat().st_size
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode &= _MODES
    if not member.isfile():
        archive.addfile(member)
        return
    with path.open("rb") as file:
        archive.addfile(member, _Counted(file, moved))


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], moved: Moved) -> None:
        self._file, self._moved = file, moved

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._moved(len(piece))
        return piece


def target_of(destination: str, name: str) -> Path:
    """Where a downloaded thing called `name` comes: into a folder that is there, else in its place.

    Raises:
        UsageError: there is no such folder.
    """
    path = Path(destination)
    if path.is_dir():
        return path / name
    if destination.endswith("/") or not path.parent.is_dir():
        folder = path if destination.endswith("/") else path.parent
        raise UsageError(f"there is no folder {folder} here")
    return path


def read(stream: IO[bytes], target: Path, moved: Moved) -> list[str]:
    """Makes of a tar the file or folder `target`. Returns what was left out.

    A name that leads out of it is refused, nothing is written through a link, and links are made
    last: so that nothing is touched but the target. A file is in place once it is whole.

    Raises:
        ClientError: the tar is broken off or leads elsewhere; a file cannot be written.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE) as archive:
            return _Reader(target, moved).read(archive)
    except tarfile.TarError as error:
        raise ClientError(f"{target}: what came is no whole copy: {error}") from error
    except OSError as error:
        where = error.filename or target
        raise ClientError(f"{where} cannot be written: {error.strerror or error}") from error


class _Reader:
    def __init__(self, target: Path, moved: Moved) -> None:
        self._target, self._moved = target, moved
        self._top: str | None = None
        self._links: list[tuple[Path, str]] = []
        self._folders: list[tuple[Path, tarfile.TarInfo]] = []
        self._left_out: list[str] = []
        mask = os.umask(0)
        os.umask(mask)
        self._modes = _MODES & ~mask

    def read(self, archive: tarfile.TarFile) -> list[str]:
        for member in archive:
            self._take(archive, member)
        if self._top is None:
            raise tarfile.ReadError("nothing came")
        for path, goal in self._links:
            self._safe(path)
            path.unlink(missing_ok=True)
            path.symlink_to(goal)
        for path, member in reversed(self._folders):
            path.chmod(member.mode & self._modes)
            os.utime(path, (member.mtime, member.mtime))
        return self._left_out

    def _place(self, name: str) -> Path:
        """Where a member comes."""
        parts = PurePosixPath(name).parts
        if self._top is None and parts:
            self._top = parts[0]
        if not parts or parts[0] != self._top or {"..", "/"} & {*parts}:
            raise ClientError(f"the device sent {name!r:.200}, which leads elsewhere: refused")
        return self._target.joinpath(*parts[1:])

    def _safe(self, path: Path) -> None:
        """Nothing above `path` is a link, up to the target."""
        while path != self._target:
            path = path.parent
            if path.is_symlink():
                raise ClientError(f"{path} is a link: nothing is written through it")

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._place(member.name)
        self._safe(path)
        if member.isdir():
            if not path.is_dir() or (path.is_symlink() and path != self._target):
                path.mkdir()
            self._folders.append((path, member))
            path.chmod(0o700 | path.stat().st_mode & _MODES)
        elif member.issym():
            self._links.append((path, member.linkname))
        elif member.islnk():
            self._copy_of(self._place(member.linkname), path)
        elif member.isfile() and (content := archive.extractfile(member)):
            self._file(path, member, content)
        else:
            self._left_out.append(member.name)

    def _copy_of(self, first: Path, path: Path) -> None:
        """Another name of a file that came before."""
        self._safe(first)
        if first.is_symlink():
            raise ClientError(f"{first} is a link: nothing is read through it")
        shutil.copy2(first, path, follow_symlinks=False)

    def _file(self, path: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        if path.is_dir():
            raise ClientError(f"{path} is a folder here, and a file there")
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                left = member.size
                while left and (piece := content.read(min(_PIECE, left))):
                    file.write(piece)
                    left -= len(piece)
                    self._moved(len(piece))
            if left:
                raise tarfile.ReadError("unexpected end of data")
            temporary.chmod(member.mode & self._modes)
            os.utime(temporary, (member.mtime, member.mtime))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
