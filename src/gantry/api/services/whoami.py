"""Who one is."""

from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor
from gantry.api.errors import UnauthorizedError
from gantry.api.queries import accounts
from gantry.api.services.sessions import Sessions


def describe(actor: Actor) -> dict[str, Any]:
    """An actor as `/actor/v1/whoami` tells it."""
    match actor:
        case UserActor():
            return {
                "id": actor.actor_id,
                "actorType": "user",
                "actorTypeId": actor.user_id,
                "username": actor.username,
                "email": actor.email,
            }
        case DeviceActor():
            return {
                "id": actor.actor_id,
                "actorType": "device",
                "actorTypeId": actor.device_id,
                "uuid": actor.uuid,
            }
        case ProvisioningActor():
            return {
                "id": actor.actor_id,
                "actorType": "application",
                "actorTypeId": actor.application_id,
            }


def fresh_token(session: Session, sessions: Sessions, user: UserActor) -> str:
    """A session token that holds for its full time from now."""
    found = accounts.user_by_id(session, user.user_id)
    if found is None:
        raise UnauthorizedError("this account is gone")
    return sessions.token(found)
