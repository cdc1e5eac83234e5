"""How many there are."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gantry.api.models import ActionStatus, Application, Device, DeviceAction


def devices(session: Session) -> dict[tuple[str, ...], int]:
    """Devices by the state of their heartbeat and the class of their application."""
    found = session.execute(
        select(Device.api_heartbeat_state, Application.is_of__class, func.count())
        .join(Application, Application.id == Device.belongs_to__application)
        .group_by(Device.api_heartbeat_state, Application.is_of__class)
    )
    return {(state, kind): number for state, kind, number in found}


def connected(session: Session) -> dict[tuple[str, ...], int]:
    """Devices that are connected to the VPN, by its server."""
    found = session.execute(
        select(Device.vpn_server, func.count())
        .where(Device.is_connected_to_vpn)
        .group_by(Device.vpn_server)
    )
    return {(server or "",): number for server, number in found}


def actions(session: Session) -> dict[tuple[str, ...], int]:
    """Actions that are not over, by their status."""
    going_on = (ActionStatus.PENDING.value, ActionStatus.RUNNING.value)
    found = session.execute(
        select(DeviceAction.status, func.count())
        .where(DeviceAction.status.in_(going_on))
        .group_by(DeviceAction.status)
    )
    return {**{(each,): 0 for each in going_on}, **{(status,): n for status, n in found}}
