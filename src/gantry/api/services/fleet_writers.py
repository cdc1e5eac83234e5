"""What devices and releases take through the resource model."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, ConflictError
from gantry.api.models import Application, Device, Release
from gantry.api.queries import applications, devices, records, releases
from gantry.api.services.applications import owned
from gantry.api.services.records import Body, Reference, Writer
from gantry.api.services.registration import check_device_name, fits

Note = Annotated[str, StringConstraints(max_length=10_000)]


def wanted_release(
    session: Session, application: Application, release_id: int | None
) -> int | None:
    """A release that this fleet's devices can run, or none.

    Raises:
        BadRequestError: another fleet's release, or one that is no success.
    """
    if release_id is None:
        return None
    release = releases.release_by_id(session, release_id)
    if release is None or release.belongs_to__application != application.id:
        raise BadRequestError(f"{application.slug} has no release {release_id}")
    if release.status != "success":
        raise BadRequestError(
            f"release {release_id} of {application.slug} is {release.status}: only a "
            "success can run"
        )
    return release.id


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
    for device in devices.devices_by_ids(session, ids):
        if body.device_name is not None:
            device.device_name = check_device_name(body.device_name)
        if "note" in sent:
            device.note = body.note
        if body.belongs_to__application is not None:
            _move(session, actor, device, body.belongs_to__application)
        for name in ("is_pinned_on__release", "should_be_running__release"):
            if name in sent:
                application = owned(session, actor.user_id, device.belongs_to__application)
                device.is_pinned_on__release = wanted_release(session, application, sent[name])
        device.modified_at = records.now(session)
        session.flush()


def _move(session: Session, actor: UserActor, device: Device, application_id: int) -> None:
    """Into another fleet: pins and what it ran there do not come with it."""
    application = owned(session, actor.user_id, application_id)
    if application.id == device.belongs_to__application:
        return
    own = applications.device_type_by_id(session, device.is_of__device_type)
    wanted = applications.device_type_by_id(session, application.is_for__device_type)
    if own is None or wanted is None or not fits(own.slug, wanted.slug):
        raise BadRequestError(
            f"device {device.uuid[:7]} does not run what {application.slug} builds"
        )
    device.is_pinned_on__release = None
    device.is_running__release = None
    device.belongs_to__application = application.id
    device.belongs_to__user = application.belongs_to__user
    session.flush()
    releases.forget_service_installs(session, device.id)
    releases.ensure_service_installs(session, device_id=device.id)


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
