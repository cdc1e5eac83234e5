"""How many there are."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gantry.api.models import ActionStatus, Application, Device, DeviceAction
from gantry.api.queries import registry
from gantry.contracts.registry_space import RunKind, RunStatus


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


def registry_bytes(session: Session) -> dict[tuple[str, ...], int]:
    """What the registry's blobs take, as the last run found it: all, and what nobody needs."""
    last = registry.last_of(session, tuple(RunKind), RunStatus.DONE)
    report = (last.report if last else None) or {}
    if "size" not in report:
        return {}
    return {("all",): report["size"], ("not needed",): report["frees"] + report["waits"]}


def registry_collected(session: Session) -> dict[tuple[str, ...], int]:
    """When the registry was collected last, in seconds since 1970."""
    last = registry.last_of(session, (RunKind.COLLECT,), RunStatus.DONE)
    return {(): int(last.ended_at.timestamp())} if last and last.ended_at else {}
