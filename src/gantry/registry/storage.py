"""Where the registry's files are: a folder, or a bucket. The doorway to both.

Paths are those of distribution 2.8, below its root directory, with slashes and none at the
beginning.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# What one DeleteObjects takes
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html).
BATCH = 1000


class StorageError(Exception):
    """The storage does not answer, or refuses; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. `modified` is in seconds since 1970, by the storage's clock."""

    path: str
    size: int
    modified: float


class Storage(Protocol):
    """What the collector needs of a storage."""

    # How many reads are worth being done side by side, and how many blobs' removals in one step.
    readers: int
    batch: int

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All files below a folder. What comes or goes meanwhile may be in it or not."""

    def read(self, path: str) -> bytes:
        """A file's content. Raises FileNotFoundError when there is none."""

    def write(self, path: str, content: bytes) -> None:
        """Make a file, or replace its content."""

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""


class Folder:
    """Files in a folder of this machine."""

    readers = 1
    batch = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, prefix: str) -> Iterator[Entry]:
        """As the protocol has it."""
        waiting = [prefix.strip("/")]
        while waiting:
            below = waiting.pop()
            try:
                found = list(os.scandir(self._root / below))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for each in found:
                path = f"{below}/{each.name}" if below else each.name
                try:
                    if each.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        about = each.stat(follow_symlinks=False)
                        yield Entry(path, about.st_size, about.st_mtime)
                except FileNotFoundError:
                    continue

    def read(self, path: str) -> bytes:
        """As the protocol has it."""
        return (self._root / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """As the protocol has it."""
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def remove(self, paths: Sequence[str]) -> None:
        """As the protocol has it; a folder that is empty then goes too."""
        for path in paths:
            place = self._root / path
            place.unlink(missing_ok=True)
            with suppress(OSError):
                place.parent.rmdir()


class Bucket:
    """Objects of a bucket of S3-compatible storage, through boto3."""

    readers = 8
    batch = 50

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """As the protocol has it."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{prefix.strip('/')}/"
        )
        for page in pages:
            for each in page.get("Contents", ()):
                path = each["Key"].removeprefix(self._prefix)
                yield Entry(path, int(each["Size"]), each["LastModified"].timestamp())

    def read(self, path: str) -> bytes:
        """As the protocol has it."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
        except self._client.exceptions.NoSuchKey as error:
            raise FileNotFoundError(path) from error
        content: bytes = answer["Body"].read()
        return content

    def write(self, path: str, content: bytes) -> None:
        """As the protocol has it."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + path, Body=content)

    def remove(self, paths: Sequence[str]) -> None:
        """As the protocol has it."""
        for begin in range(0, len(paths), BATCH):
            keys = [{"Key": self._prefix + path} for path in paths[begin : begin + BATCH]]
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True}
            )
            for fault in answer.get("Errors", ()):
                raise StorageError(
                    f"{fault.get('Key')} of bucket {self._bucket} cannot be removed: "
                    f"{fault.get('Message') or fault.get('Code')}"
                )
