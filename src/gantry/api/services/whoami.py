"""Who one is."""

from typing import Any

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor


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
