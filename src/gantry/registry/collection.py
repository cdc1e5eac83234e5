"""One run of the collector: look, remove manifests, free blobs.

Nothing that a push may rely on goes: whatever is removed is removed while the api holds pushes
back, after a second look at the repositories that were pushed to since the first
(docs/decisions/0023-registry-space.md).
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from gantry.contracts.registry_space import KnownImage, Order, RunKind, SpaceReport
from gantry.registry import layout, space
from gantry.registry.layout import Contents, Place
from gantry.registry.storage import Storage

# Pushes wait as long; for ten minutes if this process stood still amid it.
HOLD_SECONDS = 5.0
# And as long they go on between two times.
LET_SECONDS = 1.0
ASK_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0
# What is removed may make more removable: parts of images of several platforms.
ROUNDS = 4

log = logging.getLogger(__name__)


class Cloud(Protocol):
    """What a run needs of the api."""

    def images(self, run: int) -> list[KnownImage]:
        """All images that the api knows."""

    def say(self, run: int, text: str) -> None:
        """How far the run is."""

    def hold_pushes(self, run: int, since: str) -> list[str] | None:
        """Hold pushes back; the repositories that were pushed to since then. None: not yet."""

    def release_pushes(self, run: int) -> None:
        """Let pushes go on."""


class Deleter(Protocol):
    """What a run needs of the registry."""

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest; False when there is none."""


class BusyError(Exception):
    """Pushes went on all the time."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A while without pushes. `pushed`: where something was pushed since the run began."""

    pushed: frozenset[str]
    begun: float

    @property
    def is_over(self) -> bool:
        """Pushes have waited long enough."""
        return _clock() - self.begun > HOLD_SECONDS


@dataclass(slots=True)
class Done:
    """What was done so far."""

    removed: int = 0
    freed: int = 0
    blobs: set[str] = field(default_factory=set)


class Collection:
    """One run. `clock`: seconds since 1970, as the storage's files have them."""

    def __init__(
        self,
        order: Order,
        api: Cloud,
        registry: Deleter,
        storage: Storage,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._order = order
        self._api = api
        self._registry = registry
        self._storage = storage
        self._clock = clock
        self._done = Done()
        self._skipped: set[str] = set()
        self._released = -LET_SECONDS

    def run(self) -> SpaceReport:
        """Do what was ordered; what was found and done.

        Raises:
            BusyError: pushes left no gap.
            WebError, StorageError, OSError: what is needed does not answer; a later run goes on
                from there.
        """
        self._say("looking at what is needed")
        known = self._api.images(self._order.run)
        if self._order.kind is RunKind.SURVEY:
            contents, planned = self._look(known)
            return space.report(contents, known, planned)
        if self._order.kind is RunKind.COLLECT:
            self._remove(known)
        contents, planned = self._look(known)
        found = space.report(contents, known, planned)
        self._sweep(contents, planned)
        over = [each for each in contents.removed if each[1] in self._done.blobs]
        self._storage.remove([layout.removed_path(*each) for each in (*planned.forget, *over)])
        return replace(
            found,
            size=found.size - self._done.freed,
            frees=max(found.frees - self._done.freed, 0),
            removed=self._done.removed,
            freed=self._done.freed,
            freed_blobs=len(self._done.blobs),
            skipped=len(self._skipped),
        )

    def _look(self, known: Sequence[KnownImage]) -> tuple[Contents, space.Plan]:
        self._say("reading the registry's storage")
        contents = layout.read_contents(self._storage)
        times = space.Times(self._clock(), self._order.grace, self._order.linger)
        return contents, space.plan(contents, known, times)

    def _remove(self, known: Sequence[KnownImage]) -> None:
        """Delete the manifests of images that go, then of what belonged to them alone."""
        for _ in range(ROUNDS):
            _, planned = self._look(known)
            waiting = [each for each in planned.remove if each[0] not in self._skipped]
            if not waiting:
                return
            total = len(waiting)
            while waiting:
                self._say(f"removing images: {total - len(waiting)} of {total}")
                with self._pause() as pause:
                    while waiting and not pause.is_over:
                        self._delete(waiting.pop(0), pause)

    def _delete(self, place: Place, pause: Pause) -> None:
        if place[0] in pause.pushed:
            # It may be what was pushed: the next run knows.
            self._skipped.add(place[0])
            return
        # First, so that what it was made of stays a while, whatever happens next.
        self._storage.write(layout.removed_path(*place), b"")
        if not self._registry.delete(*place):
            # Its content is missing: then the registry does not know it.
            self._storage.remove([layout.manifest_path(*place)])
        self._done.removed += 1
        log.info("removed %s@%s", *place)

    def _sweep(self, contents: Contents, planned: space.Plan) -> None:
        """Remove blobs that nothing holds, and layer links that lead nowhere."""
        links: dict[str, list[str]] = {}
        for name, repository in contents.repositories.items():
            for digest in repository.layers & planned.sweep:
                links.setdefault(digest, []).append(layout.layer_path(name, digest))
        waiting = sorted(planned.sweep)
        total = len(waiting)
        dangling = list(planned.links)
        while waiting or dangling:
            self._say(f"freeing blobs: {total - len(waiting)} of {total}")
            with self._pause() as pause:
                held = self._held_meanwhile(pause)
                # The clock is looked at before each.
                size = self._storage.batch
                while (waiting or dangling) and not pause.is_over:
                    batch, waiting = waiting[:size], waiting[size:]
                    self._free([each for each in batch if each not in held], contents, links)
                    ends, dangling = dangling[:size], dangling[size:]
                    self._unlink([each for each in ends if each[0] not in pause.pushed])

    def _free(
        self, digests: Sequence[str], contents: Contents, links: dict[str, list[str]]
    ) -> None:
        paths = [path for each in digests for path in links.get(each, ())]
        self._storage.remove([*paths, *(layout.blob_path(each) for each in digests)])
        self._done.blobs.update(digests)
        self._done.freed += sum(contents.blobs[each].size for each in digests)

    def _unlink(self, places: Sequence[Place]) -> None:
        self._storage.remove([layout.layer_path(*each) for each in places])

    def _held_meanwhile(self, pause: Pause) -> set[str]:
        """What is held by the manifests that are now where something was pushed.

        The parts of an image of several platforms are manifests of its repository too: the
        registry takes it no sooner.
        """
        digests: set[str] = set()
        for repository in pause.pushed:
            digests |= layout.manifests_of(self._storage, repository)
        manifests = layout.read_manifests(self._storage, digests)
        return space.closure(digests, manifests)

    @contextmanager
    def _pause(self) -> Iterator[Pause]:
        """A while in which no push goes on.

        Raises:
            BusyError: there was none for half an hour.
        """
        time.sleep(max(self._released + LET_SECONDS - _clock(), 0.0))
        deadline = _clock() + PATIENCE_SECONDS
        while True:
            # Before it is asked: the api's time for it begins no sooner.
            begun = _clock()
            pushed = self._api.hold_pushes(self._order.run, self._order.moment)
            if pushed is not None:
                break
            if _clock() > deadline:
                raise BusyError(
                    f"pushes went on for {PATIENCE_SECONDS / 60:.0f} min without a gap: what was "
                    "found stays until the next run"
                )
            time.sleep(ASK_SECONDS)
        try:
            yield Pause(frozenset(pushed), begun)
        finally:
            self._api.release_pushes(self._order.run)
            self._released = _clock()

    def _say(self, text: str) -> None:
        self._api.say(self._order.run, text)


def _clock() -> float:
    """Seconds, those included in which the machine slept: the api's clock goes on then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
