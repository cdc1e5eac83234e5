"""Choosing, for each file of a target layer, what it is made from."""

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile

from gantry.deltas import entries as told
from gantry.deltas.create.tars import Entry, OnDisk, Plain
from gantry.deltas.format import NAMES_LIMIT, NAMES_SIZE_LIMIT, Order
from gantry.deltas.headers import FOLDER
from gantry.deltas.sources import Facts

_VERSION = re.compile(rb"\d+(\.\d+)*")
# Below this, a patch costs more than it saves.
_PATCHED_FROM = 32


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a source layer."""

    layer: int
    path: bytes
    entry: Entry
    facts: Facts


@dataclass(frozen=True, slots=True)
class Match:
    """What a target's file is made from, and whether it is patched."""

    source: Source
    patched: bool


class Sources:
    """The files of all source layers, by content, path and name. Upper layers come first."""

    def __init__(self, layers: list[list[OnDisk] | None]) -> None:
        self.layers = layers
        self._in_layer: dict[tuple[int, bytes], Source] = {}
        self._by_content: dict[bytes, list[Source]] = {}
        self._by_path: dict[bytes, Source] = {}
        self._by_name: dict[bytes, list[Source]] = {}
        self._by_family: dict[bytes, Source] = {}
        for number in reversed(range(len(layers))):
            for each in layers[number] or ():
                if each.entry and each.facts and each.regular and each.entry.content:
                    self._add(Source(number, each.path, each.entry, each.facts))

    def _add(self, source: Source) -> None:
        self._in_layer[source.layer, source.path] = source
        self._by_content.setdefault(source.entry.digest, []).append(source)
        self._by_path.setdefault(source.path, source)
        self._by_name.setdefault(source.path.rpartition(b"/")[2], []).append(source)
        self._by_family.setdefault(_VERSION.sub(b"#", source.path), source)

    def at(self, layer: int, path: bytes) -> Source | None:
        """The file that a layer has there."""
        return self._in_layer.get((layer, path))

    def match(self, path: bytes, entry: Entry, walked: Source | None) -> Match | None:
        """The best source of a file; `walked` is the one that costs no reference."""
        if walked is not None and walked.entry.digest == entry.digest:
            return Match(walked, False)
        there = self._by_path.get(path)
        if there is not None and there.entry.digest == entry.digest:
            return Match(there, False)
        same = self._by_content.get(entry.digest)
        if same:
            return Match(max(same, key=lambda each: _shared(each.path, path)), False)
        if entry.content < _PATCHED_FROM:
            return None
        if walked is not None and walked.entry.content:
            return Match(walked, True)
        found = there or self._by_family.get(_VERSION.sub(b"#", path))
        if found is None:
            named = self._by_name.get(path.rpartition(b"/")[2], ())
            near = [each for each in named if _alike(each.entry.content, entry.content)]
            found = max(near, key=lambda each: _shared(each.path, path), default=None)
        return Match(found, True) if found else None


def _alike(first: int, second: int) -> bool:
    return min(first, second) * 2 >= max(first, second)


def _shared(first: bytes, second: bytes) -> int:
    """Bytes that two paths have in common at beginning and end."""
    begin = common(first, second)
    return begin + common(first[begin:][::-1], second[begin:][::-1])


def common(first: bytes, second: bytes) -> int:
    """How many bytes two texts have in common at their beginning."""
    limit = min(len(first), len(second))
    for at in range(limit):
        if first[at] != second[at]:
            return at
    return limit


def base_layer(layers: list[list[OnDisk] | None], entries: list[Entry | Plain]) -> int | None:
    """The source layer that has most of a target's paths; the upper one of two."""
    wanted = {entry.path for entry in entries if isinstance(entry, Entry)}
    best, most = None, 0
    for number, layer in enumerate(layers):
        count = sum(each.path in wanted for each in layer or ())
        if count >= max(most, 1):
            best, most = number, count
    return best


def walked(
    layer: list[OnDisk], entries: list[Entry | Plain]
) -> tuple[Order, list[OnDisk], dict[int, int]]:
    """The order of a walk through a layer, its steps, and entries that it meets: number to step.

    The longest row of entries in the walk's order: an archive may be in another. The walk ends
    before the first folder with more names than a reader may hold.
    """
    full = _full(layer)
    paths = sorted(layer, key=lambda each: each.path)
    walks = {
        order: list(takewhile(lambda each: _folder(each) not in full, steps))
        for order, steps in zip(Order, (layer, paths), strict=True)
    }
    rows = {order: _row(steps, entries) for order, steps in walks.items()}
    order = max(rows, key=lambda each: len(rows[each]))
    return order, walks[order], rows[order]


def _folder(each: OnDisk) -> bytes:
    return each.path.rpartition(b"/")[0]


def _full(layer: list[OnDisk]) -> set[bytes]:
    """The folders whose names a walk may not hold, with those of the folders above."""
    names: Counter[bytes] = Counter()
    size: Counter[bytes] = Counter()
    for each in layer:
        folder, _, name = each.path.rpartition(b"/")
        # What is not known may be a folder.
        times = 1 if each.facts is not None and each.facts.type != FOLDER else 2
        names[folder] += times
        size[folder] += times * len(name)
    # A folder sorts before what is in it.
    for folder in sorted(names):
        if folder:
            above = folder.rpartition(b"/")[0]
            names[folder] += names[above]
            size[folder] += size[above]
    return {each for each in names if names[each] > NAMES_LIMIT or size[each] > NAMES_SIZE_LIMIT}


def _row(layer: list[OnDisk], entries: list[Entry | Plain]) -> dict[int, int]:
    steps = {each.path: step for step, each in enumerate(layer) if each.facts is not None}
    tops: list[int] = []
    ends: list[int] = []
    before: dict[int, int] = {}
    found: dict[int, int] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, Entry) or entry.header.type in told.EXTENDED_TYPES:
            continue
        step = steps.get(entry.path)
        if step is None or entry.header.path != entry.path or entry.header.shape.verbatim:
            continue
        found[number] = step
        at = bisect_left(tops, step)
        if at:
            before[number] = ends[at - 1]
        if at == len(tops):
            tops.append(step)
            ends.append(number)
        else:
            tops[at], ends[at] = step, number
    row: dict[int, int] = {}
    number_ = ends[-1] if ends else -1
    while number_ >= 0:
        row[number_] = found[number_]
        number_ = before.get(number_, -1)
    return row
