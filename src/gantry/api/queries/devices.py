"""Devices: found, seen, swept."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import case, func, or_, select, text, update
from sqlalchemy.orm import Session

from gantry.api.models import Application, Device, HeartbeatState
from gantry.api.queries.visibility import of_members

# After a heartbeat is overdue a device is `timeout` for this long, then `offline` (the family's).
TIMEOUT_GRACE = timedelta(seconds=15)
# That a device is heard of is written no more often, while it stays online.
WRITE_EVERY = timedelta(seconds=10)


def device_by_uuid(session: Session, uuid: str, *, lock: bool = False) -> Device | None:
    """The device of this uuid; with `lock`, held until the transaction ends."""
    query = select(Device).where(Device.uuid == uuid)
    return session.scalar(query.with_for_update() if lock else query)


def owned_device(session: Session, user_id: int, uuid: str) -> Device | None:
    """The device of this uuid in an application of this user's organizations."""
    return session.scalar(
        select(Device)
        .join(Application, Application.id == Device.belongs_to__application)
        .where(Device.uuid == uuid, of_members(Application.organization, user_id))
    )


def lock_uuid(session: Session, uuid: str) -> None:
    """Until this transaction ends, nobody else registers this uuid."""
    session.execute(
        text("select pg_advisory_xact_lock(hashtextextended('device:' || :uuid, 0))"),
        {"uuid": uuid},
    )


def name_is_taken(session: Session, application_id: int, name: str) -> bool:
    """Whether a device of this application bears this name."""
    found = select(Device.id).where(
        Device.belongs_to__application == application_id, Device.device_name == name
    )
    return session.scalar(found.limit(1)) is not None


def seen(session: Session, device_id: int, lifetime: timedelta) -> None:
    """A device was heard of: it is online, and for `lifetime` from now unless more is heard."""
    recent = func.now() - WRITE_EVERY
    session.execute(
        update(Device)
        .where(
            Device.id == device_id,
            or_(
                Device.api_heartbeat_state != HeartbeatState.ONLINE,
                Device.heartbeat_expires_at.is_(None),
                Device.heartbeat_expires_at < recent + lifetime,
            ),
        )
        .values(heartbeat_expires_at=func.now() + lifetime, **online())
    )


def hold_stream(session: Session, device_id: int, lease: str, lifetime: timedelta) -> None:
    """This device has opened an event stream, served under `lease`; older ones count no more."""
    session.execute(
        update(Device)
        .where(Device.id == device_id)
        .values(event_stream=lease, event_stream_expires_at=func.now() + lifetime, **online())
    )


def renew_streams(
    session: Session, device_ids: Sequence[int], lease: str, lifetime: timedelta
) -> None:
    """The streams under `lease` are open still. One that another process took over is left, and
    so is a device that somebody is at: its turn comes again within its lifetime."""
    free = (
        select(Device.id)
        .where(Device.id == func.any(list(device_ids)))
        .order_by(Device.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    session.execute(
        update(Device)
        .where(
            Device.id.in_(free),
            or_(
                Device.event_stream == lease,
                Device.event_stream.is_(None),
                Device.event_stream_expires_at < func.now(),
            ),
        )
        .values(event_stream=lease, event_stream_expires_at=func.now() + lifetime, **online())
    )


def release_stream(session: Session, device_id: int, lease: str, grace: timedelta) -> None:
    """The event stream under `lease` is closed: the device has `grace` to be heard of again."""
    session.execute(
        update(Device)
        .where(Device.id == device_id, Device.event_stream == lease)
        .values(
            event_stream=None,
            event_stream_expires_at=None,
            heartbeat_expires_at=func.now() + grace,
        )
    )


def sweep(session: Session) -> int:
    """Devices that were not heard of in time become `timeout`, then `offline`; how many did."""
    expiry = func.greatest(
        func.coalesce(Device.heartbeat_expires_at, text("'-infinity'::timestamptz")),
        func.coalesce(Device.event_stream_expires_at, text("'-infinity'::timestamptz")),
    )
    late = expiry < func.now()
    gone = expiry < func.now() - TIMEOUT_GRACE
    result = session.execute(
        update(Device)
        .where(
            or_(
                (Device.api_heartbeat_state == HeartbeatState.ONLINE) & late,
                (Device.api_heartbeat_state == HeartbeatState.TIMEOUT) & gone,
            )
        )
        .values(
            api_heartbeat_state=case((gone, HeartbeatState.OFFLINE), else_=HeartbeatState.TIMEOUT),
            is_online=~gone,
            last_connectivity_event=case((gone, func.now()), else_=Device.last_connectivity_event),
        )
        .execution_options(synchronize_session=False)
        .returning(Device.id)
    )
    return len(result.all())


def online() -> dict[str, Any]:
    """The columns of a device that is heard of, but for how long that holds."""
    return {
        "is_online": True,
        "api_heartbeat_state": HeartbeatState.ONLINE,
        "last_connectivity_event": case(
            (Device.is_online, Device.last_connectivity_event), else_=func.now()
        ),
    }


def devices_by_ids(session: Session, ids: Sequence[int]) -> list[Device]:
    """These devices, held until the transaction ends, always in the same order."""
    query = select(Device).where(Device.id.in_(ids)).order_by(Device.id).with_for_update()
    return list(session.scalars(query))


def owned_device_by_id(session: Session, user_id: int, device_id: int) -> Device | None:
    """The device of this id in an application of this user's organizations."""
    return session.scalar(
        select(Device)
        .join(Application, Application.id == Device.belongs_to__application)
        .where(Device.id == device_id, of_members(Application.organization, user_id))
    )


def connected(session: Session, application_id: int) -> list[Device]:
    """The active devices of an application that are connected to the VPN."""
    return list(
        session.scalars(
            select(Device)
            .where(
                Device.belongs_to__application == application_id,
                Device.is_connected_to_vpn,
                Device.is_active,
            )
            .order_by(Device.id)
        )
    )
