"""In which order containers are ended: those that depend on others before these. Pure."""

from collections.abc import Iterable, Iterator

from gantry.supervisor.state import Container, ContainerState
from gantry.supervisor.steps import RemoveContainer, Step, StopContainer


def first_to_stop(stopping: Iterable[Container]) -> frozenset[str]:
    """Ids of those that can be stopped now: nothing else that is to be stopped depends on them.

    What a container depends on is on its label, for its release may be forgotten. In a circle
    nobody is first, so all are.
    """
    up = [each for each in stopping if each.state.is_up]
    needed = {
        (each.app_id, name) for each in up for name in each.depends_on if name != each.service
    }
    first = frozenset(each.id for each in up if (each.app_id, each.service) not in needed)
    return first or frozenset(each.id for each in up)


def end(container: Container) -> Iterator[Step]:
    """Stop and remove."""
    if container.state.is_up:
        yield StopContainer(container)
    if container.state is not ContainerState.REMOVING:
        yield RemoveContainer(container)


def end_in_order(containers: Iterable[Container]) -> Iterator[Step]:
    """Stop and remove all, as far as that can be done now."""
    ending = tuple(containers)
    first = first_to_stop(ending)
    for each in ending:
        if not each.state.is_up or each.id in first:
            yield from end(each)
