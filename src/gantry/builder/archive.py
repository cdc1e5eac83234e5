"""The pushed tree: a tar stream, unpacked within limits."""

import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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

    Nothing is written outside of `target`, nor through a link. Links themselves may point where
    they like (trees hold parts of root file systems): who reads the tree does not follow them out.
    Owners become the builder's own; times are kept, and no layer cache depends on them.

    Raises:
        RejectedError: not a tar, over a limit, or an entry that a build must not have.
    """
    target.mkdir(parents=True)
    root = target.resolve()
    size = entries = 0
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                entries += 1
                size += member.size
                _check(member, size, entries, limits)
                _extract(archive, member, root)
    except tarfile.TarError as error:
        raise RejectedError(f"the pushed tree is not a tar archive: {error}") from error
    except OSError as error:
        raise RejectedError(f"the pushed tree cannot be unpacked: {error}") from error
    if entries == 0:
        raise RejectedError("the pushed tree is empty: commit at least one file")


def _check(member: tarfile.TarInfo, size: int, entries: int, limits: TreeLimits) -> None:
    if not (member.isreg() or member.isdir() or member.issym()):
        raise RejectedError(
            f"{member.name} is a device node, a pipe or a hard link: a push holds files, folders "
            "and symbolic links"
        )
    if member.issparse():
        raise RejectedError(f"{member.name} is a sparse file: these are not unpacked")
    if len(os.fsencode(member.name)) > NAME_LIMIT_BYTES:
        raise RejectedError(f"the path {member.name[:60]}… is longer than {NAME_LIMIT_BYTES} bytes")
    if entries > limits.entries:
        raise RejectedError(f"the push has more than {limits.entries} files: leave some out")
    if size > limits.size_bytes:
        raise RejectedError(f"the pushed files are larger than {_mib(limits.size_bytes)} together")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise RejectedError(f"{member.name} leaves the pushed tree: use paths inside it")
    path = root / name
    if not path.parent.resolve().is_relative_to(root):
        raise RejectedError(f"{member.name} lies behind a link that leaves the pushed tree")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
        return
    content = archive.extractfile(member)
    assert content is not None  # noqa: S101 - a regular file has content
    # "x": a file that is there would be another entry's, and a link is never written through.
    with path.open("xb") as handle:
        shutil.copyfileobj(content, handle)
    # Git keeps no more than the executable bit; a umask of the archive's maker must not matter.
    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    os.utime(path, (member.mtime, member.mtime))


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"
