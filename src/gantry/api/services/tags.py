"""Tags of devices: a key and a value, which their users write and read."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, ConflictError, NotFoundError
from gantry.api.models import DeviceTag
from gantry.api.queries import devices, records
from gantry.api.services.records import Body, Reference, Writer

MAX_KEY = 100

Value = Annotated[str, StringConstraints(max_length=1000)]


class NewDeviceTag(Body):
    """A tag of a device."""

    device: Reference
    tag_key: str
    value: Value = ""


class ChangedDeviceTag(Body):
    """A tag's new value; its key stays."""

    value: Value


def check_key(key: str) -> None:
    """Refuse a key that is none.

    Raises:
        BadRequestError: empty, too long, or with blanks or characters that cannot be printed.
    """
    if not key or len(key) > MAX_KEY or not key.isprintable() or any(map(str.isspace, key)):
        raise BadRequestError(
            f"the tag key {key[:MAX_KEY]!r} is not valid: use up to {MAX_KEY} characters and no "
            "blanks"
        )


def _check_value(value: str) -> None:
    if "\0" in value:
        raise BadRequestError("the tag's value holds a NUL character")


def _create(session: Session, actor: UserActor, body: NewDeviceTag) -> int:
    device = devices.owned_device_by_id(session, actor.user_id, body.device)
    if device is None:
        raise NotFoundError(f"there is no device {body.device}")
    check_key(body.tag_key)
    _check_value(body.value)
    if devices.has_tag(session, device.id, body.tag_key):
        raise ConflictError(f"device {device.uuid[:7]} has a tag {body.tag_key} already: change it")
    return records.add(session, DeviceTag(device=device.id, tag_key=body.tag_key, value=body.value))


def _update(session: Session, _: UserActor, ids: Sequence[int], body: ChangedDeviceTag) -> None:
    _check_value(body.value)
    records.change(session, DeviceTag, ids, {"value": body.value})


def _delete(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete(session, DeviceTag, ids)


DEVICE_TAG = Writer((NewDeviceTag, _create), (ChangedDeviceTag, _update), _delete)
