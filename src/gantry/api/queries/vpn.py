"""The VPN's servers, and the devices that are connected to them.

A device's `vpn_session` is `<boot>/<session>` of the connection that counts; `<boot>/` where a
server has only told that the device is there; null where nothing is known since a sweep. Rows are
held in the order of their ids, so that no two statements wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, cast, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import INET, insert
from sqlalchemy.orm import Session

from gantry.api.models import VPN_ADDRESSES, Application, Device, VpnServer
from gantry.api.queries.visibility import of_members

# So many rows change in one statement: reports of devices wait no longer than for these.
SLICE = 500
# A list and events may cross on their way: what happened so shortly before is not judged by it.
CROSSING = timedelta(seconds=20)

_CONNECTED = text("""
with said as (
    select * from unnest(
        cast(:uuids as text[]), cast(:sessions as text[]), cast(:ats as timestamptz[]),
        cast(:ended as timestamptz[])
    ) as said (uuid, session, at, ended)
),
found as (
    select device.id, said.session, said.at, said.ended
    from said join device on device.uuid = said.uuid
    where coalesce(device.vpn_session_at <= said.at, true)
        -- Servers tell again what they have, after the api was away.
        and (said.ended is not null or not device.is_connected_to_vpn
            or device.vpn_session is distinct from said.session)
    order by device.id for no key update of device
)
update device set
    vpn_server = :server,
    vpn_session = found.session,
    vpn_session_at = found.at,
    is_connected_to_vpn = found.ended is null,
    last_vpn_event = case
        when device.is_connected_to_vpn and found.ended is null then device.last_vpn_event
        else least(coalesce(found.ended, found.at), now())
    end
from found where device.id = found.id
returning device.id, device.is_connected_to_vpn
""")

_DISCONNECTED = text("""
with said as (
    select * from unnest(
        cast(:uuids as text[]), cast(:sessions as text[]), cast(:ats as timestamptz[])
    ) as said (uuid, session, at)
),
found as (
    select device.id, said.at
    from said join device on device.uuid = said.uuid
    where device.is_connected_to_vpn and device.vpn_server = :server
        and device.vpn_session in (said.session, :listed)
    order by device.id for no key update of device
)
update device set is_connected_to_vpn = false, last_vpn_event = least(found.at, now())
from found where device.id = found.id
""")

# A device that somebody is at has its turn the next time.
_LOST = """
with found as (
    select id from device where is_connected_to_vpn and {condition}
    order by id limit :limit for no key update skip locked
)
update device set
    is_connected_to_vpn = false, last_vpn_event = now(), vpn_session = null, vpn_session_at = null
from found where device.id = found.id
"""
_LOST_BY_BOOT = text(
    _LOST.format(
        condition="vpn_server = :server and not starts_with(coalesce(vpn_session, ''), :listed)"
    )
)
_LOST_BY_LIST = text(
    _LOST.format(
        condition="vpn_server = :server and uuid <> all (cast(:uuids as text[])) "
        "and coalesce(vpn_session_at < now() - cast(:crossing as interval), true)"
    )
)
_LOST_BY_SILENCE = text(
    _LOST.format(
        condition="not exists (select from vpn_server where vpn_server.name = device.vpn_server "
        "and vpn_server.heard_at >= now() - cast(:silence as interval))"
    )
)

_FOUND_BY_LIST = text("""
with found as (
    select id from device
    where uuid = any (cast(:uuids as text[])) and not is_connected_to_vpn
        and (vpn_session is null or last_vpn_event < now() - cast(:crossing as interval))
    order by id for no key update skip locked
)
update device set
    is_connected_to_vpn = true, last_vpn_event = now(),
    vpn_server = :server, vpn_session = :listed, vpn_session_at = null
from found where device.id = found.id
returning device.id
""")

_WAKE_ACTIONS = text("""
with due as (
    update device_action set next_try_at = now()
    where status = 'pending' and next_try_at > now() and device = any (cast(:ids as bigint[]))
)
select pg_notify('gantry_target', 'action:') where exists (
    select from device_action
    where status = 'pending' and device = any (cast(:ids as bigint[]))
)
""")

_HOLDER = text("""
select d.id, d.is_active, d.vpn_address, k.id, extract(epoch from k.expiry_date - now())
from api_key k join device d on d.actor = k.is_of__actor
where k.key_hash = :hash and k.role = 'device' and d.uuid = :uuid
    and (k.expiry_date is null or k.expiry_date > now())
""")

_ENDED = text("""
select said.name from unnest(cast(:names as text[])) as said (name)
where not exists (
    select from api_key where said.name = 'key:' || api_key.id
        and (api_key.expiry_date is null or api_key.expiry_date > now())
        and not exists (
            select from device
            where device.actor = api_key.is_of__actor and not device.is_active))
and not exists (
    select from "user" where said.name = 'user:' || "user".id || ':' || "user".session_epoch)
""")


@dataclass(frozen=True, slots=True)
class Login:
    """A device that logs in with a key of its own, which ends in `seconds`."""

    device_id: int
    is_active: bool
    address: str | None
    key_id: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Connection:
    """The last connection of a device in a batch of events; `ended`: when, if it is over again."""

    uuid: str
    session: str
    at: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class End:
    """A connection that is over, by its whole name."""

    uuid: str
    session: str
    at: datetime


def login(session: Session, uuid: str, key_hash: str) -> Login | None:
    """The device of this uuid and key, also one that is not active."""
    row = session.execute(_HOLDER, {"uuid": uuid, "hash": key_hash}).one_or_none()
    if row is None:
        return None
    return Login(row[0], row[1], row[2], row[3], None if row[4] is None else float(row[4]))


def next_address(session: Session, network: str) -> str:
    """The address that is next in `network` (its own address, such as 100.64.0.0)."""
    base = cast(literal(network), INET)
    address = func.host(base.op("+")(VPN_ADDRESSES.next_value()), type_=Text())
    return session.scalars(select(address)).one()


def give_address(session: Session, device_id: int, address: str) -> str:
    """The device's address: this one, unless it has another already.

    Raises:
        IntegrityError: it is another device's.
    """
    session.execute(
        update(Device)
        .where(Device.id == device_id, Device.vpn_address.is_(None))
        .values(vpn_address=address)
    )
    return session.scalars(select(Device.vpn_address).where(Device.id == device_id)).one() or ""


def hear(session: Session, server: str, boot: str) -> str | None:
    """A server has told of itself, in this run; the one that it was in before, if it is known."""
    before = session.scalar(select(VpnServer.boot).where(VpnServer.name == server))
    row = insert(VpnServer).values(name=server, boot=boot, heard_at=func.now())
    session.execute(
        row.on_conflict_do_update(
            index_elements=["name"], set_={"boot": boot, "heard_at": func.now()}
        )
    )
    return before


def hear_events(session: Session, server: str, boot: str) -> None:
    """A server has told of itself by events: which run that is, its heartbeat says."""
    row = insert(VpnServer).values(name=server, boot=boot, heard_at=func.now())
    session.execute(
        row.on_conflict_do_update(index_elements=["name"], set_={"heard_at": func.now()})
    )


def connect(session: Session, server: str, connections: Sequence[Connection]) -> list[int]:
    """Note connections, unless a later one of the device is known; who is there now."""
    if not connections:
        return []
    rows = session.execute(
        _CONNECTED,
        {
            "server": server,
            "uuids": [each.uuid for each in connections],
            "sessions": [each.session for each in connections],
            "ats": [each.at for each in connections],
            "ended": [each.ended for each in connections],
        },
    )
    return [device_id for device_id, is_connected in rows if is_connected]


def disconnect(session: Session, server: str, boot: str, ends: Sequence[End]) -> None:
    """Note ends of connections, where they are those that count."""
    if ends:
        session.execute(
            _DISCONNECTED,
            {
                "server": server,
                "listed": f"{boot}/",
                "uuids": [each.uuid for each in ends],
                "sessions": [each.session for each in ends],
                "ats": [each.at for each in ends],
            },
        )


def lose_other_boots(session: Session, server: str, boot: str) -> bool:
    """Connections of earlier runs are gone; whether there may be more of them."""
    return _lose(session, _LOST_BY_BOOT, {"server": server, "listed": f"{boot}/"})


def lose_others(session: Session, server: str, uuids: Sequence[str]) -> bool:
    """All but these devices are gone from the server; whether there may be more of them."""
    values = {"server": server, "uuids": list(uuids), "crossing": CROSSING}
    return _lose(session, _LOST_BY_LIST, values)


def lose_silent(session: Session, silence: timedelta) -> bool:
    """Devices of servers that were not heard of for so long are gone; whether there may be more."""
    return _lose(session, _LOST_BY_SILENCE, {"silence": silence})


def _lose(session: Session, statement: Any, values: dict[str, Any]) -> bool:
    result: Any = session.execute(statement, {**values, "limit": SLICE})
    return bool(result.rowcount == SLICE)


def find(session: Session, server: str, boot: str, uuids: Sequence[str]) -> list[int]:
    """These devices are connected to the server; those of which that is news."""
    values = {
        "server": server,
        "listed": f"{boot}/",
        "uuids": list(uuids),
        "crossing": CROSSING,
    }
    return list(session.scalars(_FOUND_BY_LIST, values))


def wake_actions(session: Session, device_ids: Sequence[int]) -> None:
    """What waits for these devices is due now."""
    if device_ids:
        session.execute(_WAKE_ACTIONS, {"ids": list(device_ids)})


def owned_by_prefix(session: Session, user_id: int, uuid: str) -> list[Device]:
    """Devices of this user's organizations whose uuid is this or begins so: two at most."""
    return list(
        session.scalars(
            select(Device)
            .join(Application, Application.id == Device.belongs_to__application)
            .where(
                Device.uuid.startswith(uuid, autoescape=True),
                of_members(Application.organization, user_id),
            )
            .order_by(Device.uuid != uuid, Device.id)
            .limit(2)
        )
    )


def ended(session: Session, names: Sequence[str]) -> list[str]:
    """Which of these credentials hold no more, or are of devices that are not active."""
    return list(session.scalars(_ENDED, {"names": list(names)}))
