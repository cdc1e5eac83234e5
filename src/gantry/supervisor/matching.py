"""Whether a container is what a service must be. Pure."""

from collections.abc import Iterable

from gantry.supervisor.desired import Condition, Dependency, DesiredApp, DesiredService
from gantry.supervisor.state import Container, ContainerState, CurrentState, Health

_GONE = (ContainerState.DEAD, ContainerState.REMOVING)
_RANK = {
    ContainerState.RUNNING: 4,
    ContainerState.RESTARTING: 3,
    ContainerState.PAUSED: 3,
    ContainerState.EXITED: 2,
    ContainerState.CREATED: 1,
}


def matches(container: Container, service: DesiredService) -> bool:
    """Whether this container is what the service must be, whatever it is doing."""
    return (
        container.config_hash == service.config_hash
        and container.state not in _GONE
        and container.id not in service.outdated
    )


def best(mine: Iterable[Container], service: DesiredService) -> Container | None:
    """Of containers that are as they must be, the one that has come furthest."""
    fitting = [each for each in mine if matches(each, service)]
    return furthest(fitting)


def furthest(containers: Iterable[Container]) -> Container | None:
    """The container that has come furthest towards running."""
    return max(containers, key=lambda each: (_RANK.get(each.state, 0), each.id), default=None)


def must_start(container: Container, service: DesiredService) -> bool:
    """Whether somebody has to start it: the engine will not."""
    if not service.running:
        return False
    if container.state is ContainerState.CREATED:
        return not awaits_reboot(container, service)
    return container.state is ContainerState.EXITED and not is_finished(container, service.restarts)


def awaits_reboot(container: Container, service: DesiredService) -> bool:
    """Whether the host has to be restarted before it starts for the first time."""
    is_new = container.state is ContainerState.CREATED and service.boot is not None
    return service.running and is_new and container.boot == service.boot


def is_finished(container: Container, restart: str) -> bool:
    """Whether it ended, and its restart policy, such as `on-failure:3`, leaves it at that."""
    if container.state is not ContainerState.EXITED:
        return False
    name, _, times = restart.partition(":")
    if name == "on-failure":
        # With a bound of its own, the engine has already tried as often as was asked.
        return container.exit_code == 0 or bool(times)
    return name == "no"


def is_ready(dependency: Dependency, app: DesiredApp, current: CurrentState) -> bool:
    """Whether a service that waits for this one may start."""
    service = next(each for each in app.services if each.service == dependency.service)
    found = best(current.of_service(app.id, service.service), service)
    if found is None:
        return not service.running
    if dependency.condition is Condition.HEALTHY:
        return found.state is ContainerState.RUNNING and found.health is Health.HEALTHY
    if dependency.condition is Condition.COMPLETED:
        return found.state is ContainerState.EXITED and found.exit_code == 0
    return found.state is not ContainerState.CREATED or not service.running
