"""How the services of a release on trial do, from a look at the engine. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from gantry.supervisor.desired import Condition, Dependency, DesiredApp, DesiredService
from gantry.supervisor.matching import awaits_reboot, matches
from gantry.supervisor.state import Container, ContainerState, CurrentState, Health


class Standing(StrEnum):
    """How a service of a release on trial does."""

    WAITING = "waiting"  # for its image, a lock, a dependency, a restart: nothing to judge yet
    STARTING = "starting"  # its health check has not decided
    WELL = "well"
    UNWELL = "unwell"
    LOST = "lost"  # nothing will start it again


def unchanged(app: DesiredApp, good: DesiredApp | None) -> frozenset[str]:
    """Services that are the same as with the good release, in networks that are, too."""
    if good is None:
        return frozenset()
    networks = {each.name: each.config_hash for each in good.networks}
    if any(networks.get(each.name, each.config_hash) != each.config_hash for each in app.networks):
        return frozenset()
    services = {(each.service, each.config_hash, each.running) for each in good.services}
    return frozenset(
        each.service
        for each in app.services
        if (each.service, each.config_hash, each.running) in services
    )


def standing(
    service: DesiredService,
    app: DesiredApp,
    current: CurrentState,
    crashes: Mapping[str, int],
    is_unchanged: bool,
) -> tuple[Standing, str]:
    """How it does and, where it is not well, why. `crashes` are those of the trial so far;
    `is_unchanged` is whether it is one of `unchanged`."""
    if not service.running:
        return Standing.WELL, ""
    if is_old(service, current):
        return Standing.WAITING, ""  # for images, or a lock
    found, why = _doing(service, app, current, crashes)
    if is_unchanged and found is not Standing.WAITING:
        return Standing.WELL, ""  # or as ill as with the good release
    return found, why


def _doing(
    service: DesiredService, app: DesiredApp, current: CurrentState, crashes: Mapping[str, int]
) -> tuple[Standing, str]:
    found = _container(service, current)
    if found is None or found.state is ContainerState.CREATED:
        ready = all(_holds(each, app, current) for each in service.depends_on)
        here = current.references()
        is_whole = all(each.image in here for each in app.services)  # before, nothing is created
        awaits = found is not None and awaits_reboot(found, service)
        if not ready or not is_whole or awaits or _old_is_up(app, current):
            return Standing.WAITING, ""
        return Standing.UNWELL, "could not be created" if found is None else "could not be started"
    status = found.exit_code
    if found.state is ContainerState.EXITED and status != 0:
        policy = service.body["HostConfig"]["RestartPolicy"]
        ends = policy.get("Name") == "no" or "MaximumRetryCount" in policy
        return Standing.LOST if ends else Standing.UNWELL, f"ended with status {status}"
    if found.state is ContainerState.RESTARTING and status != 0:
        return Standing.UNWELL, f"ends again and again, last with status {status}"
    if found.health is Health.UNHEALTHY:
        return Standing.UNWELL, "fails its health check"
    if found.health is Health.STARTING:
        # Each crash begins the health check anew: it would never decide.
        crashed = bool(crashes.get(service.service))
        return (Standing.UNWELL if crashed else Standing.STARTING), "is not healthy"
    return Standing.WELL, ""


def _container(service: DesiredService, current: CurrentState) -> Container | None:
    mine = current.of_service(service.app_id, service.service)
    fitting = [each for each in mine if matches(each, service)]
    return max(fitting, key=lambda each: (each.state.is_up, each.id), default=None)


def is_old(service: DesiredService, current: CurrentState) -> bool:
    """Whether its container is as it must be, but still another release's: it becomes this one's
    when all images are there and nothing is locked."""
    found = _container(service, current)
    return found is not None and found.commit != service.commit


def has_begun(service: DesiredService, current: CurrentState) -> bool:
    """Whether this release's container has run."""
    found = _container(service, current)
    return (
        found is not None
        and found.commit == service.commit
        and found.state is not ContainerState.CREATED
    )


def _old_is_up(app: DesiredApp, current: CurrentState) -> bool:
    """Whether something of another release runs: it may be locked, or not be replaced yet."""
    hashes = {(each.service, each.config_hash) for each in app.services}
    return any(
        each.state.is_up and (each.service, each.config_hash) not in hashes
        for each in current.containers
        if each.app_id == app.id
    )


def _holds(dependency: Dependency, app: DesiredApp, current: CurrentState) -> bool:
    service = next((each for each in app.services if each.service == dependency.service), None)
    found = _container(service, current) if service is not None else None
    if found is None:
        return service is None or not service.running
    if dependency.condition is Condition.HEALTHY:
        return found.health is Health.HEALTHY
    if dependency.condition is Condition.COMPLETED:
        return found.state is ContainerState.EXITED and found.exit_code == 0
    return found.state is not ContainerState.CREATED
