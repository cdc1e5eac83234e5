"""What devices report of themselves."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor
from gantry.api.errors import NotFoundError
from gantry.api.models import Device
from gantry.api.queries import applications, devices, releases

# Reports are short texts and numbers; what is longer is cut rather than refused, because a
# device that is refused would send it for ever.
_TEXT = 255


def _short(value: object) -> object:
    return value[:_TEXT].replace("\0", "") if isinstance(value, str) else value


def _whole(value: object) -> object:
    return round(value) if isinstance(value, float) and abs(value) < 2**53 else value


Short = Annotated[str, BeforeValidator(_short)]
Whole = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**53), le=2**53)]


class ServiceReport(BaseModel):
    """One service of a release on the device."""

    model_config = ConfigDict(extra="ignore")

    image: str
    status: Short
    download_progress: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=100)] | None = None


class ReleaseReport(BaseModel):
    """One release on the device."""

    model_config = ConfigDict(extra="ignore")

    update_status: Short | None = None
    services: dict[str, ServiceReport] = {}


class ApplicationReport(BaseModel):
    """One application on the device; `release_uuid` is the commit that it runs."""

    model_config = ConfigDict(extra="ignore")

    release_uuid: str | None = None
    releases: dict[str, ReleaseReport] = {}


class Telemetry(BaseModel):
    """The device itself. Fields that are absent stay as they are."""

    model_config = ConfigDict(extra="ignore")

    status: Short | None = None
    os_version: Short | None = None
    os_variant: Short | None = None
    supervisor_version: Short | None = None
    ip_address: Short | None = None
    mac_address: Short | None = None
    provisioning_progress: Whole | None = None
    provisioning_state: Short | None = None
    cpu_usage: Whole | None = None
    cpu_temp: Whole | None = None
    cpu_id: Short | None = None
    is_undervolted: bool | None = None
    memory_usage: Whole | None = None
    memory_total: Whole | None = None
    storage_block_device: Short | None = None
    storage_usage: Whole | None = None
    storage_total: Whole | None = None


class DeviceReport(Telemetry):
    """The device, and what it has of its applications."""

    apps: dict[str, ApplicationReport] | None = None


def report(session: Session, actor: DeviceActor, body: dict[str, DeviceReport]) -> None:
    """Store what a device says of itself.

    Raises:
        NotFoundError: the report is of another device.
    """
    for uuid in body:
        if uuid != actor.uuid:
            raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")
    for said in body.values():
        device = devices.device_by_uuid(session, actor.uuid, lock=True)
        if device is None:
            raise NotFoundError(f"there is no device {actor.uuid!r} any more")
        for name, value in _changes(said).items():
            setattr(device, name, value)
        if said.apps is not None:
            _applications(session, device, said.apps)


def _changes(said: DeviceReport) -> dict[str, Any]:
    return said.model_dump(exclude_unset=True, exclude={"apps"})


def _applications(session: Session, device: Device, apps: dict[str, ApplicationReport]) -> None:
    application = applications.application_by_id(session, device.belongs_to__application)
    said = apps.get(application.uuid) if application else None
    if application is None or said is None:
        return
    if said.release_uuid is not None:
        running = releases.success_of_commit(session, application.id, said.release_uuid)
        device.is_running__release = running.id if running else None
    kept: list[int] = []
    progress: list[int] = []
    for commit, release in said.releases.items():
        kept += _services(session, device, application.id, commit, release)
        progress += [
            each.download_progress
            for each in release.services.values()
            if each.download_progress is not None and each.status == "Downloading"
        ]
    statuses = [each.update_status for each in said.releases.values() if each.update_status]
    # The old release is `done` while the new one is on its way: the latter is the news.
    device.update_status = next((each for each in statuses if each != "done"), None) or (
        statuses[-1] if statuses else device.update_status
    )
    device.download_progress = sum(progress) // len(progress) if progress else None
    releases.forget_installs(session, device.id, kept)


def _services(
    session: Session, device: Device, application_id: int, commit: str, said: ReleaseReport
) -> list[int]:
    """Note the services of one release; the ids of their images."""
    release = releases.success_of_commit(session, application_id, commit)
    if release is None:
        return []
    kept = []
    for service in said.services.values():
        image = releases.image_by_location(session, release.id, service.image)
        if image is not None:
            kept.append(image.id)
            releases.report_install(
                session, device.id, image.id, release.id, service.status, service.download_progress
            )
    return kept
