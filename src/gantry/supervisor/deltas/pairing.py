"""From which images a delta may be made: those that the device runs. Pure."""

from collections.abc import Iterator

from gantry.contracts.bundle import local_tag
from gantry.supervisor.state import CurrentState
from gantry.supervisor.steps import FetchImage

# As many as a delta server takes (gantry.contracts.deltas).
_MOST = 8


def source_images(step: FetchImage, current: CurrentState) -> tuple[str, ...]:
    """The images that are here of the step's application: that of the same service first, then by
    service, at most eight. A release that runs has the same ones on every device, so that a delta
    is made once for all.

    Where the service's container has gone before its image comes (its strategy is so), what else
    is here of the same registry may be its old image.
    """
    here = current.references()
    registry = f"{step.reference.partition('/')[0]}/"
    mine = [each for each in current.containers if each.app_id == step.app_id]
    mine.sort(key=lambda each: (each.service != step.service, each.service, each.created))
    named = [each.image for each in mine]
    if not any(each.service == step.service for each in mine):
        named += _others(current, f"{registry}v2/")
    found = [
        each
        for each in dict.fromkeys(named)
        if each in here
        and each != step.reference
        and each.startswith(registry)
        and local_tag(each) is not None
    ]
    return tuple(found[:_MOST])


def _others(current: CurrentState, prefix: str) -> Iterator[str]:
    for image in current.images:
        yield from (each for each in image.references if each.startswith(prefix))
