"""Devices as they poll and report."""

from datetime import timedelta

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, UserActor
from gantry.api.database import Database
from gantry.api.errors import NotFoundError
from gantry.api.models import Device
from gantry.api.queries import applications, devices
from gantry.api.services import reports
from gantry.api.services.target_state import TargetState, target_state

POLL_VARIABLES = ("BALENA_SUPERVISOR_POLL_INTERVAL", "RESIN_SUPERVISOR_POLL_INTERVAL")
DEFAULT_POLL = timedelta(seconds=900)
# The family's bounds for a device's poll interval.
MIN_POLL, MAX_POLL = timedelta(seconds=600), timedelta(days=1)


def own(database: Database, actor: DeviceActor, uuid: str) -> None:
    """Raise NotFoundError unless `uuid` is the device's own."""
    if uuid != actor.uuid:
        raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")
    with database.transaction() as session:
        if devices.device_by_uuid(session, uuid) is None:
            raise NotFoundError(f"there is no device {uuid[:64]!r} any more")


def visible(session: Session, actor: Actor, uuid: str) -> Device:
    """A device that `actor` may see.

    Raises:
        NotFoundError: no such device, or not for this actor.
    """
    found: Device | None = None
    match actor:
        case DeviceActor() if actor.uuid == uuid:
            found = devices.device_by_uuid(session, uuid)
        case UserActor():
            found = devices.owned_device(session, actor.user_id, uuid)
    if found is None:
        raise NotFoundError(f"there is no device {uuid[:64]!r}")
    return found


def target(database: Database, actor: Actor, uuid: str) -> TargetState:
    """A device's target, of one moment. When the device itself asks, it was heard of."""
    with database.snapshot() as session:
        device = visible(session, actor, uuid)
        state = target_state(session, device)
        lifetime = poll_lifetime(session, device)
        device_id = device.id
    if isinstance(actor, DeviceActor):
        with database.transaction() as session:
            devices.seen(session, device_id, lifetime)
    return state


def report(database: Database, actor: DeviceActor, body: dict[str, reports.DeviceReport]) -> None:
    """Store a device's report; it was heard of."""
    with database.transaction() as session:
        reports.report(session, actor, body)
        device = devices.device_by_uuid(session, actor.uuid)
        if device is not None:
            session.flush()
            devices.seen(session, device.id, poll_lifetime(session, device))


def poll_lifetime(session: Session, device: Device) -> timedelta:
    """How long one poll keeps a device online: its poll interval and a half (the family's rule)."""
    variables = {
        **applications.application_variables(session, device.belongs_to__application),
        **applications.device_variables(session, device.id),
    }
    interval = DEFAULT_POLL
    for name in POLL_VARIABLES:
        value = variables.get(name, "")
        if value.isdecimal() and len(value) < 12:
            interval = timedelta(milliseconds=int(value))
    return min(max(interval, MIN_POLL), MAX_POLL) * 1.5
