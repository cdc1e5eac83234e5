"""What devices and releases take through the resource model."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import ConflictError
from gantry.api.models import Application, Device, Release
from gantry.api.queries import devices, records, releases
from gantry.api.services.applications import owned
from gantry.api.services.records import Body, Reference, Writer
from gantry.api.services.registration import check_device_name

Note = Annotated[str, StringConstraints(max_length=10_000)]


def newest_success(session: Session, application: Application) -> int | None:
    """The release that a fleet runs which tracks the latest."""
    return releases.newest_success(session, application.id)


class ChangedDevice(Body):
    """A device's name, note, pin and fleet."""

    device_name: str | None = None
    note: Note | None = None
    is_pinned_on__release: Reference | None = None
    # Version 6 of the family's model pins by this name.
    should_be_running__release: Reference | None = None
    belongs_to__application: Reference | None = None


def _update_devices(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedDevice
) -> None:
    sent = body.sent()
    # All rows in one statement: a rule that it breaks names them all.
    values: dict[str, object] = {"modified_at": records.now(session)}
    if body.device_name is not None:
        values["device_name"] = check_device_name(body.device_name)
    if "note" in sent:
        values["note"] = body.note
    if body.belongs_to__application is not None:
        application = owned(session, actor.user_id, body.belongs_to__application)
        values["belongs_to__application"] = application.id
        values["belongs_to__user"] = application.belongs_to__user
    for name in ("is_pinned_on__release", "should_be_running__release"):
        if name in sent:
            values["is_pinned_on__release"] = sent[name]
    # Held in one order, so that two such changes do not wait for each other.
    held = [device.id for device in devices.devices_by_ids(session, ids)]
    records.change(session, Device, held, values)
    if body.belongs_to__application is not None:
        releases.ensure_service_installs(session, application_id=body.belongs_to__application)


def _delete_devices(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete_with_actors(session, Device, ids)


class ChangedRelease(Body):
    """What people say of a release."""

    note: Note | None = None


def _update_releases(
    session: Session, _: UserActor, ids: Sequence[int], body: ChangedRelease
) -> None:
    records.change(session, Release, ids, body.sent())


def _delete_releases(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    for each in ids:
        release = releases.release_by_id(session, each, lock=True)
        if release is None:
            continue
        if release.status == "running":
            raise ConflictError(f"release {each} is being built: stop the build first")
        if releases.is_wanted(session, each):
            raise ConflictError(
                f"release {each} is what a fleet or a pinned device runs: set another one first"
            )
    releases.delete_releases(session, ids)


DEVICE = Writer(None, (ChangedDevice, _update_devices), _delete_devices)
RELEASE = Writer(None, (ChangedRelease, _update_releases), _delete_releases)
