"""What may go of a registry's contents: a pure plan.

The api says of the images that it knows why they stay. Here that is carried on to what they are
made of; what nobody knows stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gantry.contracts.registry_space import (
    ImageSpace,
    KnownImage,
    Reason,
    RepositorySpace,
    SpaceReport,
)
from gantry.registry.layout import Contents, Manifest, Place


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. A blob goes when it is `grace` old; what a removed image was made of goes `linger`
    after the removal. `now` since 1970."""

    now: float
    grace: float
    linger: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes and what stays.

    `remove`: manifests, those of several platforms before what they hold. `keep` says why each
    other stays. `sweep`: blobs that nothing holds. `waits`: those that are held only by what was
    or is being removed. `young`: held by nothing, but too young. `links`: layer links that lead
    nowhere. `forget`: notes of removed manifests that are of no more use.
    """

    remove: tuple[Place, ...]
    keep: Mapping[Place, tuple[Reason, ...]]
    sweep: frozenset[str]
    waits: frozenset[str]
    young: frozenset[str]
    links: tuple[Place, ...]
    forget: tuple[Place, ...]


def plan(contents: Contents, known: Iterable[KnownImage], times: Times) -> Plan:
    """What may go now. No blob is swept that a manifest holds which is linked still."""
    reasons = {(each.repository, each.digest): each.reasons for each in known}
    keep: dict[Place, tuple[Reason, ...]] = {}
    remove: list[Place] = []
    for name, repository in sorted(contents.repositories.items()):
        kept, gone = _judge(name, repository.manifests, contents, reasons, times)
        keep |= kept
        remove += gone
    lingering = [
        place
        for place, when in contents.removed.items()
        if times.now - when < times.linger and place not in keep
    ]
    lingering += remove
    held = closure((digest for _, digest in keep), contents.manifests)
    waits = closure((digest for _, digest in lingering), contents.manifests) - held
    loose = frozenset(contents.blobs) - held - waits
    old = {each for each in loose if times.now - contents.blobs[each].modified >= times.grace}
    blobs = contents.blobs.keys()
    return Plan(
        remove=tuple(remove),
        keep=keep,
        sweep=frozenset(old),
        waits=frozenset(waits & blobs),
        young=loose - old,
        links=tuple(
            (name, digest)
            for name, repository in sorted(contents.repositories.items())
            for digest in sorted(repository.layers - blobs)
        ),
        forget=tuple(
            place
            for place in contents.removed
            if place in keep or (place[1] not in blobs and place not in remove)
        ),
    )


def closure(roots: Iterable[str], manifests: Mapping[str, Manifest]) -> set[str]:
    """These manifests and all that they hold, directly or by other manifests."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        found.add(digest)
        manifest = manifests.get(digest)
        if manifest is not None:
            waiting += manifest.holds - found
    return found


def _judge(
    name: str,
    linked: set[str],
    contents: Contents,
    reasons: Mapping[Place, tuple[Reason, ...]],
    times: Times,
) -> tuple[dict[Place, tuple[Reason, ...]], list[Place]]:
    """Why manifests of one repository stay, and those that go in the order in which they go."""
    gone = {digest: when for (of, digest), when in contents.removed.items() if of == name}
    parents = _parents(linked, gone, contents.manifests)
    keep: dict[str, tuple[Reason, ...]] = {}
    for digest in linked:
        given = reasons.get((name, digest))
        if given:
            keep[digest] = given
        elif given is None and not parents[digest]:
            keep[digest] = (Reason.UNKNOWN,)
    # What belongs to something that stays, stays; and so on.
    waiting = list(keep)
    while waiting:
        parent = waiting.pop()
        for digest in linked - keep.keys():
            if parent in parents[digest]:
                keep[digest] = (Reason.PART,)
                waiting.append(digest)
    remove = []
    for digest in linked - keep.keys():
        is_known = (name, digest) in reasons
        ended = all(
            each not in linked and times.now - gone.get(each, times.now) >= times.linger
            for each in parents[digest]
        )
        if is_known or ended:
            remove.append(digest)
        else:
            keep[digest] = (Reason.LINGERS,)
    remove.sort(key=lambda each: (-len(contents.manifests[each].holds & linked), each))
    return {(name, each): why for each, why in keep.items()}, [(name, each) for each in remove]


def _parents(
    linked: set[str], gone: Iterable[str], manifests: Mapping[str, Manifest]
) -> dict[str, set[str]]:
    """For each linked manifest, what it belongs to: those that hold it, and its subject."""
    there = linked | set(gone)
    found: dict[str, set[str]] = {digest: set() for digest in linked}
    for digest in there:
        manifest = manifests.get(digest, Manifest())
        for held in manifest.holds & linked:
            found[held].add(digest)
        if digest in linked and manifest.subject in there:
            found[digest].add(manifest.subject)
    for digest, each in found.items():
        each.discard(digest)
    return found


def report(contents: Contents, known: Sequence[KnownImage], planned: Plan) -> SpaceReport:
    """The plan for people: bytes, and each image with its reasons."""
    labels = {(each.repository, each.digest): each.label for each in known}
    titles = {each.repository: each.label.rpartition(" ")[0] for each in known}
    going = set(planned.remove)

    def size(digests: Iterable[str]) -> int:
        return sum(contents.blobs[each].size for each in digests if each in contents.blobs)

    repositories = []
    for name, repository in sorted(contents.repositories.items()):
        images, held, goes = [], set(), set()
        for digest in sorted(repository.manifests):
            parts = closure([digest], contents.manifests)
            held |= parts
            why = planned.keep.get((name, digest), ())
            if (name, digest) in going:
                goes |= parts
            if why in ((Reason.PART,), (Reason.LINGERS,)):
                continue
            label = labels.get((name, digest), "")
            images.append(ImageSpace(digest, label, size(parts), tuple(each.value for each in why)))
        title = titles.get(name, "")
        freed = goes & (planned.waits | planned.sweep)
        repositories.append(RepositorySpace(name, title, size(held), size(freed), tuple(images)))
    return SpaceReport(
        size=size(contents.blobs),
        uploads=contents.uploads,
        images=len(going),
        frees=size(planned.sweep),
        waits=size(planned.waits),
        young=size(planned.young),
        missing=sum(
            bool(each.reasons) and (each.repository, each.digest) not in planned.keep
            for each in known
        ),
        broken=sum(each.is_missing for each in _linked(contents)),
        repositories=tuple(repositories),
    )


def _linked(contents: Contents) -> Iterable[Manifest]:
    linked = {each for repo in contents.repositories.values() for each in repo.manifests}
    return [contents.manifests[each] for each in linked]
