"""A pushed tree, as resolution sees it: names and texts, never links that leave it."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from gantry.builder.plan import RejectedError

TEXT_LIMIT_BYTES = 1024 * 1024


class Tree:
    """The files under a folder. Paths are relative, with `/`, and `.` is the folder itself."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @staticmethod
    def join(folder: str, name: str) -> str:
        """`name` in `folder`, without a leading `./`."""
        return posixpath.normpath(posixpath.join(folder, name))

    def path(self, name: str) -> Path:
        """Where a file of the tree is on the disk.

        Raises:
            RejectedError: the path, or the link that it is, leaves the tree.
        """
        found = (self.root / name).resolve()
        if not found.is_relative_to(self.root):
            raise RejectedError(f"{name} leaves the pushed tree: use a path inside it")
        return found

    def is_file(self, name: str) -> bool:
        return self.path(name).is_file()

    def is_folder(self, name: str) -> bool:
        return self.path(name).is_dir()

    def read(self, name: str) -> str:
        """The text of a file.

        Raises:
            RejectedError: no such file, larger than 1 MiB, or not UTF-8.
        """
        path = self.path(name)
        try:
            if path.stat().st_size > TEXT_LIMIT_BYTES:
                raise RejectedError(f"{name} is larger than {TEXT_LIMIT_BYTES // 1024} KiB")
            return path.read_text()
        except UnicodeDecodeError as error:
            raise RejectedError(f"{name} is not UTF-8 text: {error.reason}") from error
        except OSError as error:
            raise RejectedError(f"{name} cannot be read: {error.strerror}") from error

    def files(self, folder: str) -> Iterator[str]:
        """All regular files under `folder`, sorted."""
        start = self.path(folder)
        for each in sorted(start.rglob("*")):
            if each.is_file() and not each.is_symlink():
                yield each.relative_to(self.root).as_posix()

    def names(self, folder: str) -> list[str]:
        """The names in `folder`, sorted, folders with a `/` behind."""
        entries = sorted(self.path(folder).iterdir())
        return [f"{each.name}/" if each.is_dir() else each.name for each in entries]
