"""The device's state as the HTTP API shows it: the family's bodies, from what is known. Pure.

Shapes: https://docs.balena.io/reference/supervisor/supervisor-api/. Where the family shows a
service's image by a number, it is the `image_id` of the target.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gantry.supervisor.desired import DesiredApp, DesiredService, DesiredState
from gantry.supervisor.keys import Scope
from gantry.supervisor.locks import LockHolder
from gantry.supervisor.plan import is_settled
from gantry.supervisor.progress import Received
from gantry.supervisor.state import Container, CurrentState, EngineImage
from gantry.supervisor.status import UpdateStatus, container_status, report_apps
from gantry.supervisor.target import TargetApp

# What opens other doors is not shown.
_SECRETS = frozenset(
    f"{prefix}_{name}"
    for prefix in ("BALENA", "RESIN")
    for name in ("SUPERVISOR_API_KEY", "API_KEY")
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of the device's applications at one moment.

    `progress` are downloads in percent by image, `received` their bytes, `doing` steps under way
    by service, `running` the commit that each application (by id) runs.
    """

    apps: tuple[TargetApp, ...]
    current: CurrentState
    desired: DesiredState
    progress: Mapping[str, int | None]
    received: Mapping[str, Received]
    doing: Mapping[tuple[int, str], str]
    running: Mapping[int, str]

    def containers(self, scope: Scope) -> list[Container]:
        """The containers that a key may see; of a service's two, the one that runs comes last."""
        mine = [each for each in self.current.containers if scope.covers(each.app_id)]
        return sorted(mine, key=lambda each: (each.app_id, each.service, each.state.is_up))

    def services(self, app_id: int) -> dict[str, Container]:
        """The container of each service of an application that has one."""
        return {each.service: each for each in self.containers(Scope(app_id))}

    def app(self, app_id: int) -> DesiredApp | None:
        """The application, as it must be."""
        return next((each for each in self.desired.apps if each.id == app_id), None)

    def commit(self, app_id: int) -> str | None:
        """The release that an application runs."""
        return self.running.get(app_id)

    def reported(self) -> dict[str, Any]:
        """The applications as they are reported to the api, by uuid."""
        return report_apps(self.current, self.desired, self.progress, self.doing, self.running)

    def status(self, container: Container) -> str:
        """What a container does, in the family's words."""
        return container_status(container, self.doing)

    def is_applying(self) -> bool:
        """Whether there is something to do before the device is as it must be."""
        settled = all(is_settled(app, self.current) for app in self.desired.apps)
        return bool(self.progress or self.doing) or not settled


def applications_state(picture: Picture, scope: Scope) -> dict[str, Any]:
    """The body of `GET /v2/applications/state`: applications by name."""
    reported = picture.reported()
    return {
        app.name: _application(app, reported.get(app.uuid) or {})
        for app in picture.apps
        if scope.covers(app.id)
    }


def _application(app: TargetApp, reported: Mapping[str, Any]) -> dict[str, Any]:
    commit = app.release.commit if app.release else None
    release = reported.get("releases", {}).get(commit) or {}
    return {
        "appId": app.id,
        "appUuid": app.uuid,
        "commit": commit,
        "updateStatus": release.get("update_status", UpdateStatus.DONE),
        "services": {
            name: {
                "status": service["status"],
                "image": service["image"],
                "downloadProgress": service.get("download_progress"),
                "releaseId": app.release.id if app.release else None,
            }
            for name, service in release.get("services", {}).items()
        },
    }


def application_state(picture: Picture, app_id: int) -> dict[str, Any] | None:
    """The body of `GET /v2/applications/:appId/state`; None when the device has nothing of it."""
    services: dict[str, Any] = {}
    for container in picture.containers(Scope(app_id)):
        key = str(container.image_id)
        status = "Handing over" if key in services else picture.status(container)
        services[key] = {
            "status": status,
            "releaseId": container.release_id,
            "download_progress": None,
        }
    for service in _services(picture, app_id):
        if str(service.image_id) not in services:
            services[str(service.image_id)] = {
                "status": _image_status(picture, service.image),
                "releaseId": service.release_id,
                "download_progress": _download(picture, service.image),
            }
    if not services:
        return None
    return {"local": {str(app_id): {"services": services}}, "commit": picture.commit(app_id)}


def state_status(picture: Picture, scope: Scope) -> dict[str, Any]:
    """The body of `GET /v2/state/status`, without `status`. As with the family it shows one
    application: the first that the key may see."""
    ids = [each.app_id for each in picture.containers(scope)]
    ids += [app.id for app in picture.desired.apps if scope.covers(app.id)]
    app_id = ids[0] if ids else -1
    images = list(_images(picture, app_id))
    downloads = [
        each["downloadProgress"] for each in images if each["downloadProgress"] is not None
    ]
    return {
        "appState": "applying" if picture.is_applying() else "applied",
        "overallDownloadProgress": sum(downloads) / len(downloads) if downloads else None,
        "containers": [
            {
                "status": picture.status(each),
                "serviceName": each.service,
                "appId": each.app_id,
                "imageId": each.image_id,
                "serviceId": each.service_id,
                "containerId": each.id,
                "createdAt": _time(each.created),
            }
            for each in picture.containers(Scope(app_id))
        ],
        "images": images,
        "release": picture.commit(app_id),
    }


def _images(picture: Picture, app_id: int) -> Iterable[dict[str, Any]]:
    here = {name: each for each in picture.current.images for name in each.references}
    shown = set()
    for service in _services(picture, app_id):
        shown.add(service.image)
        yield _image(picture, here, service.image, app_id, service.service, service.image_id)
    for each in picture.containers(Scope(app_id)):
        if each.image in here and each.image not in shown:
            yield _image(picture, here, each.image, app_id, each.service, each.image_id)


def _image(
    picture: Picture,
    here: Mapping[str, EngineImage],
    name: str,
    app_id: int,
    service: str,
    image_id: int | None,
) -> dict[str, Any]:
    found = here.get(name)
    return {
        "name": name,
        "appId": app_id,
        "serviceName": service,
        "imageId": image_id,
        **({"dockerImageId": found.id} if found else {}),
        "status": _image_status(picture, name),
        "downloadProgress": _download(picture, name),
    }


def _services(picture: Picture, app_id: int) -> tuple[DesiredService, ...]:
    app = picture.app(app_id)
    return app.services if app else ()


def _image_status(picture: Picture, image: str) -> str:
    return "Downloaded" if image in picture.current.references() else "Downloading"


def _download(picture: Picture, image: str) -> int | None:
    if image in picture.current.references():
        return None
    return picture.progress.get(image) or 0


def _time(seconds: float) -> str:
    """As JavaScript writes times, which clients of the family's read."""
    return datetime.fromtimestamp(round(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def lock_view(holder: LockHolder) -> dict[str, Any]:
    """Who holds a lock since when. Ours; times are whole seconds, in ISO 8601."""
    return {
        "appId": holder.app_id,
        "kind": holder.kind,
        "service": holder.service or None,
        "holder": holder.holder or None,
        "lease": holder.lease or None,
        "since": _time(holder.since),
        "expires": None if holder.expires is None else _time(holder.expires),
    }


def environment(document: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container (from the engine's `GET /containers/:id/json`), no keys."""
    variables = (document.get("Config") or {}).get("Env") or []
    pairs = (str(each).partition("=") for each in variables)
    return {name: value for name, _, value in pairs if name not in _SECRETS}
