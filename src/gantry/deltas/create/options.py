"""What a delta is made from, how, and what came of it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LayerTar:
    """A layer: its diffID and its uncompressed tar on disk."""

    diff_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Options:
    """How a delta is made. `memory` is what all processes may hold together, in bytes, about.

    A `bare` one goes without the names of what it is for: who reads it has to know them. One that
    would have more than `limit` bytes is not made to the end; None is no limit.
    """

    memory: int = 180 * 1024**2
    workers: int = 2
    bare: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: bytes of work done of all that there are, as far as they are known."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A file of a rebuilt layer. `how` is copied, patched or new; `source` where it comes from.

    `encoded` is what its content takes in the delta, estimated from its share of the columns.
    """

    path: str
    size: int
    how: str
    source: str | None
    encoded: int


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """A rebuilt layer: bytes of its tar, bytes in the delta, and its files in order."""

    diff_id: str
    size: int
    encoded: int
    files: tuple[FileSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A delta that was made."""

    size: int
    layers: tuple[LayerSummary, ...]
