"""What devices and releases take through the resource model."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor, UserActor
from gantry.api.errors import ConflictError, ForbiddenError
from gantry.api.models import Application, Device, Release
from gantry.api.queries import applications, devices, records, releases
from gantry.api.services import ports, versions
from gantry.api.services.applications import owned
from gantry.api.services.records import Body, Reference, Writer
from gantry.api.services.registration import check_device_name

Note = Annotated[str, StringConstraints(max_length=10_000)]
Coordinate = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    StringConstraints(pattern=r"^(-?[0-9]{1,3}([.][0-9]{1,20})?)?$"),
]
Semver = Annotated[
    str, StringConstraints(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$")
]


class ChangedDevice(Body):
    """A device's name, note, pins, fleet and place."""

    device_name: str | None = None
    note: Note | None = None
    is_active: bool | None = None
    is_web_accessible: bool | None = None
    reachable_ports: ports.Ports | None = None
    is_accessible_by_support_until__date: datetime | None = None
    is_locked_until__date: datetime | None = None
    # Degrees as texts; empty or null for where the device itself says it is.
    custom_latitude: Coordinate | None = None
    custom_longitude: Coordinate | None = None
    should_be_managed_by__release: Reference | None = None
    should_be_operated_by__release: Reference | None = None
    is_pinned_on__release: Reference | None = None
    # Version 6 of the family's model pins by this name.
    should_be_running__release: Reference | None = None
    belongs_to__application: Reference | None = None


_NULLABLE = frozenset(
    {
        "note",
        "is_accessible_by_support_until__date",
        "is_locked_until__date",
        "custom_latitude",
        "custom_longitude",
        "reachable_ports",
        "should_be_managed_by__release",
        "should_be_operated_by__release",
    }
)
_FLAGS = frozenset({"is_active", "is_web_accessible"})


def _update_devices(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedDevice
) -> None:
    sent = body.sent()
    # All rows in one statement: a rule that it breaks names them all.
    values: dict[str, object] = {"modified_at": records.now(session)}
    if body.device_name is not None:
        values["device_name"] = check_device_name(body.device_name)
    values.update({name: sent[name] for name in sent.keys() & _NULLABLE})
    values.update({name: sent[name] for name in sent.keys() & _FLAGS if sent[name] is not None})
    if body.belongs_to__application is not None:
        application = owned(session, actor.user_id, body.belongs_to__application)
        values["belongs_to__application"] = application.id
        values["belongs_to__user"] = actor.user_id
    for name in ("is_pinned_on__release", "should_be_running__release"):
        if name in sent:
            values["is_pinned_on__release"] = sent[name]
    # Held in one order, so that two such changes do not wait for each other.
    held = devices.devices_by_ids(session, ids)
    _check_ports(session, actor, held, body)
    records.change(session, Device, [device.id for device in held], values)
    if body.belongs_to__application is not None:
        releases.ensure_service_installs(session, application_id=body.belongs_to__application)


def _check_ports(
    session: Session, actor: UserActor, held: Sequence[Device], body: ChangedDevice
) -> None:
    """What decides who reaches which port is for administrators, where ports are not for all."""
    for device in held:
        application = records.by_id(session, Application, device.belongs_to__application)
        if "reachable_ports" in body.sent():
            ports.check_may_say(session, actor.user_id, application)
        if body.is_web_accessible:
            ports.check(session, actor.user_id, device, ports.WEB_PORT)
        if (
            body.belongs_to__application is not None
            and ports.listed(session, actor.user_id, device) is not None
        ):
            raise ForbiddenError(
                f"device {device.uuid[:7]} has ports that are for administrators alone: one of "
                "them moves it to another application"
            )


class PinnedDevice(Body):
    """What a device says of itself here: which release it is to stay at (preloading)."""

    is_pinned_on__release: Reference | None = None
    # Version 6 of the family's model pins by this name.
    should_be_running__release: Reference | None = None


def _pin_device(
    session: Session, actor: DeviceActor, ids: Sequence[int], body: PinnedDevice
) -> None:
    """A device sees no row but its own. That the release is one of its fleet, and finished, is a
    rule of the database."""
    values: dict[str, object] = {"modified_at": records.now(session)}
    for wanted in body.sent().values():
        values["is_pinned_on__release"] = wanted
    own = [each.id for each in devices.devices_by_ids(session, ids) if each.id == actor.device_id]
    records.change(session, Device, own, values)


def _delete_devices(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete_with_actors(session, Device, ids)


class ChangedRelease(Body):
    """What people say of a release: of a draft, that it is final; of any, that it is bad."""

    note: Note | None = None
    known_issue_list: Note | None = None
    phase: Literal["next", "current", "sunset", "end-of-life"] | None = None
    semver: Semver | None = None
    is_final: bool | None = None
    is_invalidated: bool | None = None
    invalidation_reason: Note | None = None


_RELEASE_NULLABLE = frozenset({"note", "known_issue_list", "phase", "invalidation_reason"})


def _update_releases(
    session: Session, _: UserActor, ids: Sequence[int], body: ChangedRelease
) -> None:
    sent = body.sent()
    values = {name: sent[name] for name in sent.keys() & _RELEASE_NULLABLE}
    records.change(session, Release, ids, values)
    for each in ids:
        found = releases.release_by_id(session, each)
        if found is None:
            continue
        # The application first, as everywhere.
        application = applications.application_by_id(
            session, found.belongs_to__application, lock=True
        )
        release = releases.release_by_id(session, each, lock=True)
        if application is not None and release is not None:
            session.refresh(release)
            _update_release(session, application, release, body)


def _update_release(
    session: Session, application: Application, release: Release, body: ChangedRelease
) -> None:
    if body.is_final is False and release.is_final:
        raise ConflictError(f"release {release.id} is final: it does not become a draft again")
    if body.semver is not None:
        versions.rename(session, application, release, body.semver)
    if body.is_invalidated is not None:
        is_invalidated = body.is_invalidated
        versions.set_invalidated(session, application, release, is_invalidated=is_invalidated)
    if body.is_final:
        versions.finalize(session, application, release)
    session.flush()


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


DEVICE = Writer(
    None, (ChangedDevice, _update_devices), _delete_devices, (PinnedDevice, _pin_device)
)
RELEASE = Writer(None, (ChangedRelease, _update_releases), _delete_releases)
