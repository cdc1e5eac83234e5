"""What devices report of themselves."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor
from gantry.api.errors import NotFoundError
from gantry.api.queries import reporting
from gantry.api.queries.reporting import Install, Reporter, Success
from gantry.api.services.vault import Vault

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
    # By it the api asks the supervisor. It is stored encrypted, and told to nobody.
    api_secret: Annotated[Short | None, Field(repr=False)] = None


class DeviceReport(Telemetry):
    """The device, and what it has of its applications."""

    apps: dict[str, ApplicationReport] | None = None


def report(
    session: Session,
    actor: DeviceActor,
    body: dict[str, DeviceReport],
    vault: Vault,
    lifetime: Callable[..., timedelta],
) -> None:
    """Store what a device says of itself. `lifetime` tells from the fleet's variables and the
    device's for how long it is online now.

    Raises:
        NotFoundError: the report is of another device.
    """
    for uuid in body:
        if uuid != actor.uuid:
            raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")
    for said in body.values():
        device = reporting.reporter(session, actor.uuid)
        if device is None:
            raise NotFoundError(f"there is no device {actor.uuid!r} any more")
        values = said.model_dump(exclude_unset=True, exclude={"apps"})
        if said.api_secret is not None:
            values["api_secret"] = vault.seal(said.api_secret.encode(), actor.uuid)
        mine = (said.apps or {}).get(device.application_uuid)
        if mine is not None:
            values |= _application(session, device, mine)
        reporting.write(session, device.id, values, lifetime(*device.variables))


def _application(session: Session, device: Reporter, said: ApplicationReport) -> dict[str, Any]:
    """Note what is installed; what else the report says of the device."""
    commits = {*said.releases, *([said.release_uuid] if said.release_uuid is not None else [])}
    known = reporting.successes(session, device.application_id, commits)
    installs = {
        each.image_id: each
        for commit, release in said.releases.items()
        if commit in known
        for each in _installs(known[commit], release)
    }
    reporting.report_installs(session, device.id, list(installs.values()))
    values = _update(said, device.update_status)
    if said.release_uuid is not None:
        running = known.get(said.release_uuid)
        values["is_running__release"] = running.id if running else None
    return values


def _installs(release: Success, said: ReleaseReport) -> Iterator[Install]:
    for service in said.services.values():
        # With or without its digest.
        image_id = release.images.get(service.image.partition("@")[0])
        if image_id is not None:
            yield Install(image_id, release.id, service.status, service.download_progress)


def _update(said: ApplicationReport, before: str | None) -> dict[str, Any]:
    """How far an update is."""
    progress = [
        service.download_progress
        for release in said.releases.values()
        for service in release.services.values()
        if service.download_progress is not None and service.status == "Downloading"
    ]
    statuses = [each.update_status for each in said.releases.values() if each.update_status]
    # The old release is `done` while the new one is on its way: the latter is the news.
    news = next((each for each in statuses if each != "done"), None)
    return {
        "update_status": news or (statuses[-1] if statuses else before),
        "download_progress": sum(progress) // len(progress) if progress else None,
    }
