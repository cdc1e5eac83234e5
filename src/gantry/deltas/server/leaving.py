"""What goes of what is kept, and why: a pure plan over the index, the storage and the registry."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gantry.contracts.delta_space import DeltaReason, DeltaSpace, LeavingDelta
from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.server.pairs import Record

# An image, by repository and digest.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Leaving:
    """A delta that goes; `record` is None where no pair has it. `digest`: its file goes along,
    which frees `size`. Without, another pair has the same file."""

    record: Record | None
    reason: DeltaReason
    digest: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`leaving` of the `count` deltas go, which take `size` bytes together. `forgotten`: pairs
    without a delta, of which nothing is known any more then."""

    leaving: tuple[Leaving, ...]
    forgotten: tuple[Record, ...]
    count: int
    size: int

    @property
    def pairs(self) -> list[str]:
        """Names of all pairs that go."""
        records = [*self.forgotten, *(each.record for each in self.leaving if each.record)]
        return [each.pair.name for each in records]

    @property
    def files(self) -> list[str]:
        """Digests of the files that go."""
        return [each.digest for each in self.leaving if each.digest]

    def told(self, *, is_done: bool) -> DeltaSpace:
        """For the collector: as what would go, or as what has gone."""
        count, size = len(self.leaving), sum(each.size for each in self.leaving)
        deltas = tuple(_told(each) for each in self.leaving)
        if is_done:
            left = (self.count - count, self.size - size)
            return DeltaSpace(*left, removed=count, freed=size, deltas=deltas)
        return DeltaSpace(self.count, self.size, count, size, deltas=deltas)


def place(image: ImageReference) -> Place:
    return image.name, image.digest


def plan(
    records: Sequence[Record],
    stored: Mapping[str, int],
    gone: Collection[Place],
    *,
    oldest: float,
    limit: int,
) -> Plan:
    """What goes: deltas of images that are `gone`, those that nobody wanted since `oldest`
    (seconds since 1970), and of the others the longest unused beyond `limit` bytes.

    `records`: all pairs that nobody works on, the longest unused first. `stored`: bytes of all
    files, by digest.
    """
    here = [each for each in records if _is_here(each, stored)]
    others = [each for each in records if not _is_here(each, stored)]
    files = _Files(here)
    leaving: list[Leaving] = []
    staying: list[Record] = []
    for each in here:
        reason = _reason(each, gone, oldest)
        if reason is None:
            staying.append(each)
        else:
            leaving.append(files.without(each, reason))
    leaving += [files.without(each, DeltaReason.ROOM) for each in over(staying, limit)]
    strays = sorted(stored.keys() - {each.digest for each in here})
    leaving += [Leaving(None, DeltaReason.STRAY, each, stored[each]) for each in strays]
    return Plan(
        tuple(leaving),
        # What is ready and not here was lost by the storage.
        tuple(
            each
            for each in others
            if each.state is DeltaState.READY or _reason(each, gone, oldest) is not None
        ),
        len(here) + len(strays),
        sum(stored.values()),
    )


def over(ready: Sequence[Record], limit: int, but: str = "") -> list[Record]:
    """The longest unused of these that go, so that what is left has `limit` bytes at most; never
    the pair named `but`."""
    files = _Files(ready)
    found = []
    for each in ready:
        if files.size <= limit:
            break
        if each.pair.name != but:
            files.without(each, DeltaReason.ROOM)
            found.append(each)
    return found


class _Files:
    """The files of pairs: several may have the same."""

    def __init__(self, ready: Iterable[Record]) -> None:
        self._holders = Counter(each.digest for each in ready)
        self.size = sum({each.digest: each.size or 0 for each in ready}.values())

    def without(self, record: Record, reason: DeltaReason) -> Leaving:
        """The pair goes, and its file with the last that has it."""
        self._holders[record.digest] -= 1
        if self._holders[record.digest]:
            return Leaving(record, reason, None, 0)
        size = record.size or 0
        self.size -= size
        return Leaving(record, reason, record.digest, size)


def _is_here(record: Record, stored: Mapping[str, int]) -> bool:
    return record.state is DeltaState.READY and stored.get(record.digest or "") == record.size


def _reason(record: Record, gone: Collection[Place], oldest: float) -> DeltaReason | None:
    if any(place(each) in gone for each in record.pair.images):
        return DeltaReason.IMAGE
    return DeltaReason.UNUSED if record.used_at < oldest else None


def _told(leaving: Leaving) -> LeavingDelta:
    if leaving.record is None:
        return LeavingDelta((), "", leaving.size, leaving.reason)
    pair = leaving.record.pair
    src = tuple(_name(each) for each in pair.sources)
    return LeavingDelta(src, _name(pair.target), leaving.size, leaving.reason)


def _name(image: ImageReference) -> str:
    return f"{image.name}@{image.digest}"
