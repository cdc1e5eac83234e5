"""The planner: from what is and what must be to the next steps. Pure, and the heart of it.

It is asked again after every round of steps, and gives each time what can be done now; nothing is
remembered between rounds, so a device that lost power anywhere goes on from what it finds.

What runs stays until every image of the new release is there, except where a service's strategy is
to go first. The new container is made before the old one is stopped, so that a release that cannot
even be created stops nothing. What depends on others starts after them and is stopped before them.
The host is restarted for a service that says so when nothing else is left to be done: until then
its old container runs on.
"""

from collections.abc import Iterator

from gantry.supervisor.desired import DesiredApp, DesiredService, DesiredState
from gantry.supervisor.matching import awaits_reboot, best, furthest, is_finished, must_start
from gantry.supervisor.matching import matches as matches
from gantry.supervisor.ordering import end_in_order
from gantry.supervisor.replacing import service_steps
from gantry.supervisor.state import Container, CurrentState
from gantry.supervisor.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FetchImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RestartHost,
    ReviveContainer,
    StartContainer,
    Step,
    StopContainer,
)
from gantry.supervisor.strategy import Strategy

# A restart of the host comes after these. What fails for ever, or goes on by itself, is not waited
# for: starts, downloads, and what is cleaned away.
_BEFORE_RESTART = (
    CreateNetwork,
    CreateVolume,
    CreateContainer,
    RenameContainer,
    StopContainer,
    RemoveContainer,
)


def plan(
    current: CurrentState,
    desired: DesiredState,
    owned_images: frozenset[str],
    owned_volumes: frozenset[str] = frozenset(),
    short_of_room: bool = False,
) -> tuple[Step, ...]:
    """The next steps; none when the device is at its target.

    `owned_images` and `owned_volumes` are the names of what this supervisor may remove. What
    nothing wants goes last; images at once when the disk is `short_of_room`.
    """
    steps: list[Step] = list(_unwanted(current, desired))
    makes_room = short_of_room
    for app in desired.apps:
        mine = tuple(_app(app, current))
        makes_room |= _deletes_first(app, mine)
        steps += mine
    for rejection in desired.rejections:
        steps += _revived(rejection.id, current, frozenset())
    if not any(isinstance(each, _BEFORE_RESTART) for each in steps):
        steps += _restart(current, desired)
    if not steps:
        steps += _leftover_networks(current, desired)
        steps += _leftover_volumes(current, desired, owned_volumes)
        makes_room = True
    if makes_room:
        steps += _leftover_images(current, desired, owned_images)
    return tuple(steps)


def is_settled(app: DesiredApp, current: CurrentState) -> bool:
    """Whether every service of the application is as it must be."""
    for service in app.services:
        mine = current.of_service(app.id, service.service)
        keep = best(mine, service)
        if (keep is None and service.running) or len(mine) > 1:
            return False
        if keep is not None and not (
            keep.name == service.container_name
            and keep.state.is_up == (service.running and not is_finished(keep, service.restarts))
        ):
            return False
    return True


def _unwanted(current: CurrentState, desired: DesiredState) -> Iterator[Step]:
    """The end of applications that the device is no longer part of."""
    known = {each.id for each in desired.apps} | {each.id for each in desired.rejections}
    yield from end_in_order(e for e in current.containers if e.app_id not in known)


def _app(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    here = current.references()
    missing = [each for each in app.services if each.image not in here]
    if missing:
        yield from _on_the_way(app, missing, current)
        return
    purge = tuple(_purge(app, current))
    if purge:
        yield from purge
        return
    ground = tuple(_ground(app, current))
    yield from ground or service_steps(app, current)


def _on_the_way(
    app: DesiredApp, missing: list[DesiredService], current: CurrentState
) -> Iterator[Step]:
    """While images are missing. Who goes before its image goes when all others are here."""
    early = [each for each in missing if not _goes_first(each, current)]
    late = [each for each in missing if _goes_first(each, current)]
    going = {e.service for e in late if not early and current.of_service(app.id, e.service)}
    yield from end_in_order(e for e in _of_app(app, current) if e.service in going)
    seen: set[str] = set()
    for each in (*early, *late):
        is_free = not current.of_service(app.id, each.service)
        if each.image not in seen and (each in early or is_free):
            seen.add(each.image)
            yield FetchImage(each.image, app.id, each.service, each.service_id)
    yield from _keep_up(app, current, frozenset(going))


def _goes_first(service: DesiredService, current: CurrentState) -> bool:
    """Whether the old container goes before the image comes. One that is as it must be is not old,
    though its image may have lost its name."""
    mine = current.of_service(service.app_id, service.service)
    return service.strategy.kills_first and best(mine, service) is None


def _deletes_first(app: DesiredApp, steps: tuple[Step, ...]) -> bool:
    """Whether an image is about to come, and old ones have to go before."""
    deleting = {e.image for e in app.services if e.strategy is Strategy.DELETE_THEN_DOWNLOAD}
    return any(isinstance(each, FetchImage) and each.reference in deleting for each in steps)


def _keep_up(app: DesiredApp, current: CurrentState, going: frozenset[str]) -> Iterator[Step]:
    """While images are on their way, what ran is kept running, also what an update that is no
    longer wanted has stopped."""
    fine: set[str] = set(going)
    for service in app.services:
        keep = best(current.of_service(app.id, service.service), service)
        if not service.running:
            fine.add(service.service)
        elif keep is not None and keep.name == service.container_name:
            fine.add(service.service)
            if must_start(keep, service):
                yield StartContainer(service)
    yield from _revived(app.id, current, frozenset(fine))


def _revived(app_id: int, current: CurrentState, fine: frozenset[str]) -> Iterator[Step]:
    """Old containers of services of which none is up, but for those that are `fine`."""
    services = {each.service for each in current.containers if each.app_id == app_id} - fine
    for service in sorted(services):
        mine = current.of_service(app_id, service)
        found = None if any(each.state.is_up for each in mine) else furthest(mine)
        if found is not None and found.can_start and not is_finished(found, found.restart):
            yield ReviveContainer(found)


def _restart(current: CurrentState, desired: DesiredState) -> Iterator[Step]:
    """The host's restart, where a container that is new in this boot needs it. None of an
    application whose images are not all here: it may be another container by then."""
    here = current.references()
    waiting = []
    for app in desired.apps:
        if all(each.image in here for each in app.services):
            for service in app.services:
                keep = best(current.of_service(app.id, service.service), service)
                if keep is not None and awaits_reboot(keep, service):
                    waiting.append(keep)
    if waiting:
        yield RestartHost(tuple(waiting))


def _purge(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    """Empty volumes are new ones: nothing may use the old ones meanwhile."""
    volumes = sorted(app.purge & current.volumes)
    if volumes:
        users = _of_app(app, current)
        yield from end_in_order(users)
        if not users:
            yield from (RemoveVolume(each) for each in volumes)


def _ground(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    """Networks and volumes, which come before any container."""
    here = {each.name: each for each in current.networks}
    changed = []
    for network in app.networks:
        found = here.get(network.name)
        if found is None:
            yield CreateNetwork(network)
        elif found.config_hash != network.config_hash:
            changed.append(found)
    if changed:
        # Only a network without containers can be removed.
        attached = _of_app(app, current)
        yield from end_in_order(attached)
        if not attached:
            yield from (RemoveNetwork(each) for each in changed)
    for volume in app.volumes:
        if volume.name not in current.volumes:
            yield CreateVolume(volume)


def _of_app(app: DesiredApp, current: CurrentState) -> tuple[Container, ...]:
    return tuple(each for each in current.containers if each.app_id == app.id)


def _leftover_networks(current: CurrentState, desired: DesiredState) -> Iterator[Step]:
    wanted = {each.name for app in desired.apps for each in app.networks}
    untouched = {each.id for each in desired.rejections}
    for each in current.networks:
        if each.name not in wanted and each.app_id not in untouched:
            yield RemoveNetwork(each)


def _leftover_volumes(
    current: CurrentState, desired: DesiredState, owned_volumes: frozenset[str]
) -> Iterator[Step]:
    wanted = {each.name for app in desired.apps for each in app.volumes}
    for name in sorted((owned_volumes & current.volumes) - wanted):
        yield RemoveVolume(name)


def _leftover_images(
    current: CurrentState, desired: DesiredState, owned_images: frozenset[str]
) -> Iterator[Step]:
    """Images that nothing wants. None while a release is rejected: it may be the one that runs."""
    if desired.rejections:
        return
    wanted = {each.image for app in desired.apps for each in app.services}
    for image in current.images:
        if image.in_use:
            continue
        for reference in image.references:
            if reference in owned_images and reference not in wanted:
                yield RemoveImage(reference)
