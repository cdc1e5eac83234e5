"""The planner: from what is and what must be to the next steps. Pure, and the heart of it.

It is asked again after every round of steps, and gives each time what can be done now; nothing is
remembered between rounds, so a device that lost power anywhere goes on from what it finds.

The update strategy is the family's download-then-kill: what runs stays until every image of the
new release is there. The new container is made before the old one is stopped, so that a release
that cannot even be created stops nothing.
"""

from collections.abc import Iterable, Iterator

from gantry.supervisor.desired import (
    Condition,
    Dependency,
    DesiredApp,
    DesiredService,
    DesiredState,
)
from gantry.supervisor.state import Container, ContainerState, CurrentState, Health
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
    StartContainer,
    Step,
    StopContainer,
)

_GONE = (ContainerState.DEAD, ContainerState.REMOVING)


def plan(
    current: CurrentState,
    desired: DesiredState,
    owned_images: frozenset[str],
    owned_volumes: frozenset[str] = frozenset(),
) -> tuple[Step, ...]:
    """The next steps; none when the device is at its target.

    `owned_images` and `owned_volumes` are the names of what this supervisor may remove.
    """
    steps: list[Step] = list(_leftovers(current, desired))
    for app in desired.apps:
        missing = tuple(_fetches(app, current))
        if missing:
            steps += missing
            steps += _keep_up(app, current)
            continue
        ground = tuple(_ground(app, current))
        steps += ground or _services(app, current)
    if not steps:
        steps += _leftover_networks(current, desired)
        steps += _leftover_images(current, desired, owned_images)
        steps += _leftover_volumes(current, desired, owned_volumes)
    return tuple(steps)


def matches(container: Container, service: DesiredService) -> bool:
    """Whether this container is what the service must be, whatever it is doing."""
    return container.config_hash == service.config_hash and container.state not in _GONE


def is_settled(app: DesiredApp, current: CurrentState) -> bool:
    """Whether every service of the application is as it must be."""
    for service in app.services:
        mine = current.of_service(app.id, service.service)
        keep = _best(mine, service)
        if (keep is None and service.running) or len(mine) > 1:
            return False
        if keep is not None and not (
            keep.name == service.container_name
            and keep.state.is_up == (service.running and not _is_finished(keep, service))
        ):
            return False
    return True


def _leftovers(current: CurrentState, desired: DesiredState) -> Iterator[Step]:
    """Containers of applications and services that are no longer wanted."""
    untouched = {each.id for each in desired.rejections}
    wanted = {(app.id, each.service) for app in desired.apps for each in app.services}
    waiting = {app.id for app in desired.apps if next(_fetches(app, current), None) is not None}
    for each in current.containers:
        if each.app_id in untouched | waiting or (each.app_id, each.service) in wanted:
            continue
        yield from _end(each)


def _end(container: Container) -> Iterator[Step]:
    if container.state.is_up:
        yield StopContainer(container)
    if container.state is not ContainerState.REMOVING:
        yield RemoveContainer(container)


def _fetches(app: DesiredApp, current: CurrentState) -> Iterator[FetchImage]:
    here = current.references()
    seen: set[str] = set()
    for each in app.services:
        if each.image not in here and each.image not in seen:
            seen.add(each.image)
            yield FetchImage(each.image, app.id, each.service, each.service_id)


def _keep_up(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    """While images are on their way, what is already as it must be is kept running."""
    for service in app.services:
        keep = _best(current.of_service(app.id, service.service), service)
        if keep is not None and keep.name == service.container_name and _must_start(keep, service):
            yield StartContainer(service)


def _ground(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    """Networks and volumes, which come before any container."""
    here = {each.name: each for each in current.networks}
    for network in app.networks:
        found = here.get(network.name)
        if found is None:
            yield CreateNetwork(network)
        elif found.config_hash != network.config_hash:
            # Only a network without containers can be removed.
            attached = [each for each in current.containers if each.app_id == app.id]
            for each in attached:
                yield from _end(each)
            if not attached:
                yield RemoveNetwork(found)
    for volume in app.volumes:
        if volume.name not in current.volumes:
            yield CreateVolume(volume)


def _services(app: DesiredApp, current: CurrentState) -> Iterator[Step]:
    for service in app.services:
        ready = all(_is_ready(each, app, current) for each in service.depends_on)
        yield from _service(service, current.of_service(app.id, service.service), ready)


def _service(service: DesiredService, mine: tuple[Container, ...], ready: bool) -> Iterator[Step]:
    keep = _best(mine, service)
    others = [each for each in mine if each is not keep]
    if keep is None:
        if not ready and service.running:
            return  # The old one runs on until those that it depends on are up.
        blocking = [each for each in others if each.name == service.container_name]
        for each in blocking:
            yield from _end(each)
        if service.running:
            yield CreateContainer(service)
        for each in others:
            if each not in blocking:
                yield from _end(each)
        if service.running:
            yield StartContainer(service)
        return
    for each in others:
        yield from _end(each)
    if keep.name != service.container_name:
        yield RenameContainer(keep, service)
    if not service.running and keep.state.is_up:
        yield StopContainer(keep)
    elif service.running and ready and _must_start(keep, service):
        yield StartContainer(service)


def _best(mine: Iterable[Container], service: DesiredService) -> Container | None:
    """Of containers that are as they must be, the one that has come furthest."""
    fitting = [each for each in mine if matches(each, service)]
    return max(fitting, key=lambda each: (_RANK.get(each.state, 0), each.id), default=None)


_RANK = {
    ContainerState.RUNNING: 4,
    ContainerState.RESTARTING: 3,
    ContainerState.PAUSED: 3,
    ContainerState.EXITED: 2,
    ContainerState.CREATED: 1,
}


def _must_start(container: Container, service: DesiredService) -> bool:
    if not service.running:
        return False
    if container.state is ContainerState.CREATED:
        return True
    return container.state is ContainerState.EXITED and not _is_finished(container, service)


def _is_finished(container: Container, service: DesiredService) -> bool:
    """Whether it ended, and its restart policy leaves it at that."""
    if container.state is not ContainerState.EXITED:
        return False
    policy = service.restart["Name"]
    if policy == "on-failure":
        # With a bound of its own, the engine has already tried as often as was asked.
        return container.exit_code == 0 or "MaximumRetryCount" in service.restart
    return bool(policy == "no")


def _is_ready(dependency: Dependency, app: DesiredApp, current: CurrentState) -> bool:
    service = next(each for each in app.services if each.service == dependency.service)
    found = _best(current.of_service(app.id, service.service), service)
    if found is None:
        return not service.running
    if dependency.condition is Condition.HEALTHY:
        return found.state is ContainerState.RUNNING and found.health is Health.HEALTHY
    if dependency.condition is Condition.COMPLETED:
        return found.state is ContainerState.EXITED and found.exit_code == 0
    return found.state is not ContainerState.CREATED or not service.running


def _leftover_networks(current: CurrentState, desired: DesiredState) -> Iterator[Step]:
    wanted = {each.name for app in desired.apps for each in app.networks}
    untouched = {each.id for each in desired.rejections}
    for each in current.networks:
        if each.name not in wanted and each.app_id not in untouched:
            yield RemoveNetwork(each)


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


def _leftover_volumes(
    current: CurrentState, desired: DesiredState, owned_volumes: frozenset[str]
) -> Iterator[Step]:
    wanted = {each.name for app in desired.apps for each in app.volumes}
    for name in sorted((owned_volumes & current.volumes) - wanted):
        yield RemoveVolume(name)
