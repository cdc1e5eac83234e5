"""Files on the boot partition: FAT, which has no journal, and from which the firmware starts.

A file is written beside its place, synced, read back and renamed, so that a loss of power leaves
the old one or the new one; and what power cut short in the renaming itself is found again.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class BootFileError(OSError):
    """The boot partition cannot be read or written; the message says what to do."""


def _temporary(path: Path) -> Path:
    # Not hidden, and not of a name that gantry-config or NetworkManager would take for a setting.
    return path.with_name(f"{path.name}.tmp")


def read(path: Path) -> bytes | None:
    """The file's content; None where there is no such file.

    Raises:
        BootFileError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BootFileError(f"{path} cannot be read: {error.strerror}") from error


def recover(path: Path) -> None:
    """End a replacing that a loss of power broke off in its renaming: FAT may then have the whole
    new file under its temporary name alone. For files that a device always has.

    Raises:
        BootFileError: the boot partition cannot be written.
    """
    temporary = _temporary(path)
    try:
        if not path.exists() and temporary.exists():
            temporary.replace(path)
            sync(path.parent)
    except OSError as error:
        raise BootFileError(f"{path} cannot be written: {error.strerror}") from error


def write(
    path: Path, content: bytes, checkpoint: Callable[[str], None] = lambda _name: None
) -> bool:
    """Replace the file, whole or not at all; whether that changed anything. `checkpoint` is called
    at each point where power may be lost.

    Raises:
        BootFileError: no room, or not mounted for writing. The file is as it was.
    """
    temporary = _temporary(path)
    try:
        if path.is_file() and path.read_bytes() == content:
            temporary.unlink(missing_ok=True)
            return False
        path.parent.mkdir(mode=0o755, exist_ok=True)
        if path.exists():
            # A copy that an earlier loss of power left would be taken for the file's content.
            temporary.unlink(missing_ok=True)
        checkpoint("before write")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content[: len(content) // 2])
            checkpoint("half written")
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        checkpoint("written")
        if temporary.read_bytes() != content:
            raise BootFileError(f"{temporary} is not as it was written: the card is failing")
        temporary.replace(path)
        checkpoint("renamed")
        sync(path.parent)
    except BootFileError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
        with suppress(OSError):
            if path.exists():
                temporary.unlink(missing_ok=True)
        raise BootFileError(
            f"{path} cannot be written ({error.strerror}): the boot partition must be mounted for "
            "writing and have room"
        ) from error
    return True


def remove(path: Path) -> bool:
    """Remove the file; whether there was one.

    Raises:
        BootFileError: the boot partition cannot be written.
    """
    try:
        _temporary(path).unlink(missing_ok=True)
        if not path.exists():
            return False
        path.unlink()
        sync(path.parent)
    except OSError as error:
        raise BootFileError(f"{path} cannot be removed: {error.strerror}") from error
    return True


def sync(directory: Path) -> None:
    """Have renames on the card."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
