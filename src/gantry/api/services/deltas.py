"""Which deltas devices need: from what they run to what they are to run; supervisors too."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy.orm import Session

from gantry.api.queries import deltas
from gantry.contracts.deltas import MAX_SOURCES, MAX_WANTED, DeltaPair, WantedPair, WantedPairs


def wanted(session: Session) -> WantedPairs:
    """The pairs that devices need now, most devices first; of as many, the newest release's."""
    updates = deltas.updates(session, MAX_WANTED)
    releases = {each for update in updates for each in (update.running, update.target)}
    images = deltas.images(session, releases)
    # In the order of the updates, which is kept among equals.
    devices: Counter[DeltaPair] = Counter()
    for update in updates:
        for pair in pairs_of(images[update.running], images[update.target]):
            devices[pair] += update.devices
    found = [WantedPair(pair, count) for pair, count in devices.most_common(MAX_WANTED)]
    return WantedPairs(tuple(found))


def pairs_of(running: Mapping[str, str], target: Mapping[str, str]) -> list[DeltaPair]:
    """From one release's images (by service) to each that is new in another.

    The sources are those that a device names: the service's own first, then by service.
    """
    have = set(running.values())
    return [
        DeltaPair(sources_for(service, running), image)
        for service, image in sorted(target.items())
        if have and image not in have
    ]


def sources_for(service: str, running: Mapping[str, str]) -> tuple[str, ...]:
    """The images of a release that a delta for this service is made from."""
    order = sorted(running, key=lambda each: (each != service, each))
    return tuple(dict.fromkeys(running[each] for each in order))[:MAX_SOURCES]
