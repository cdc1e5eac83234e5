"""What the device tells of its applications: the body of a report, from what is known. Pure.

The form is the family's version 3 (`PATCH /device/v3/state`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gantry.supervisor import VERSION
from gantry.supervisor.desired import DesiredApp, DesiredService, DesiredState
from gantry.supervisor.plan import is_settled, matches
from gantry.supervisor.state import Container, ContainerState, CurrentState
from gantry.supervisor.strategy import Strategy


class UpdateStatus(StrEnum):
    """Where a release stands on a device, under the family's names."""

    REJECTED = "rejected"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    APPLYING = "applying changes"
    DONE = "done"


_STATUS = {
    ContainerState.CREATED: "Installed",
    ContainerState.RUNNING: "Running",
    # Between two starts it is not running, whatever the engine intends.
    ContainerState.RESTARTING: "exited",
    ContainerState.PAUSED: "paused",
    ContainerState.EXITED: "exited",
    ContainerState.REMOVING: "Stopping",
    ContainerState.DEAD: "Dead",
}


def container_status(container: Container, doing: Mapping[tuple[int, str], str]) -> str:
    """What a container does, in the family's words."""
    return doing.get((container.app_id, container.service)) or _STATUS[container.state]


def report_apps(
    current: CurrentState,
    desired: DesiredState,
    progress: Mapping[str, int | None],
    doing: Mapping[tuple[int, str], str],
    running: Mapping[int, str],
) -> dict[str, Any]:
    """The `apps` of a report.

    `progress` are downloads by image, `doing` steps under way by service, `running` the commit
    that each application (by id) runs.
    """
    apps: dict[str, Any] = {}
    for app in desired.apps:
        releases: dict[str, Any] = {}
        old = running.get(app.id)
        for container in current.containers:
            if container.app_id == app.id and container.commit not in ("", app.commit):
                release = releases.setdefault(container.commit, _running_release())
                hands_over = container.state.is_up and _awaits_handover(app, container, current)
                release["services"][container.service] = {
                    "image": container.image,
                    "status": "Handing over" if hands_over else _STATUS[container.state],
                }
        if app.commit is not None:
            releases[app.commit] = {
                "update_status": _update_status(app, current, progress),
                "services": {
                    each.service: _service(each, current, progress, doing) for each in app.services
                },
            }
        apps[app.uuid] = {"releases": releases} | ({"release_uuid": old} if old else {})
    for rejection in desired.rejections:
        entry: dict[str, Any] = {
            "releases": {rejection.commit: {"update_status": UpdateStatus.REJECTED, "services": {}}}
        }
        old = running.get(rejection.id)
        for container in current.containers:
            if container.app_id == rejection.id and container.commit != rejection.commit:
                release = entry["releases"].setdefault(container.commit, _running_release())
                release["services"][container.service] = {
                    "image": container.image,
                    "status": _STATUS[container.state],
                }
        apps[rejection.uuid] = entry | ({"release_uuid": old} if old else {})
    return apps


def _running_release() -> dict[str, Any]:
    return {"update_status": UpdateStatus.DONE, "services": {}}


def settled_commits(current: CurrentState, desired: DesiredState) -> dict[int, str]:
    """The commit of each application that is as it must be, by the application's id."""
    return {
        app.id: app.commit
        for app in desired.apps
        if app.commit is not None and is_settled(app, current)
    }


def _update_status(
    app: DesiredApp, current: CurrentState, progress: Mapping[str, int | None]
) -> UpdateStatus:
    here = current.references()
    if any(each.image not in here for each in app.services):
        return UpdateStatus.DOWNLOADING
    if is_settled(app, current):
        return UpdateStatus.DONE
    if any(_container(each, current) for each in app.services):
        return UpdateStatus.APPLYING
    return UpdateStatus.DOWNLOADED


def _container(service: DesiredService, current: CurrentState) -> Container | None:
    mine = current.of_service(service.app_id, service.service)
    return next((each for each in mine if matches(each, service)), None)


def _service(
    service: DesiredService,
    current: CurrentState,
    progress: Mapping[str, int | None],
    doing: Mapping[tuple[int, str], str],
) -> dict[str, Any]:
    found: dict[str, Any] = {"image": service.image}
    step = doing.get((service.app_id, service.service))
    container = _container(service, current)
    if service.image not in current.references():
        found["status"] = "Downloading"
        found["download_progress"] = progress.get(service.image) or 0
    elif step is not None:
        found["status"] = step
    elif container is not None and _has_rival(service, container, current):
        found["status"] = "Awaiting handover"
    elif container is not None:
        found["status"] = _STATUS[container.state]
    else:
        found["status"] = "Downloaded"
    return found


def _awaits_handover(app: DesiredApp, old: Container, current: CurrentState) -> bool:
    """Whether this old container is to be replaced by one that already runs beside it."""
    service = next((each for each in app.services if each.service == old.service), None)
    new = None if service is None else _container(service, current)
    return service is not None and new is not None and _has_rival(service, new, current)


def _has_rival(service: DesiredService, new: Container, current: CurrentState) -> bool:
    """Whether an older container of a service that hands over runs beside this one."""
    mine = current.of_service(service.app_id, service.service)
    return (
        service.strategy is Strategy.HAND_OVER
        and new.state.is_up
        and any(each.state.is_up for each in mine if each.id != new.id)
    )


def device_state(
    apps: Mapping[str, Any], os_version: str, addresses: tuple[str, str]
) -> dict[str, Any]:
    """The body of a report but for the machine's figures. `addresses` are the IP and the MAC
    addresses, as `metrics.addresses` gives them."""
    ip_address, mac_address = addresses
    state = {
        "status": overall(apps)[0],
        "is_online": True,
        "os_version": os_version,
        "supervisor_version": VERSION,
        "ip_address": ip_address,
        "mac_address": mac_address,
    }
    return state | ({"apps": dict(apps)} if apps else {})


def overall(apps: Mapping[str, Any]) -> tuple[str, int | None]:
    """The device's status in a word, and the percentage of its downloads."""
    services = [
        service
        for app in apps.values()
        for release in app["releases"].values()
        for service in release["services"].values()
    ]
    downloads = [each["download_progress"] for each in services if "download_progress" in each]
    if downloads:
        return "Downloading", sum(downloads) // len(downloads)
    for word in ("Installing", "Starting", "Stopping"):
        if any(each.get("status") == word for each in services):
            return word, None
    return "Idle", None
