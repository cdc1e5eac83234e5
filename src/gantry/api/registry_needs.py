"""What of the registry's images is needed, and why: a pure rule over facts of the database.

An image goes when the database knows it and nothing says that it is needed. What the database does
not know is not spoken of here, and stays.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gantry.contracts.registry_space import KnownImage, Reason

# Bases, supervisors: few, shared by all, and made by the builder alone.
PLATFORM = "gantry/"
_SHORT = 7


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept without anybody saying so: of each application the last `releases` successes,
    and what is younger than `days`."""

    releases: int
    days: float


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """A release. `at`: when its build ended or, before that, began. `is_removed`: it has had its
    images removed, as far as that was not prevented."""

    id: int
    application: int
    slug: str
    commit: str
    status: str
    at: datetime
    is_removed: bool = False


@dataclass(frozen=True, slots=True)
class ImageFact:
    """An image of the database. `digest` is None until it is pushed."""

    id: int
    repository: str
    digest: str | None
    service: str
    releases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DiscardedFact:
    """An image that was removed from the database."""

    repository: str
    digest: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the rule looks at, of one moment. Sets hold ids: of releases; `installed` of
    images."""

    now: datetime
    releases: Collection[ReleaseFact] = ()
    images: Collection[ImageFact] = ()
    discarded: Collection[DiscardedFact] = ()
    targets: Collection[int] = ()
    pinned: Collection[int] = ()
    running: Collection[int] = ()
    managing: Collection[int] = ()
    tagged: Collection[int] = ()
    installed: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Needs:
    """Every image that the database knows with its reasons, and the releases that lose images."""

    images: tuple[KnownImage, ...]
    condemned: tuple[int, ...]


Place = tuple[str, str]


def judge(facts: Facts, keep: Keep) -> Needs:
    """What stays and what goes."""
    releases = {each.id: each for each in facts.releases}
    why = _of_releases(facts, keep)
    building = {
        image.repository
        for image in facts.images
        if any(each in releases and releases[each].status == "running" for each in image.releases)
    }
    reasons: dict[Place, set[Reason]] = {}
    labels: dict[Place, str] = {}
    holders: dict[Place, set[int]] = defaultdict(set)
    for image in facts.images:
        if image.digest is None:
            continue
        place = (image.repository, image.digest)
        found = reasons.setdefault(place, set())
        for each in image.releases:
            found |= why.get(each, set())
        # Of no release: nobody knows what it is for.
        found |= set() if image.releases else {Reason.UNKNOWN}
        found |= {Reason.INSTALLED} if image.id in facts.installed else set()
        found |= {Reason.BUILDING} if image.repository in building else set()
        found |= {Reason.PLATFORM} if image.repository.startswith(PLATFORM) else set()
        holders[place] |= set(image.releases)
        labels[place] = _label(image, releases)
    for place, found in _discarded(facts, keep, building, reasons):
        reasons[place] = found
        labels[place] = "(removed) -"
    order = list(Reason)
    images = tuple(
        KnownImage(*place, labels[place], tuple(sorted(reasons[place], key=order.index)))
        for place in sorted(reasons)
    )
    gone = {each for place, of in holders.items() if not reasons[place] for each in of}
    marked = {each.id for each in facts.releases if each.is_removed}
    return Needs(images, tuple(sorted(gone - marked)))


def _of_releases(facts: Facts, keep: Keep) -> Mapping[int, set[Reason]]:
    why: dict[int, set[Reason]] = defaultdict(set)
    said = (
        (facts.targets, Reason.TARGET),
        (facts.pinned, Reason.PINNED),
        (facts.running, Reason.RUNNING),
        (facts.managing, Reason.MANAGES),
        (facts.tagged, Reason.TAGGED),
        (_latest(facts, keep.releases), Reason.LATEST),
    )
    for ids, reason in said:
        for each in ids:
            why[each].add(reason)
    since = facts.now - timedelta(days=keep.days)
    for release in facts.releases:
        if release.status == "running":
            why[release.id].add(Reason.BUILDING)
        # One that has had its images removed is not young again by a clock that was set.
        if release.at > since and not release.is_removed:
            why[release.id].add(Reason.YOUNG)
    return why


def _latest(facts: Facts, number: int) -> Iterator[int]:
    """The last successes of each application."""
    of: dict[int, list[int]] = defaultdict(list)
    for release in facts.releases:
        if release.status == "success" and not release.is_removed:
            of[release.application].append(release.id)
    for ids in of.values():
        yield from sorted(ids, reverse=True)[:number]


def _discarded(
    facts: Facts, keep: Keep, building: Collection[str], known: Collection[Place]
) -> list[tuple[Place, set[Reason]]]:
    """Images whose rows are gone, unless the database knows the same image by another row."""
    since = facts.now - timedelta(days=keep.days)
    found: dict[Place, set[Reason]] = {}
    for each in facts.discarded:
        place = (each.repository, each.digest)
        if place in known:
            continue
        why = found.setdefault(place, set())
        why |= {Reason.YOUNG} if each.at > since else set()
        why |= {Reason.BUILDING} if each.repository in building else set()
        why |= {Reason.PLATFORM} if each.repository.startswith(PLATFORM) else set()
    return list(found.items())


def _label(image: ImageFact, releases: Mapping[int, ReleaseFact]) -> str:
    """Fleet, service, and the newest release's commit: the commit is the last word."""
    of = [releases[each] for each in sorted(image.releases) if each in releases]
    slug = of[-1].slug if of else "-"
    return f"{slug} {image.service} {of[-1].commit[:_SHORT] if of else '-'}"
