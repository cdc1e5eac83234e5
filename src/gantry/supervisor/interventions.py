"""What somebody at the device asks of its applications, beside the target: stop, restart, purge.

Pure. An intervention changes the desired state, so that the planner needs to know nothing else; it
is over when the engine shows that it was carried out, or when the target has changed meanwhile.
Starting is the end of a stop.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gantry.supervisor.desired import DesiredApp, DesiredService, DesiredState
from gantry.supervisor.state import ContainerState, CurrentState


class Action(StrEnum):
    """What is asked."""

    STOP = "stop"
    RESTART = "restart"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class Intervention:
    """Something that was asked of an application or of some of its services.

    A stop holds for the container names in `names` until others are wanted. A restart holds while
    one of `containers` (ids) is there, a purge also while one of `volumes` is. With `force` the
    application's locks do not count.
    """

    action: Action
    app_id: int
    services: frozenset[str]
    names: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    force: bool = False


def stop(
    app: DesiredApp, services: Collection[str] | None = None, force: bool = False
) -> Intervention:
    """Keep these services (all without a list) from running, with their containers kept."""
    chosen = _chosen(app, services)
    names = frozenset(each.container_name for each in chosen)
    return Intervention(Action.STOP, app.id, _names(chosen), names, force=force)


def restart(
    app: DesiredApp,
    current: CurrentState,
    services: Collection[str] | None = None,
    force: bool = False,
) -> Intervention:
    """Replace the containers of these services (all without a list) by new ones."""
    names = _names(_chosen(app, services))
    containers = _containers(app.id, names, current)
    return Intervention(Action.RESTART, app.id, names, containers=containers, force=force)


def purge(app: DesiredApp, current: CurrentState, force: bool = False) -> Intervention:
    """Replace all containers of an application, with its volumes empty."""
    names = _names(app.services)
    volumes = frozenset(each.name for each in app.volumes) & current.volumes
    containers = _containers(app.id, names, current)
    return Intervention(Action.PURGE, app.id, names, frozenset(), containers, volumes, force)


def added(interventions: Iterable[Intervention], new: Intervention) -> tuple[Intervention, ...]:
    """With one more. What was stopped and is restarted runs again."""
    return (*started(interventions, new.app_id, new.services), new)


def started(
    interventions: Iterable[Intervention],
    app_id: int,
    services: Collection[str] | None = None,
) -> tuple[Intervention, ...]:
    """Without the stops of these services (all without a list): they start again."""
    found = []
    for each in interventions:
        if each.action is Action.STOP and each.app_id == app_id:
            left = each.services - frozenset(each.services if services is None else services)
            if not left:
                continue
            each = replace(each, services=left)
        found.append(each)
    return tuple(found)


def apply(desired: DesiredState, interventions: Collection[Intervention]) -> DesiredState:
    """The desired state with these in force."""
    if not interventions:
        return desired
    return replace(desired, apps=tuple(_applied(app, interventions) for app in desired.apps))


def _applied(app: DesiredApp, interventions: Iterable[Intervention]) -> DesiredApp:
    for each in interventions:
        if each.app_id == app.id:
            services = tuple(_changed(service, each) for service in app.services)
            app = replace(app, services=services, purge=app.purge | each.volumes)
    return app


def _changed(service: DesiredService, asked: Intervention) -> DesiredService:
    if service.service not in asked.services:
        return service
    if asked.action is Action.STOP:
        return replace(
            service, running=service.running and service.container_name not in asked.names
        )
    return replace(service, outdated=service.outdated | asked.containers)


def in_force(
    interventions: Iterable[Intervention], desired: DesiredState, current: CurrentState
) -> tuple[Intervention, ...]:
    """Those that are not over. `desired` is the state without interventions."""
    apps = {each.id: each for each in desired.apps}
    return tuple(
        each
        for each in interventions
        if each.app_id in apps and _holds(each, apps[each.app_id], current)
    )


def _holds(asked: Intervention, app: DesiredApp, current: CurrentState) -> bool:
    if asked.action is Action.STOP:
        wanted = {each.container_name for each in app.services if each.service in asked.services}
        return bool(wanted & asked.names)
    here = {each.id for each in current.containers}
    return bool(asked.containers & here or asked.volumes & current.volumes)


def is_carried_out(asked: Intervention, desired: DesiredState, current: CurrentState) -> bool:
    """Whether the engine shows what was asked: stopped, or gone and begun anew. `desired` is the
    state without interventions."""
    mine = [
        each
        for each in current.containers
        if each.app_id == asked.app_id and each.service in asked.services
    ]
    if asked.action is Action.STOP:
        return not any(each.state.is_up for each in mine)
    here = {each.id for each in current.containers}
    begun = {each.service for each in mine if each.state is not ContainerState.CREATED}
    wanted = {
        each.service
        for app in desired.apps
        for each in app.services
        if app.id == asked.app_id and each.running
    }
    return not asked.containers & here and begun >= asked.services & wanted


def forced(
    interventions: Iterable[Intervention], desired: DesiredState, current: CurrentState
) -> frozenset[int]:
    """Ids of applications whose locks do not count now."""
    return frozenset(
        each.app_id
        for each in interventions
        if each.force and not is_carried_out(each, desired, current)
    )


def without_stops(interventions: Iterable[Intervention]) -> tuple[Intervention, ...]:
    """Those that end when they are carried out."""
    return tuple(each for each in interventions if each.action is not Action.STOP)


def to_document(interventions: Iterable[Intervention]) -> list[dict[str, Any]]:
    """As JSON, to be remembered over a restart."""
    return [
        {
            "action": each.action,
            "app_id": each.app_id,
            "services": sorted(each.services),
            "names": sorted(each.names),
            "containers": sorted(each.containers),
            "volumes": sorted(each.volumes),
            "force": each.force,
        }
        for each in interventions
    ]


def from_document(documents: Iterable[Mapping[str, Any]] | None) -> tuple[Intervention, ...]:
    """What `to_document` gave."""
    return tuple(
        Intervention(
            Action(each["action"]),
            int(each["app_id"]),
            frozenset(each["services"]),
            frozenset(each["names"]),
            frozenset(each["containers"]),
            frozenset(each["volumes"]),
            bool(each["force"]),
        )
        for each in documents or ()
    )


def _chosen(app: DesiredApp, services: Collection[str] | None) -> tuple[DesiredService, ...]:
    return tuple(each for each in app.services if services is None or each.service in services)


def _names(services: Iterable[DesiredService]) -> frozenset[str]:
    return frozenset(each.service for each in services)


def _containers(app_id: int, services: frozenset[str], current: CurrentState) -> frozenset[str]:
    return frozenset(
        each.id for each in current.containers if each.app_id == app_id and each.service in services
    )
