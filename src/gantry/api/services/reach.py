"""Reaching devices: which person may, and what the audit log keeps of it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor, UserActor
from gantry.api.errors import ForbiddenError, NotFoundError
from gantry.api.models import Device, PublicKey, User
from gantry.api.queries import accounts, records, vpn
from gantry.api.queries import audit as audit_queries
from gantry.api.services import audit, ports
from gantry.api.services.sessions import Holder, user_actor
from gantry.api.services.vpn import Name, connection

ONE_LOGIN = timedelta(seconds=60)
# Fewer digits would be guesses.
Prefix = Annotated[str, StringConstraints(pattern="^[0-9a-f]{7,62}$")]
Bytes = Annotated[int, Field(ge=0, le=2**53)]


class TunnelRequest(BaseModel):
    """Somebody wants to reach a port of a device; `session` names the tunnel, and no other."""

    model_config = ConfigDict(extra="forbid")

    uuid: Prefix
    port: Annotated[int, Field(ge=1, le=65535)]
    session: Name
    credential: str | None = None


class TunnelEnd(BaseModel):
    """A tunnel has ended; bytes from and to the person."""

    model_config = ConfigDict(extra="forbid")

    session: Name
    uuid: str = Field(max_length=64)
    bytes_in: Bytes
    bytes_out: Bytes
    seconds: Annotated[float, Field(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class TunnelConsent:
    """They may, until `credential` ends: at the latest in `seconds`."""

    uuid: str
    device_id: int
    user: str
    address: str
    server: str
    credential: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class AcceptedKey:
    """An SSH key that opens the device now, as a line of authorized_keys, and whose it is."""

    user: str
    line: str


def person(holder: Holder) -> UserActor:
    """The person who holds a credential.

    Raises:
        ForbiddenError: a device or a provisioning key does.
    """
    if not isinstance(holder.actor, UserActor):
        raise ForbiddenError("only people reach devices: log in, or use a user's API key")
    return holder.actor


def reachable(session: Session, user: UserActor, uuid: str) -> Device:
    """The device of this uuid, or of this beginning of one, that the person may reach.

    Raises:
        NotFoundError: no such device, several, or not theirs.
        ForbiddenError: it is not active.
    """
    found = vpn.owned_by_prefix(session, user.user_id, uuid)
    if not found:
        raise NotFoundError(f"there is no device {uuid}")
    if len(found) > 1 and found[0].uuid != uuid:
        raise NotFoundError(f"several devices begin with {uuid}: give more of the uuid")
    if not found[0].is_active:
        raise ForbiddenError(f"device {uuid[:7]} is not active: activate it first")
    return found[0]


def open_tunnel(session: Session, holder: Holder, asked: TunnelRequest) -> TunnelConsent:
    """Let a person reach a port of a device; the audit log has it.

    Raises:
        ForbiddenError, NotFoundError: as `person` and `reachable`; or the port is not for them.
        ConflictError: the device is not connected.
    """
    user = person(holder)
    device = reachable(session, user, asked.uuid)
    ports.check(session, user.user_id, device, asked.port)
    address, server = connection(device)
    changes = {"port": asked.port, "session": asked.session}
    action = audit.Action.OPEN_TUNNEL
    audit.note(session, user, action, Device, [device.id], changes, part_of=asked.session)
    seconds = None
    if holder.until is not None:
        seconds = (holder.until - records.now(session)).total_seconds()
    return TunnelConsent(
        device.uuid, device.id, user.username, address, server, holder.credential, seconds
    )


def end_tunnel(session: Session, said: TunnelEnd) -> None:
    """Note that a tunnel has ended, once, under the name of who opened it."""
    changes = said.model_dump(include={"session", "bytes_in", "bytes_out", "seconds"})
    audit_queries.note_end(
        session,
        said.session,
        audit.Action.OPEN_TUNNEL.value,
        audit.Action.CLOSE_TUNNEL.value,
        changes,
    )


def accept_key(session: Session, device: DeviceActor, fingerprint: str) -> AcceptedKey:
    """The SSH key of this fingerprint, if its user may reach the device; the audit log has it.

    A server asks twice for one login: whether the key would do, and when it is proven. That is one
    entry.

    Raises:
        NotFoundError: nobody's who may.
    """
    key, user = _who_logs_in(session, device, fingerprint)
    login = f"ssh:{device.device_id}:{key.id}"
    if not audit_queries.is_noted(session, login, ONE_LOGIN):
        changes = {"fingerprint": key.fingerprint, "title": key.title}
        action, ids = audit.Action.ACCEPT_KEY, [device.device_id]
        audit.note(session, user_actor(user), action, Device, ids, changes, part_of=login)
    return AcceptedKey(user.username, key.public_key)


def _who_logs_in(session: Session, device: DeviceActor, fingerprint: str) -> tuple[PublicKey, User]:
    """Of the members who have this key the first who reaches the device's SSH."""
    row = records.by_id(session, Device, device.device_id)
    for key, user in accounts.public_keys_of_members(session, device.application_id, fingerprint):
        allowed = ports.listed(session, user.id, row)
        if allowed is None or ports.holds(allowed, ports.SSH_PORT):
            return key, user
    raise NotFoundError("there is no key of this fingerprint that opens this device")
