"""The family's state of version 2, which older supervisors ask for and report.

It names applications, services and images by their numbers where version 3 has uuids, commits and
names; the content is the same.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor
from gantry.api.errors import NotFoundError
from gantry.api.queries import applications, releases
from gantry.api.services import reports
from gantry.api.services.reports import Short, Whole

# Ids are of 64 bits.
_ID_DIGITS = 19


def target(state: dict[str, Any]) -> dict[str, Any]:
    """The target of version 3 in the form of version 2."""
    [device] = state.values()
    apps = {str(app["id"]): _application(app) for app in device["apps"].values()}
    return {
        "local": {"name": device["name"], "config": device["config"], "apps": apps},
        # Devices behind a device: supervisors of this version ask for the keys.
        "dependent": {"apps": {}, "devices": {}},
    }


def _application(app: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": app["name"], "services": {}, "volumes": {}, "networks": {}}
    for commit, release in app["releases"].items():
        made |= {
            "commit": commit,
            "releaseId": release["id"],
            "services": {
                str(service["id"]): _service(name, service)
                for name, service in release["services"].items()
            },
            "volumes": release["volumes"],
            "networks": release["networks"],
        }
    return made


def _service(name: str, service: dict[str, Any]) -> dict[str, Any]:
    return {
        **service["composition"],
        "imageId": service["image_id"],
        "serviceName": name,
        "image": service["image"],
        "running": service["running"],
        "environment": service["environment"],
        "labels": service["labels"],
        **({"contract": service["contract"]} if "contract" in service else {}),
    }


class ImageReport(BaseModel):
    """One image on the device."""

    model_config = ConfigDict(extra="ignore")

    status: Short = ""
    download_progress: Whole | None = None


class LocalApplication(BaseModel):
    """One application on the device: its images by their ids."""

    model_config = ConfigDict(extra="ignore")

    services: dict[str, ImageReport] = {}


class LocalReport(reports.Telemetry):
    """The device itself; `is_on__commit` is what it runs."""

    is_on__commit: Short | None = None
    apps: dict[str, LocalApplication] | None = None


class DependentImage(BaseModel):
    """An image that the device downloads for others."""

    model_config = ConfigDict(extra="ignore")

    status: Short = ""
    downloadProgress: Whole | None = None  # noqa: N815 - the wire's name


class DependentApplication(BaseModel):
    """What the device downloads for others: images by their locations."""

    model_config = ConfigDict(extra="ignore")

    images: dict[str, DependentImage] = {}


class Dependent(BaseModel):
    """What the device does for devices behind it."""

    model_config = ConfigDict(extra="ignore")

    apps: dict[str, DependentApplication] = {}


class StateReport(BaseModel):
    """What a device says of itself, in the form of version 2."""

    model_config = ConfigDict(extra="ignore")

    local: LocalReport | None = None
    dependent: Dependent | None = None


def report(
    session: Session, actor: DeviceActor, uuid: str, said: StateReport
) -> dict[str, reports.DeviceReport]:
    """The report in the form of version 3; what is downloaded for others is stored.

    Raises:
        NotFoundError: the report is of another device.
    """
    if uuid != actor.uuid:
        raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")
    for app in (said.dependent or Dependent()).apps.values():
        _note_downloads(session, actor, app)
    if said.local is None:
        return {uuid: reports.DeviceReport()}
    fields = said.local.model_dump(exclude_unset=True, exclude={"apps", "is_on__commit"})
    made = reports.DeviceReport(**fields)
    if said.local.apps is not None or said.local.is_on__commit is not None:
        made.apps = _applications(session, actor, said.local)
    return {uuid: made}


def _applications(
    session: Session, actor: DeviceActor, said: LocalReport
) -> dict[str, reports.ApplicationReport]:
    """Of the device's own application; images are found by their ids."""
    application = applications.application_by_id(session, actor.application_id)
    if application is None:
        return {}
    own = (said.apps or {}).get(str(application.id), LocalApplication())
    # What is no id of ours is passed over: a device that is refused would send it for ever.
    numbers = {
        int(each): said
        for each, said in own.services.items()
        if each.isdecimal() and len(each) < _ID_DIGITS
    }
    commits: dict[str, dict[str, reports.ServiceReport]] = {}
    for image_id, location, commit in releases.images_by_ids(session, application.id, numbers):
        found = numbers[image_id]
        commits.setdefault(commit, {})[str(image_id)] = reports.ServiceReport(
            image=location, status=found.status, download_progress=_percent(found.download_progress)
        )
    made = reports.ApplicationReport(
        releases={
            commit: reports.ReleaseReport(services=services) for commit, services in commits.items()
        }
    )
    if said.is_on__commit is not None:
        made.release_uuid = said.is_on__commit
    return {application.uuid: made}


def _note_downloads(session: Session, actor: DeviceActor, said: DependentApplication) -> None:
    for location, image in said.images.items():
        # Only of what the device may pull: nobody's images are found by guessing.
        image_id = releases.image_of_application(session, actor.application_id, location)
        if image_id is not None:
            progress = _percent(image.downloadProgress)
            releases.report_download(session, actor.device_id, image_id, image.status, progress)


def _percent(value: int | None) -> int | None:
    return None if value is None else min(100, max(0, value))
