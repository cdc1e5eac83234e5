"""Who changed what, and who reached which device: one entry for each row, in the transaction."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor
from gantry.api.models import Base
from gantry.api.queries import audit

# Values that nobody reads here: of passwords, keys, and variables, which often hold some.
_SECRETS = frozenset({"password", "value", "key", "code", "api_key", "api_secret"})
_LEFT_OUT = "(left out)"
# Longer texts are cut: what was there can be told without a whole note or list of issues.
_MAX_TEXT = 200


class Action(StrEnum):
    """What was done to a row."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    # Of a device, which none of these changes.
    OPEN_TUNNEL = "open tunnel"
    CLOSE_TUNNEL = "close tunnel"
    ACCEPT_KEY = "accept ssh key"
    ASK = "ask supervisor"


def note(
    session: Session,
    actor: Actor | None,
    action: Action,
    model: type[Base],
    ids: Sequence[int],
    changes: Mapping[str, Any] | None = None,
    part_of: str | None = None,
) -> None:
    """Note a change of rows; before they are gone, where they go.

    `actor` is None for the platform itself. `part_of` is a name that
    several entries have in common: those of a tunnel, or of a login.
    """
    if not ids:
        return
    values = {
        "actor": actor.actor_id if actor else None,
        "actor_name": name_of(actor),
        "action": action.value,
        "resource": model.__tablename__,
        "session": part_of,
        "changes": {name: _readable(name, value) for name, value in (changes or {}).items()},
    }
    audit.note(session, model, ids, values)


def name_of(actor: Actor | None) -> str:
    """Who that is, for people."""
    match actor:
        case UserActor():
            return f"user {actor.username}"
        case DeviceActor():
            return f"device {actor.uuid}"
        case ProvisioningActor():
            return f"provisioning key of application {actor.application_id}"
        case None:
            return "gantry"


def _readable(name: str, value: Any) -> Any:
    if name in _SECRETS and value is not None:
        return _LEFT_OUT
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…"
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:_MAX_TEXT]
