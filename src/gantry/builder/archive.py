"""The pushed tree: a tar stream, unpacked within limits."""

import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gantry.builder.plan import RejectedError

NAME_LIMIT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """`size_bytes` bounds the stream and the unpacked files each; `entries` their number."""

    size_bytes: int
    entries: int


async def receive(stream: AsyncIterator[bytes], target: Path, limits: TreeLimits) -> int:
    """Write the stream to `target`; return its size in bytes.

    Raises:
        RejectedError: more than the limit was sent.
    """
    size = 0
    with target.open("wb") as handle:
        async for chunk in stream:
            size += len(chunk)
            if size > limits.size_bytes:
                raise RejectedError(
                    f"the push is larger than {_mib(limits.size_bytes)}: leave large files out of "
                    "the repository"
                )
            handle.write(chunk)
    return size


def unpack(source: Path, target: Path, limits: TreeLimits) -> None:
    """Unpack an uncompressed tar into the new folder `target`. Blocks: run it in a thread.

    Python's `data` filter refuses absolute paths, links that leave the tree and device nodes, and
    clears set-uid bits (https://docs.python.org/3/library/tarfile.html#tarfile.data_filter).
    Owners become the builder's own; times are kept, and no layer cache depends on them.

    Raises:
        RejectedError: not a tar, over a limit, or an entry that a build must not have.
    """
    target.mkdir(parents=True)
    size = entries = 0
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                entries += 1
                size += member.size
                _check(member, size, entries, limits)
                archive.extract(member, target, filter=_filter)
    except tarfile.FilterError as error:
        raise RejectedError(f"the push holds a path that is not allowed: {error}") from error
    except tarfile.TarError as error:
        raise RejectedError(f"the pushed tree is not a tar archive: {error}") from error
    except OSError as error:
        raise RejectedError(f"the pushed tree cannot be unpacked: {error}") from error
    if entries == 0:
        raise RejectedError("the pushed tree is empty: commit at least one file")


def _check(member: tarfile.TarInfo, size: int, entries: int, limits: TreeLimits) -> None:
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise RejectedError(f"{member.name} is a device node or a pipe: files and folders only")
    if member.issparse():
        raise RejectedError(f"{member.name} is a sparse file: these are not unpacked")
    if len(os.fsencode(member.name)) > NAME_LIMIT_BYTES:
        raise RejectedError(f"the path {member.name[:60]}… is longer than {NAME_LIMIT_BYTES} bytes")
    if entries > limits.entries:
        raise RejectedError(f"the push has more than {limits.entries} files: leave some out")
    if size > limits.size_bytes:
        raise RejectedError(f"the pushed files are larger than {_mib(limits.size_bytes)} together")


def _filter(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    filtered = tarfile.data_filter(member, path)
    # Git keeps no more than the executable bit; a umask of the archive's maker must not matter.
    if filtered.isreg():
        return filtered.replace(mode=0o755 if (filtered.mode or 0) & 0o100 else 0o644, deep=False)
    return filtered


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"
