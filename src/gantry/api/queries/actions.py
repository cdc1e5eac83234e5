"""Actions on devices: taken by workers, ended, swept.

Workers of several processes take them side by side: a row that one holds the others pass over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from gantry.api.models import ActionStatus, Application, Device, DeviceAction
from gantry.api.models import OrganizationMembership as Membership

# The oldest of each device that is connected, while none of it is running: so they are carried out
# in order.
_TAKE = text("""
with due as (
    select a.id from device_action a join device d on d.id = a.device
    where a.status = 'pending' and a.expires_at > now() and a.next_try_at <= now()
        and d.is_connected_to_vpn and d.is_active
        and not exists (
            select from device_action b
            where b.device = a.device and b.id <> a.id
                and (b.status = 'running' or (b.status = 'pending' and b.id < a.id)))
    order by a.id limit :number for no key update of a skip locked
)
update device_action set
    status = 'running', worker = :worker, lease_expires_at = now() + cast(:lease as interval),
    started_at = now(), sent_at = null
from due where device_action.id = due.id
returning device_action.id
""")

# Of workers that are not there any more: what the device may have heard of is not done twice.
_ABANDONED = text("""
with found as (
    select id from device_action
    where status = 'running' and lease_expires_at < now() for no key update skip locked
)
update device_action set
    worker = null,
    status = case when sent_at is null then 'pending' else 'failed' end,
    ended_at = case when sent_at is null then null else now() end,
    result = case when sent_at is null then result else cast(:result as jsonb) end
from found where device_action.id = found.id
returning device_action.id, device_action.status
""")


@dataclass(frozen=True, slots=True)
class Taken:
    """An action that a worker has taken, and what it needs of it."""

    id: int
    action: str
    parameters: Mapping[str, Any]
    tries: int
    application_id: int
    device: Device
    # Whether whoever wants it may reach the device still.
    is_allowed: bool


def take(session: Session, worker: str, number: int, lease: timedelta) -> list[Taken]:
    """Take as many that are due, which are running then."""
    ids = list(session.scalars(_TAKE, {"worker": worker, "number": number, "lease": lease}))
    if not ids:
        return []
    allowed = (
        select(Membership.id)
        .where(
            Membership.user == DeviceAction.user,
            Membership.is_member_of__organization == Application.organization,
        )
        .exists()
    )
    rows = session.execute(
        select(DeviceAction, Device, allowed)
        .join(Device, Device.id == DeviceAction.device)
        .join(Application, Application.id == Device.belongs_to__application)
        .where(DeviceAction.id.in_(ids))
        .order_by(DeviceAction.id)
    )
    return [
        Taken(
            action.id,
            action.action,
            action.parameters,
            action.tries,
            device.belongs_to__application,
            device,
            is_allowed,
        )
        for action, device, is_allowed in rows
    ]


def sent(session: Session, action_id: int, worker: str) -> bool:
    """The device hears of it now; False: somebody else has taken it meanwhile."""
    found = session.execute(
        update(DeviceAction)
        .where(*_own(action_id, worker))
        .values(sent_at=func.now())
        .returning(DeviceAction.id)
    )
    return found.first() is not None


def end(
    session: Session,
    action_id: int,
    worker: str,
    status: ActionStatus,
    result: Mapping[str, Any],
) -> bool:
    """It is over; False: somebody else has taken it meanwhile."""
    found = session.execute(
        update(DeviceAction)
        .where(*_own(action_id, worker))
        .values(status=status.value, result=dict(result), ended_at=func.now(), worker=None)
        .returning(DeviceAction.id)
    )
    return found.first() is not None


def put_back(
    session: Session, action_id: int, worker: str, result: Mapping[str, Any], pause: timedelta
) -> None:
    """The device was not reached: it is tried again after a pause, or when the device comes."""
    session.execute(
        update(DeviceAction)
        .where(*_own(action_id, worker))
        .values(
            status=ActionStatus.PENDING.value,
            result=dict(result),
            tries=DeviceAction.tries + 1,
            next_try_at=func.now() + pause,
            worker=None,
        )
    )


def _own(action_id: int, worker: str) -> tuple[Any, ...]:
    return (
        DeviceAction.id == action_id,
        DeviceAction.worker == worker,
        DeviceAction.status == ActionStatus.RUNNING.value,
    )


def renew(session: Session, worker: str, ids: Sequence[int], lease: timedelta) -> None:
    """The worker is there still, and carries these out."""
    session.execute(
        update(DeviceAction)
        .where(
            DeviceAction.id.in_(ids),
            DeviceAction.worker == worker,
            DeviceAction.status == ActionStatus.RUNNING.value,
        )
        .values(lease_expires_at=func.now() + lease)
    )


def cancel(session: Session, ids: Sequence[int]) -> list[int]:
    """Those of these that were pending, and are cancelled now."""
    found = session.scalars(
        update(DeviceAction)
        .where(DeviceAction.id.in_(ids), DeviceAction.status == ActionStatus.PENDING.value)
        .values(status=ActionStatus.CANCELLED.value, ended_at=func.now())
        .returning(DeviceAction.id)
    )
    return list(found)


def statuses(session: Session, ids: Sequence[int]) -> dict[int, str]:
    """How far these are."""
    rows = session.execute(
        select(DeviceAction.id, DeviceAction.status).where(DeviceAction.id.in_(ids))
    )
    return {each.id: each.status for each in rows}


def waiting(session: Session, device_id: int) -> int:
    """How many wait for a device."""
    return session.scalars(
        select(func.count()).where(
            DeviceAction.device == device_id,
            DeviceAction.status.in_((ActionStatus.PENDING.value, ActionStatus.RUNNING.value)),
        )
    ).one()


def expire(session: Session) -> list[int]:
    """Those whose time is over."""
    found = (
        select(DeviceAction.id)
        .where(
            DeviceAction.status == ActionStatus.PENDING.value,
            DeviceAction.expires_at <= func.now(),
        )
        .with_for_update(skip_locked=True)
    )
    ended = session.scalars(
        update(DeviceAction)
        .where(DeviceAction.id.in_(found))
        .values(status=ActionStatus.EXPIRED.value, ended_at=func.now())
        .returning(DeviceAction.id)
        .execution_options(synchronize_session=False)
    )
    return list(ended)


def abandoned(session: Session, result: str) -> list[int]:
    """Those of workers that are gone, which are over with this result (JSON); others wait again."""
    rows = session.execute(_ABANDONED, {"result": result})
    return [action_id for action_id, status in rows if status == ActionStatus.FAILED.value]


def forget(session: Session, age: timedelta) -> None:
    """Drop those that have been over for so long."""
    session.execute(delete(DeviceAction).where(DeviceAction.ended_at < func.now() - age))
