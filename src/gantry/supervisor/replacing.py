"""How the services of an application become what they must be, once all images are there. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry.supervisor.desired import Dependency, DesiredApp, DesiredService
from gantry.supervisor.matching import awaits_reboot, best, is_finished, is_ready, must_start
from gantry.supervisor.ordering import end, first_to_stop
from gantry.supervisor.state import Container, CurrentState
from gantry.supervisor.steps import (
    CreateContainer,
    RenameContainer,
    StartContainer,
    Step,
    StopContainer,
)
from gantry.supervisor.strategy import Strategy


@dataclass(frozen=True, slots=True)
class _Situation:
    """A service and its containers: the one to keep, if there is one, and the others."""

    service: DesiredService
    keep: Container | None
    others: tuple[Container, ...]
    # Whether all that it depends on is as it needs them, and whether the rest of them wait for a
    # restart of the host.
    ready: bool
    nearly_ready: bool

    @property
    def goes_on(self) -> bool:
        """Whether nothing that it depends on holds it up. What starts after a restart is made with
        the others that do: one restart is for all."""
        return self.ready or (self.awaits_reboot and self.nearly_ready)

    @property
    def blocking(self) -> tuple[Container, ...]:
        """Those that have the name that the new one needs."""
        name = self.service.container_name
        if self.keep is not None and self.keep.name == name:
            return ()
        return tuple(each for each in self.others if each.name == name)

    @property
    def old_up(self) -> tuple[Container, ...]:
        return tuple(each for each in self.others if each.state.is_up)

    @property
    def has_taken_over(self) -> bool:
        """Whether the one to keep does the service's work: old ones are only in its way."""
        keep = self.keep
        return keep is not None and (keep.state.is_up or is_finished(keep, self.service.restarts))

    @property
    def awaits_reboot(self) -> bool:
        """Whether the container to keep, here or yet to be made, starts after a restart only."""
        if self.keep is not None:
            return awaits_reboot(self.keep, self.service)
        return self.service.running and self.service.boot is not None

    @property
    def hands_over(self) -> bool:
        """Whether old and new have to run side by side now."""
        return (
            self.service.strategy is Strategy.HAND_OVER
            and self.service.running
            and bool(self.old_up)
            and not any(each.state.is_up for each in self.blocking)
        )


def service_steps(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    """The next steps of all services, and the end of those that are no longer wanted."""
    situations = [_situation(each, app, current) for each in app.services]
    wanted = {each.service for each in app.services}
    leftovers = [e for e in current.containers if e.app_id == app.id and e.service not in wanted]
    going = {each.service for each in leftovers if each.state.is_up}
    stopping = [*leftovers, *_due(situations, going)]
    first = first_to_stop(stopping)
    waiting = frozenset(e.id for e in stopping if e.state.is_up and e.id not in first)
    due = frozenset(each.id for each in stopping)
    for each in leftovers:
        if each.id not in waiting:
            yield from end(each)
    for situation in situations:
        yield from _service(situation, due, waiting, current)


def _situation(service: DesiredService, app: DesiredApp, current: CurrentState) -> _Situation:
    mine = current.of_service(app.id, service.service)
    keep = best(mine, service)
    unready = [each for each in service.depends_on if not is_ready(each, app, current)]
    return _Situation(
        service,
        keep,
        tuple(each for each in mine if each is not keep),
        ready=not unready,
        nearly_ready=all(_awaits_reboot(each, app, current) for each in unready),
    )


def _awaits_reboot(dependency: Dependency, app: DesiredApp, current: CurrentState) -> bool:
    service = next(each for each in app.services if each.service == dependency.service)
    found = best(current.of_service(app.id, service.service), service)
    return found is not None and awaits_reboot(found, service)


def _due(situations: list[_Situation], going: set[str]) -> list[Container]:
    """Containers whose service goes down now, because it is replaced or must not run; the services
    in `going` are no longer wanted.

    A service that has to wait runs on as it was, unless what it has depended on is about to go down
    itself: then it goes first. What that is, its own container says, whatever the new release does.
    """
    down = set(going)
    while True:
        found = {each.service.service: _goes_down(each, down) for each in situations}
        more = {name for name, mine in found.items() if mine} - down
        if not more:
            return [each for mine in found.values() for each in mine]
        down |= more


def _goes_down(situation: _Situation, down: set[str]) -> list[Container]:
    keep, old_up = situation.keep, situation.old_up
    if not situation.service.running:
        return [*old_up, *([keep] if keep is not None and keep.state.is_up else [])]
    if situation.has_taken_over or situation.hands_over:
        return []
    if any(name in down for each in old_up for name in each.depends_on):
        return list(old_up)
    if not situation.goes_on:
        return []
    # What runs has its place until the restart, unless it has the new one's name.
    return [each for each in old_up if not situation.awaits_reboot or each in situation.blocking]


def _service(
    situation: _Situation, due: frozenset[str], waiting: frozenset[str], current: CurrentState
) -> Iterator[Step]:
    service, keep = situation.service, situation.keep
    hands_over = situation.hands_over and not situation.awaits_reboot
    if hands_over and not situation.has_taken_over:
        yield from _begin_hand_over(situation)
        return
    others = situation.others
    if hands_over and keep is not None and _is_awaited(keep, current):
        others = tuple(each for each in others if not each.state.is_up)
    elif _must_wait(situation, due):
        return
    if situation.awaits_reboot:
        others = tuple(each for each in others if each.id in due or not each.state.is_up)
    blocking = situation.blocking
    if any(each.id in waiting for each in blocking):
        return
    for each in blocking:
        yield from end(each)
    if keep is None and service.running:
        yield CreateContainer(service)
    for each in others:
        if each not in blocking and each.id not in waiting:
            yield from end(each)
    if any(each.id in waiting for each in others):
        return
    if keep is not None and keep.name != service.container_name:
        yield RenameContainer(keep, service)
    if not service.running:
        if keep is not None and keep.state.is_up and keep.id not in waiting:
            yield StopContainer(keep)
    elif (
        situation.ready
        and not situation.awaits_reboot
        and (keep is None or must_start(keep, service))
    ):
        yield StartContainer(service)


def _must_wait(situation: _Situation, due: frozenset[str]) -> bool:
    """Whether the old one runs on until those that it depends on are up."""
    return (
        situation.service.running
        and not situation.has_taken_over
        and not situation.goes_on
        and not any(each.id in due for each in situation.others)
    )


def _is_awaited(keep: Container, current: CurrentState) -> bool:
    """Whether the new container has not yet said that it has taken over."""
    return keep.state.is_up and keep.id not in current.handed_over


def _begin_hand_over(situation: _Situation) -> Iterator[Step]:
    """The new container starts beside the old one."""
    if not situation.ready:
        return
    for each in situation.others:
        if not each.state.is_up:
            yield from end(each)
    if situation.keep is None:
        yield CreateContainer(situation.service)
    elif situation.keep.name != situation.service.container_name:
        yield RenameContainer(situation.keep, situation.service)
    if situation.keep is None or must_start(situation.keep, situation.service):
        yield StartContainer(situation.service)
