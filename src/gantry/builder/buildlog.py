"""The full log of each build, kept on the volume as gzip and readable while it grows."""

import gzip
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path

KEPT_LOGS = 500
TAIL_BYTES = 64 * 1024
_FLUSH_LINES = 50


class BuildLog:
    """The log of one build. It lies in `folder` under the release's id once that is known."""

    def __init__(self, folder: Path, name: str, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.log.gz"
        # Open as long as the build is: closed by close().
        self._file = gzip.open(self._path, "wb", compresslevel=5)  # noqa: SIM115
        self._left = limit_bytes
        self._lines = 0
        self._tail = bytearray()

    def keep(self, release_id: int) -> None:
        """From now on this is the log of a release."""
        target = self._path.with_name(f"{release_id}.log.gz")
        self._path.replace(target)
        self._path = target

    def write(self, line: str) -> None:
        """Add a line with its time; what is over the limit is dropped, and the log says so."""
        if self._left <= 0:
            return
        stamp = datetime.now(UTC).strftime("%H:%M:%S")
        data = f"{stamp} {line}\n".encode("utf-8", "replace")
        self._left -= len(data)
        if self._left <= 0:
            data = f"{stamp} the log reached its limit: the rest is not kept\n".encode()
        self._file.write(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        self._lines += 1
        if self._lines % _FLUSH_LINES == 0:
            self._file.flush()

    def tail(self) -> str:
        """The last 64 KiB, from a line's beginning."""
        text = bytes(self._tail).decode("utf-8", "replace")
        return text if len(self._tail) < TAIL_BYTES else text.partition("\n")[2]

    def close(self) -> None:
        """Finish the file; a build that became no release leaves none."""
        self._file.close()
        if not _release_id(self._path):
            self._path.unlink(missing_ok=True)


def read(folder: Path, release_id: int) -> str | None:
    """The log of a release, as far as it is written; None when there is none."""
    try:
        data = (folder / f"{release_id}.log.gz").read_bytes()
    except FileNotFoundError:
        return None
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data).decode("utf-8", "replace")


def prune(folder: Path, kept: int = KEPT_LOGS) -> None:
    """Remove all but the newest logs."""
    logs = sorted(folder.glob("*.log.gz"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in logs[kept:]:
        each.unlink(missing_ok=True)


def _release_id(path: Path) -> str | None:
    match = re.fullmatch(r"(\d+)\.log\.gz", path.name)
    return match[1] if match else None
