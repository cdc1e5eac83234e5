"""Actions on devices: wanted by people, cancelled, and over when their time is."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, ConflictError
from gantry.api.models import ActionKind, ActionStatus, Device, DeviceAction, Service
from gantry.api.queries import actions, records
from gantry.api.services import audit
from gantry.api.services.parents import DEVICE
from gantry.api.services.records import Body, Reference, Writer

LIFETIME = timedelta(days=7)
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=30)
# Of one device.
MAX_WAITING = 100
KEPT = timedelta(days=90)

SERVICE_ACTIONS = frozenset(
    {ActionKind.START_SERVICE, ActionKind.STOP_SERVICE, ActionKind.RESTART_SERVICE}
)
# Locks do not hold these up.
_UNFORCED = frozenset({ActionKind.START_SERVICE, ActionKind.IDENTIFY})
UNKNOWN = "the api ended while the device was asked: whether it was done is not known"


class Parameters(BaseModel):
    """Which service, and whether update locks do not count."""

    model_config = ConfigDict(extra="forbid")

    service: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    force: bool = False


class NewAction(Body):
    """What a device is to do, now or when it is connected the next time until `expires_at`."""

    device: Reference
    action: ActionKind
    parameters: Parameters = Parameters()
    expires_at: AwareDatetime | None = None


class ChangedAction(Body):
    """Cancelling is all that can be done to an action."""

    status: Literal["cancelled"]


def _create(session: Session, actor: UserActor, body: NewAction) -> int:
    name = DEVICE.found(session, actor, body.device)
    device = records.by_id(session, Device, body.device)
    now = records.now(session)
    expires = body.expires_at or now + LIFETIME
    if not SHORTEST <= expires - now <= LONGEST:
        raise BadRequestError(
            f"expires_at is {expires:%Y-%m-%d %H:%M:%S %Z}: an action is kept for 1 minute to "
            "30 days"
        )
    if not device.is_active:
        raise ConflictError(f"{name} is not active: activate it first")
    if actions.waiting(session, device.id) >= MAX_WAITING:
        raise ConflictError(f"{MAX_WAITING} actions wait for {name} already: cancel some")
    made = DeviceAction(
        device=device.id,
        user=actor.user_id,
        action=body.action.value,
        parameters=_parameters(session, device, body),
        expires_at=expires,
    )
    return records.add(session, made)


def _parameters(session: Session, device: Device, body: NewAction) -> dict[str, object]:
    asked, kind = body.parameters, body.action
    made: dict[str, object] = {}
    if kind in SERVICE_ACTIONS:
        if asked.service is None:
            raise BadRequestError(f"say which service to {kind.value}: parameters.service")
        known = {"application": device.belongs_to__application, "service_name": asked.service}
        if not records.exists(session, Service, known):
            raise BadRequestError(f"the device's fleet has no service {asked.service!r}")
        made["service"] = asked.service
    elif asked.service is not None:
        raise BadRequestError(f"{kind.value} is of the whole device: it takes no service")
    if asked.force:
        if kind in _UNFORCED:
            raise BadRequestError(f"{kind.value} heeds no lock: it takes no force")
        made["force"] = True
    return made


def _cancel(session: Session, _: UserActor, ids: Sequence[int], __: ChangedAction) -> None:
    others = set(ids) - set(actions.cancel(session, ids))
    if others:
        found = actions.statuses(session, sorted(others))
        listed = ", ".join(f"{each} is {status}" for each, status in sorted(found.items()))
        raise ConflictError(f"only a pending action can be cancelled: {listed}")


def sweep(session: Session) -> None:
    """End those whose time is over, and forget those that have been over for long."""
    note_end(session, actions.expire(session), ActionStatus.EXPIRED)
    actions.forget(session, KEPT)


def recover(session: Session) -> None:
    """Put back, or end, what workers have left that are not there any more."""
    result = {"status": None, "text": UNKNOWN}
    note_end(session, actions.abandoned(session, json.dumps(result)), ActionStatus.FAILED)


def note_end(session: Session, ids: Sequence[int], status: ActionStatus) -> None:
    """The audit log has how actions ended."""
    changes = {"status": status.value}
    audit.note(session, None, audit.Action.UPDATE, DeviceAction, ids, changes)


DEVICE_ACTION = Writer((NewAction, _create), (ChangedAction, _cancel))
