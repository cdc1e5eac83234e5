"""Devices as they poll and report."""

from datetime import timedelta

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor
from gantry.api.database import Database
from gantry.api.errors import NotFoundError
from gantry.api.models import Device
from gantry.api.queries import devices
from gantry.api.queries.targets import Heartbeat
from gantry.api.services import registration, reports, state_v2
from gantry.api.services.target_state import TargetState, current_target
from gantry.api.services.vault import Vault

POLL_VARIABLES = ("BALENA_SUPERVISOR_POLL_INTERVAL", "RESIN_SUPERVISOR_POLL_INTERVAL")
DEFAULT_POLL = timedelta(seconds=900)
# The family's bounds for a device's poll interval.
MIN_POLL, MAX_POLL = timedelta(seconds=600), timedelta(days=1)


def register(
    database: Database, actor: ProvisioningActor, asked: registration.Registration
) -> registration.Registered:
    """Register a device; see registration.register."""
    with database.transaction() as session:
        return registration.register(session, actor, asked)


def own(actor: DeviceActor, uuid: str) -> None:
    """Raise NotFoundError unless `uuid` is the device's own."""
    if uuid != actor.uuid:
        raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")


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


def target(
    database: Database, actor: Actor, uuid: str, if_none_match: str | None = None
) -> TargetState:
    """A device's target, of one moment; without its body when `if_none_match` names its ETag.

    When the device itself asks, it was heard of.

    Raises:
        NotFoundError: no such device, or not for this actor.
    """
    if not (isinstance(actor, DeviceActor) and actor.uuid == uuid):
        with database.statement() as session:
            visible(session, actor, uuid)
    found = current_target(database, uuid, if_none_match)
    if found is None:
        raise NotFoundError(f"there is no device {uuid[:64]!r} any more")
    if isinstance(actor, DeviceActor):
        lifetime = poll_lifetime(*found.inputs.variables)
        if is_news(found.heartbeat, lifetime):
            with database.statement() as session:
                devices.seen(session, found.inputs.device_id, lifetime)
    return TargetState(found.body, found.etag)


def is_news(heartbeat: Heartbeat, lifetime: timedelta) -> bool:
    """Whether that a device was heard of now is worth a write: polls are many."""
    if not heartbeat.is_online or heartbeat.expires_at is None:
        return True
    return heartbeat.expires_at < heartbeat.now + lifetime - devices.WRITE_EVERY


def report(
    database: Database, vault: Vault, actor: DeviceActor, body: dict[str, reports.DeviceReport]
) -> None:
    """Store a device's report; it was heard of."""
    with database.transaction() as session:
        reports.report(session, actor, body, vault, poll_lifetime)


def report_v2(
    database: Database,
    vault: Vault,
    actor: DeviceActor,
    uuid: str,
    body: state_v2.StateReport,
) -> None:
    """As `report`, in the form of version 2."""
    with database.transaction() as session:
        said = state_v2.report(session, actor, uuid, body)
        reports.report(session, actor, said, vault, poll_lifetime)


def poll_lifetime(*levels: dict[str, str]) -> timedelta:
    """How long one poll keeps a device online: its poll interval and a half (the family's rule).

    `levels` are the fleet's variables and the device's; the later go first.
    """
    variables = {name: value for level in levels for name, value in level.items()}
    interval = DEFAULT_POLL
    for name in POLL_VARIABLES:
        value = variables.get(name, "")
        if value.isdecimal() and len(value) < 12:
            interval = timedelta(milliseconds=int(value))
    return min(max(interval, MIN_POLL), MAX_POLL) * 1.5
