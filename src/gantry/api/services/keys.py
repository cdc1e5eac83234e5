"""New API keys: of a user, a device, or an application that devices register in."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, NotFoundError
from gantry.api.models import ApiKey, KeyRole
from gantry.api.queries import devices, records
from gantry.api.services import audit
from gantry.api.services.applications import owned
from gantry.api.services.secrets import hash_key, new_key

Line = Annotated[str, StringConstraints(max_length=255)]


class ActorType(StrEnum):
    """Whom a key acts for, in the family's words."""

    USER = "user"
    DEVICE = "device"
    APPLICATION = "application"


# The one role that a key of each kind of actor has (the rule `key_fits_actor`), and its name.
ROLES = {
    ActorType.USER: (KeyRole.USER, "named-user-api-key"),
    ActorType.DEVICE: (KeyRole.DEVICE, "device-api-key"),
    ActorType.APPLICATION: (KeyRole.PROVISIONING, "provisioning-api-key"),
}


class KeyRequest(BaseModel):
    """What a new key is called, and until when it holds."""

    model_config = ConfigDict(extra="ignore")

    name: Line | None = None
    description: Line | None = None
    expiryDate: datetime | None = None  # noqa: N815 - the wire's name


class ActorKeyRequest(KeyRequest):
    """A new key of any kind."""

    actorType: ActorType  # noqa: N815
    actorTypeId: int  # noqa: N815
    roles: list[str] | None = None


def for_actor(session: Session, user: UserActor, asked: ActorKeyRequest) -> str:
    """A new key for what `actorType` and `actorTypeId` name. It is shown this once.

    Raises:
        BadRequestError: another role than the one that such a key has.
        NotFoundError: no such user, device or application, or another user's.
    """
    _, role = ROLES[asked.actorType]
    if asked.roles not in (None, [role]):
        raise BadRequestError(f"a key of this kind of actor has one role: {role}")
    match asked.actorType:
        case ActorType.USER:
            if asked.actorTypeId != user.user_id:
                raise NotFoundError(f"there is no user {asked.actorTypeId}")
            actor = user.actor_id
        case ActorType.DEVICE:
            device = devices.owned_device_by_id(session, user.user_id, asked.actorTypeId)
            if device is None:
                raise NotFoundError(f"there is no device {asked.actorTypeId}")
            actor = device.actor
        case ActorType.APPLICATION:
            actor = owned(session, user.user_id, asked.actorTypeId).actor
    return new(session, user, ROLES[asked.actorType][0], actor, asked)


def new(session: Session, by: UserActor, role: KeyRole, actor_id: int, asked: KeyRequest) -> str:
    """A new key of this role, made by this user. It is shown this once."""
    key = new_key()
    row = ApiKey(
        key_hash=hash_key(key),
        role=role,
        is_of__actor=actor_id,
        name=asked.name,
        description=asked.description,
        expiry_date=asked.expiryDate,
    )
    changes = {"role": role.value, "name": asked.name, "expiry_date": asked.expiryDate}
    audit.note(session, by, audit.Action.CREATE, ApiKey, [records.add(session, row)], changes)
    return key
