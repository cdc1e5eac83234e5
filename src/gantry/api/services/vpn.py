"""What the VPN's servers ask and tell: who may connect, and who is connected.

A server tells of each connection and of its end, in order, and says again what it has: at each
start and once a minute. Events may come late, when the api was away, and those of two servers in
any order: a connection counts unless a later one is known, and the end of one that does not count
changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gantry.api.database import Database
from gantry.api.errors import ConflictError, ForbiddenError, NotFoundError, UnauthorizedError
from gantry.api.models import Device
from gantry.api.queries import devices, vpn
from gantry.api.queries.vpn import Connection, End
from gantry.api.services.secrets import hash_key

NETWORK = "100.64.0.0"
ADDRESS_TRIES = 16
# A server tells of itself every 10 s.
SILENCE = timedelta(seconds=60)
MAX_EVENTS = 500
MAX_LISTED = 100_000

ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
# Of a run, and of a connection in it.
Name = Annotated[str, StringConstraints(pattern=r"^[!-.0-~]{1,128}$")]
Uuid = Annotated[str, StringConstraints(max_length=64)]


class What(StrEnum):
    """What happened to a connection."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class Event(BaseModel):
    """A device has connected, or a connection has ended."""

    model_config = ConfigDict(extra="forbid")

    uuid: Uuid
    address: str | None = Field(None, max_length=64)
    event: What
    at: AwareDatetime
    session: Name


class Events(BaseModel):
    """What happened at a server since it was started, in order."""

    model_config = ConfigDict(extra="forbid")

    server: ServerName
    boot: Name
    events: Annotated[list[Event], Field(max_length=MAX_EVENTS)]


class Heartbeat(BaseModel):
    """A server is there; `connected`: the devices that it has, where it tells all of them."""

    model_config = ConfigDict(extra="forbid")

    boot: Name
    connected: Annotated[list[Uuid], Field(max_length=MAX_LISTED)] | None = None


class DeviceLogin(BaseModel):
    """A device wants to connect to a server."""

    model_config = ConfigDict(extra="forbid")

    uuid: Uuid
    key: Annotated[str, StringConstraints(max_length=512)]
    server: ServerName


@dataclass(frozen=True, slots=True)
class DeviceConsent:
    """It may, under this address, until `credential` ends: at the latest in `seconds`."""

    uuid: str
    device_id: int
    address: str
    credential: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """Where a device's port 80 is."""

    uuid: str
    address: str
    server: str


def authorize_device(database: Database, asked: DeviceLogin) -> DeviceConsent:
    """Whether a device may connect. Its address is given at the first time, and kept.

    Raises:
        UnauthorizedError: no such device, or not its key.
        ForbiddenError: the device is not active.
    """
    with database.statement() as session:
        found = vpn.login(session, asked.uuid, hash_key(asked.key))
    if found is None:
        raise UnauthorizedError("there is no device of this uuid with this key")
    if not found.is_active:
        raise ForbiddenError(f"device {asked.uuid[:7]} is not active")
    address = found.address or _give_address(database, found.device_id)
    credential = f"key:{found.key_id}"
    return DeviceConsent(asked.uuid, found.device_id, address, credential, found.seconds)


def _give_address(database: Database, device_id: int) -> str:
    for _ in range(ADDRESS_TRIES):
        try:
            with database.transaction() as session:
                return vpn.give_address(session, device_id, vpn.next_address(session, NETWORK))
        except IntegrityError:
            # All were given once, and the counter goes around: this one is in use still.
            continue
    raise ConflictError(
        f"no address of {NETWORK}/10 was free in {ADDRESS_TRIES} tries: remove devices that are "
        "gone"
    )


def note_events(database: Database, said: Events) -> None:
    """Note what happened at a server."""
    ends, connections = _folded(said.boot, said.events)
    with database.transaction() as session:
        vpn.hear_events(session, said.server, said.boot)
        vpn.disconnect(session, said.server, said.boot, ends)
        there = vpn.connect(session, said.server, connections)
        vpn.wake_actions(session, there)


def _folded(boot: str, events: Sequence[Event]) -> tuple[list[End], list[Connection]]:
    """The last connection of each device, with its end if that has come, and the ends of others."""
    ends: list[End] = []
    last: dict[str, Connection] = {}
    for each in events:
        session = f"{boot}/{each.session}"
        known = last.get(each.uuid)
        if each.event is What.CONNECTED:
            last[each.uuid] = Connection(each.uuid, session, each.at, None)
        elif known is not None and known.session == session:
            last[each.uuid] = Connection(each.uuid, session, known.at, each.at)
        elif known is None:
            ends.append(End(each.uuid, session, each.at))
    return ends, list(last.values())


def hear(database: Database, server: str, said: Heartbeat) -> None:
    """A server is there. Devices that it had before it was started anew, or has no more, are not
    connected; those that it has are."""
    with database.statement() as session:
        before = vpn.hear(session, server, said.boot)
    if before != said.boot:
        _while_more(database, lambda session: vpn.lose_other_boots(session, server, said.boot))
    if said.connected is None:
        return
    listed = said.connected
    _while_more(database, lambda session: vpn.lose_others(session, server, listed))
    for begin in range(0, len(listed), vpn.SLICE):
        with database.transaction() as session:
            part = listed[begin : begin + vpn.SLICE]
            vpn.wake_actions(session, vpn.find(session, server, said.boot, part))


def sweep(database: Database) -> None:
    """Devices of servers that have fallen silent are not connected."""
    _while_more(database, lambda session: vpn.lose_silent(session, SILENCE))


def _while_more(database: Database, work: Callable[[Session], bool]) -> None:
    is_more = True
    while is_more:
        with database.transaction() as session:
            is_more = work(session)


def ended(database: Database, names: Sequence[str]) -> list[str]:
    """Which of these credentials hold no more."""
    with database.statement() as session:
        return vpn.ended(session, names)


def public_url(session: Session, uuid: str) -> PublicUrl:
    """Where the public URL of a device leads.

    Raises:
        NotFoundError: no such device, or it has none.
        ConflictError: the device is not connected.
    """
    device = devices.device_by_uuid(session, uuid)
    if device is None or not device.is_web_accessible or not device.is_active:
        raise NotFoundError("there is no public URL of this name")
    address, server = connection(device)
    return PublicUrl(device.uuid, address, server)


def connection(device: Device) -> tuple[str, str]:
    """A device's address, and the server that it is connected to.

    Raises:
        ConflictError: it is not connected; since when.
    """
    if device.is_connected_to_vpn and device.vpn_address and device.vpn_server:
        return device.vpn_address, device.vpn_server
    raise ConflictError(not_connected(device))


def not_connected(device: Device) -> str:
    """That a device cannot be reached, for people."""
    name, since = f"device {device.uuid[:7]}", device.last_vpn_event
    if since is None:
        return f"{name} has never been connected to the VPN"
    return f"{name} is not connected to the VPN since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
