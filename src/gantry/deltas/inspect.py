"""What is in a delta: per layer, and per file where its sources are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.format import Column, Layer
from gantry.deltas.reader import Delta

_PARTS = {
    "patches": (Column.ADDS, Column.INSERTS, Column.SEEKS, Column.DIFF),
    "new": (Column.NEW, Column.EXTENDED),
}


@dataclass(frozen=True, slots=True)
class FileDescription:
    """A file of a rebuilt layer: `how` is copied, patched or new, `source` what it is made from."""

    name: str
    size: int
    how: str
    source: str | None
    encoded: int


@dataclass(frozen=True, slots=True)
class LayerDescription:
    """A layer: bytes of its tar, bytes in the delta, and these by what they are for.

    `parts` has headers, patches and new; columns that are packed together are shared out by their
    lengths. `files` is empty where the sources are not known.
    """

    diff_id: str
    size: int
    encoded: int
    parts: Mapping[str, int]
    files: tuple[FileDescription, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """A delta: bytes of the file, the target's configuration, sources and layers."""

    size: int
    config: str
    sources: tuple[str, ...]
    layers: tuple[LayerDescription, ...]


def describe(path: Path) -> Description:
    """What a delta holds.

    Raises:
        DeltaError: it is none, or damaged.
        OSError: it cannot be read.
    """
    delta = Delta.open(path)
    layers = tuple(
        LayerDescription(layer.diff_id, layer.size, layer.encoded, _parts(layer))
        for layer in delta.index.layers
    )
    return Description(path.stat().st_size, delta.config, delta.sources, layers)


def _parts(layer: Layer) -> dict[str, int]:
    found = {"headers": 0.0, "patches": 0.0, "new": 0.0}
    for group in layer.groups:
        for column, length in group.columns:
            part = next((name for name, columns in _PARTS.items() if column in columns), "headers")
            found[part] += group.encoded * length / group.raw if group.raw else 0
    return {name: round(value) for name, value in found.items()}
