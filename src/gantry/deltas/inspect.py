"""What is in a delta: per layer, and per file where its sources are at hand."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from gantry.deltas.apply import Told, rebuild
from gantry.deltas.format import Column, Layer
from gantry.deltas.names import Names
from gantry.deltas.reader import Delta

_PARTS = {
    "patches": (Column.ADDS, Column.INSERTS, Column.SEEKS, Column.DIFF, Column.GAPS),
    "new": (Column.NEW, Column.EXTENDED),
}


@dataclass(frozen=True, slots=True)
class FileDescription:
    """A file of a rebuilt layer: `how` is copied, patched or new, `source` what it is made from.

    `encoded` is its share of what the delta has of differences and new bytes.
    """

    path: str
    size: int
    how: str
    source: str | None
    encoded: int


@dataclass(frozen=True, slots=True)
class LayerDescription:
    """A layer: bytes of its tar, bytes in the delta, and these by what they are for.

    `parts` has headers, patches and new; columns that are packed together are shared out by their
    lengths. What a row has of each is known with the sources only: without them all is headers.
    `files` is empty where the sources are not known.
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


def describe(
    path: Path, sources: Mapping[str, Path] | None = None, names: Names | None = None
) -> Description:
    """What a delta holds; by file where the sources' folders are given, as `rebuild` takes them.
    A bare delta needs the names of what it is for.

    Raises:
        DeltaError: it is none, or damaged, or does not fit the sources.
        OSError: it cannot be read.
    """
    delta = Delta.open(path, names)
    layers = tuple(
        _layer(delta, diff_id, layer, sources)
        for diff_id, layer in zip(delta.names.layers, delta.index.layers, strict=True)
    )
    return Description(path.stat().st_size, delta.config, delta.sources, layers)


def _layer(
    delta: Delta, diff_id: str, layer: Layer, sources: Mapping[str, Path] | None
) -> LayerDescription:
    told: list[Told] = []
    if sources is not None:
        rebuild(delta, diff_id, sources, lambda _: None, told.append)
    counts = [(each.changed, each.new) for each in told]
    files = []
    for each, encoded in zip(told, shares(layer, counts), strict=True):
        how = "new" if each.source is None else "patched" if each.is_patched else "copied"
        source = os.fsdecode(each.source) if each.source is not None else None
        files.append(FileDescription(os.fsdecode(each.path), each.size, how, source, encoded))
    parts = {name: round(value) for name, value in _parts(layer, counts).items()}
    return LayerDescription(diff_id, layer.size, layer.encoded, parts, tuple(files))


def shares(layer: Layer, counts: Sequence[tuple[int, int]]) -> list[int]:
    """What each file takes in the delta, by its bytes that are changed and those that are new."""
    parts = _parts(layer, counts)
    changed = parts["patches"] / max(sum(count for count, _ in counts), 1)
    new = parts["new"] / max(sum(count for _, count in counts), 1)
    return [ceil(some * changed + other * new) for some, other in counts]


def _parts(layer: Layer, counts: Sequence[tuple[int, int]]) -> dict[str, float]:
    row = layer.row
    if row is not None:
        rate = len(row.content) / max(row.raw, 1)
        patches = rate * sum(changed for changed, _ in counts)
        new = rate * sum(new for _, new in counts)
        return {"headers": len(row.content) - patches - new, "patches": patches, "new": new}
    found = {"headers": 0.0, "patches": 0.0, "new": 0.0}
    for group in layer.groups:
        for column, length in group.columns:
            part = next((name for name, columns in _PARTS.items() if column in columns), "headers")
            found[part] += group.encoded * length / group.raw if group.raw else 0
    return found
