"""Files that outlive a loss of power: replaced whole or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


class FileError(Exception):
    """A file cannot be read or written; the message says which, why, and what to do."""


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None where there is no file.

    Raises:
        FileError: it is unreadable or holds something else.
    """
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        # The reason quotes nothing of the file: it may hold keys.
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise FileError(f"{path} is not JSON ({reason}): correct or remove it") from error
    if not isinstance(document, dict):
        raise FileError(f"{path} is no JSON object: correct or remove it")
    return document


def read_kept(path: Path) -> dict[str, Any] | None:
    """As `read_object`; where power was lost in a write, what was being written.

    Raises:
        FileError: as `read_object`, and there is no whole copy beside it.
    """
    copy = None
    with contextlib.suppress(FileError):
        copy = read_object(path.with_name(path.name + ".tmp"))
    try:
        found = read_object(path)
    except FileError:
        if copy is None:
            raise
        return copy
    return copy if found is None else found


def write_object(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON object for root alone, so that a loss of power leaves the old file or the new.

    Raises:
        FileError: the disk is full or read-only.
    """
    temporary = path.with_name(path.name + ".tmp")
    content = json.dumps(document, indent=2).encode() + b"\n"
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FileError(
            f"{path} cannot be written ({error.strerror}): it must be on a file system that is "
            "mounted for writing and has room"
        ) from error


def sync_folder(folder: Path) -> None:
    """Have renames in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> bool:
    """Remove a file, for good; whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True
