"""From the tars of two images to a delta."""

import multiprocessing
import os
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.create import matching, summary
from gantry.deltas.create.columns import PackedGroup, Writers
from gantry.deltas.create.differ import Job, Patch, Stretch, begin_helper, jobs, patch
from gantry.deltas.create.limit import Fresh, Limit, TooLargeError
from gantry.deltas.create.matching import Match, Sources
from gantry.deltas.create.options import (
    LayerSummary,
    LayerTar,
    Options,
    Progress,
    Summary,
)
from gantry.deltas.create.tars import Entry, OnDisk, Plain, Tar, on_disk, tellable
from gantry.deltas.create.telling import Plan, Telling
from gantry.deltas.format import INDEX_LIMIT, DeltaError, Index, Layer, Order
from gantry.deltas.index import encode, encode_layer
from gantry.deltas.names import Names

# Less work than this is done here, without other processes.
_INLINE = 512 * 1024
_AHEAD = 4
# What this process takes by itself, and what each other one.
_HERE, _PROCESS = 54 * 1024**2, 21 * 1024**2
# So many processes are planned with.
_USUAL = 2
# What there is for patches in any case.
_LEAST = 24 * 1024**2
# A larger row is not read together with the index.
_LARGEST_ROW = 16 * 1024


def create(
    sources: Sequence[LayerTar],
    targets: Sequence[LayerTar],
    config: str,
    out: Path,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: Callable[[Progress], object] = lambda _: None,
) -> Summary:
    """Make the delta that rebuilds all of `targets` from the files of `sources`, lowest first.

    It is written beside `out` and renamed: it is there whole or not at all. The same layers and
    options give the same bytes.

    Raises:
        TooLargeError: it would have more than `options.limit` bytes.
        DeltaError: a digest is none, or a layer is there twice.
        OSError: a tar cannot be read, or the delta not be written.
    """
    for what, layers in (("source", sources), ("target", targets)):
        if len({each.diff_id for each in layers}) != len(layers):
            raise DeltaError(f"a {what} layer is given twice")
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(".part", out.name, out.parent))
        )
        # All rows together take half of what an index may have.
        largest = min(_LARGEST_ROW, INDEX_LIMIT // 2 // max(len(targets), 1))
        creating = _Creating(sources, folder, options, progress, stack, largest)
        planned = [creating.planned(target) for target in targets]
        creating.limit.expect([each.fresh for each in planned])
        made = [creating.layer(each, number) for number, each in enumerate(planned)]
        names = Names(
            config,
            tuple(each.diff_id for each in sources),
            tuple(each.diff_id for each in targets),
        )
        part = folder / "delta"
        with part.open("wb") as stream:
            stream.write(encode(Index(tuple(m[0] for m in made)), names, options.bare))
            for _, groups, _ in made:
                for group in groups:
                    stream.writelines(group.content.pieces())
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
        if options.limit is not None and size > options.limit:
            raise TooLargeError(size, options.limit)
        part.replace(out)
    return Summary(size, tuple(each[2] for each in made))


@dataclass(frozen=True, slots=True)
class _Planned:
    """A layer whose entries are read, and each has its source."""

    diff_id: str
    tar: Tar
    base: int | None
    order: Order
    plans: list[Plan | Plain]

    @property
    def fresh(self) -> Fresh:
        """What is in no source; what is there twice counts once."""
        found: dict[bytes, tuple[int, int]] = {}
        for plan in self.plans:
            if isinstance(plan, Plan) and plan.entry.content and plan.match is None:
                found[plan.entry.digest] = (plan.entry.offset, plan.entry.content)
        return Fresh(self.tar, list(found.values()))


class _Creating:
    def __init__(
        self,
        sources: Sequence[LayerTar],
        folder: Path,
        options: Options,
        progress: Callable[[Progress], object],
        stack: ExitStack,
        largest_row: int,
    ) -> None:
        self._folder = folder
        self._largest_row = largest_row
        self._options = options
        self._progress = progress
        self._stack = stack
        self._tars = [self._open(source.path) for source in sources]
        self._sources = Sources([on_disk(list(tar.entries())) for tar in self._tars])
        self._pool: Executor | None = None
        self._done = 0
        self.limit = Limit(options.limit)

    def _open(self, path: Path) -> Tar:
        tar = Tar(path)
        self._stack.callback(tar.close)
        return tar

    def planned(self, target: LayerTar) -> _Planned:
        """Read one layer's entries, and choose what each is made from."""
        tar = self._open(target.path)
        return _Planned(target.diff_id, tar, *self._plans(list(tellable(tar.entries()))))

    def layer(
        self, planned: _Planned, number: int
    ) -> tuple[Layer, list[PackedGroup], LayerSummary]:
        """Make one layer's columns."""
        tar, plans = planned.tar, planned.plans
        folder = self._folder / str(number)
        folder.mkdir()
        columns = Writers(folder)
        self._stack.callback(columns.close)
        telling = Telling(columns, tar)
        patches = self._patches(tar, [plan for plan in plans if isinstance(plan, Plan)])
        told: list[tuple[int, int]] = []
        for plan in plans:
            if isinstance(plan, Plain):
                telling.plain(plan)
            else:
                telling.entry(
                    plan, next(patches) if plan.match and plan.match.patched else iter(())
                )
                told.append(telling.told)
                self.limit.told(columns)
        if self._pool is not None:
            # Packing takes the memory that the processes had.
            self._pool.shutdown()
            self._pool = None
        groups = columns.pack(self._options.workers)
        for group in groups:
            self._stack.callback(group.content.close)
        walk = (tar.size, planned.base, planned.order)
        layer = Layer(*walk, tuple(group.group for group in groups), _check(groups))
        row = columns.row()
        if row is not None and len(row.content) <= self._largest_row:
            small = Layer(*walk, row=row)
            if _length(small) <= _length(layer):
                layer, groups = small, []
        files = summary.files([plan for plan in plans if isinstance(plan, Plan)], told, layer)
        self.limit.made(layer.encoded)
        return layer, groups, LayerSummary(planned.diff_id, tar.size, layer.encoded, files)

    def _plans(self, entries: list[Entry | Plain]) -> tuple[int | None, Order, list[Plan | Plain]]:
        base = matching.base_layer(self._sources.layers, entries)
        layer: list[OnDisk] = (self._sources.layers[base] or []) if base is not None else []
        order, layer, steps = matching.walked(layer, entries)
        plans: list[Plan | Plain] = []
        for number, entry in enumerate(entries):
            if isinstance(entry, Plain):
                plans.append(entry)
                continue
            step = steps.get(number)
            walked = layer[step] if step is not None else None
            match: Match | None = None
            if entry.content and entry.path:
                source = (
                    self._sources.at(base, walked.path) if walked and base is not None else None
                )
                match = self._sources.match(entry.path, entry, source)
            plans.append(Plan(entry, step, walked, match))
        return base if steps else None, order, plans

    def _patches(self, tar: Tar, plans: list[Plan]) -> Iterator[Iterator[Patch]]:
        """For each patched entry in order its patches, computed ahead by other processes."""
        work: list[list[Job]] = []
        # The same windows for any number of processes, so that the bytes are the same.
        memory = self._memory(_USUAL)
        for plan in plans:
            if plan.match is None or not plan.match.patched:
                continue
            source, entry = plan.match.source, plan.entry
            old = Stretch(self._tars[source.layer].path, source.entry.offset, source.entry.content)
            work.append(list(jobs(old, Stretch(tar.path, entry.offset, entry.content), memory)))
        flat = [job for each in work for job in each]
        total = sum(job.target.length for job in flat)
        if total < _INLINE or self._options.workers < 2:
            found: Iterator[Patch] = map(patch, flat)
        else:
            found = self._ahead(flat)
        for each in work:
            yield self._some(found, each, total)

    def _some(self, found: Iterator[Patch], work: list[Job], total: int) -> Iterator[Patch]:
        for job in work:
            yield next(found)
            self._done += job.target.length
            self._progress(Progress(min(self._done, total), total))

    def _memory(self, workers: int) -> int:
        """What all work on patches may take at a time, beside the processes themselves."""
        held = _HERE + workers * _PROCESS
        return max(self._options.memory - held, _LEAST)

    def _ahead(self, work: list[Job]) -> Iterator[Patch]:
        workers = self._options.workers
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, begin_helper)
            self._pool = self._stack.enter_context(pool)
        waiting: deque[tuple[Job, Future[Patch]]] = deque()
        for job in work:
            while waiting and not self._fits([*(each for each, _ in waiting), job]):
                yield waiting.popleft()[1].result()
            waiting.append((job, self._pool.submit(patch, job)))
        while waiting:
            yield waiting.popleft()[1].result()

    def _fits(self, work: list[Job]) -> bool:
        """Whether so much may be worked on, or be done and waiting, at a time."""
        workers = self._options.workers
        memory = sum(job.memory for job in work)
        return memory <= self._memory(workers) and len(work) <= workers * _AHEAD


def _check(groups: list[PackedGroup]) -> int:
    return zlib.crc32(b"".join(group.crc.to_bytes(4) for group in groups)) if groups else 0


def _length(layer: Layer) -> int:
    """Bytes that a layer takes in the file."""
    return len(encode_layer(layer, is_last=False)) + layer.payload
