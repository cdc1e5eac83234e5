"""What is in a delta: per layer, and per file where its sources are at hand."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.apply import Told, rebuild
from gantry.deltas.format import Column, Layer
from gantry.deltas.reader import Delta

_PARTS = {
    "patches": (Column.ADDS, Column.INSERTS, Column.SEEKS, Column.DIFF),
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


def describe(path: Path, sources: Mapping[str, Path] | None = None) -> Description:
    """What a delta holds; by file where the sources' folders are given, as `rebuild` takes them.

    Raises:
        DeltaError: it is none, or damaged, or does not fit the sources.
        OSError: it cannot be read.
    """
    delta = Delta.open(path)
    layers = tuple(
        LayerDescription(
            layer.diff_id,
            layer.size,
            layer.encoded,
            _parts(layer),
            tuple(_files(delta, layer, sources)) if sources is not None else (),
        )
        for layer in delta.index.layers
    )
    return Description(path.stat().st_size, delta.config, delta.sources, layers)


def _files(delta: Delta, layer: Layer, sources: Mapping[str, Path]) -> Iterator[FileDescription]:
    told: list[Told] = []
    rebuild(delta, layer.diff_id, sources, lambda _: None, told.append)
    parts = _parts(layer)
    changed = parts["patches"] / max(sum(each.changed for each in told), 1)
    new = parts["new"] / max(sum(each.new for each in told), 1)
    for each in told:
        touched = each.changed or each.new
        how = "new" if each.source is None else "patched" if touched else "copied"
        source = os.fsdecode(each.source) if each.source is not None else None
        encoded = round(each.changed * changed + each.new * new)
        yield FileDescription(os.fsdecode(each.path), each.size, how, source, encoded)


def _parts(layer: Layer) -> dict[str, int]:
    found = {"headers": 0.0, "patches": 0.0, "new": 0.0}
    for group in layer.groups:
        for column, length in group.columns:
            part = next((name for name, columns in _PARTS.items() if column in columns), "headers")
            found[part] += group.encoded * length / group.raw if group.raw else 0
    return {name: round(value) for name, value in found.items()}
