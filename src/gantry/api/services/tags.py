"""Tags of fleets, releases and devices: keys and values, which users write and read."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor, UserActor
from gantry.api.errors import BadRequestError, NotFoundError
from gantry.api.models import ApplicationTag, DeviceTag, ReleaseTag
from gantry.api.queries import records
from gantry.api.queries import tags as queries
from gantry.api.services import parents
from gantry.api.services.records import Body, Reference, Writer

MAX_KEY = 100

Value = Annotated[str, StringConstraints(max_length=1000)]
# As many as a supervisor has.
DeviceTags = Annotated[dict[str, Value], Field(max_length=200)]


class NewTag(Body):
    """A tag of something."""

    tag_key: str
    value: Value = ""


class NewApplicationTag(NewTag):
    """A tag of a fleet."""

    application: Reference


class NewDeviceTag(NewTag):
    """A tag of a device."""

    device: Reference


class NewReleaseTag(NewTag):
    """A tag of a release."""

    release: Reference


class ChangedTag(Body):
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


def set_by_device(session: Session, actor: DeviceActor, body: Mapping[str, DeviceTags]) -> None:
    """What a device says of itself in tags; other tags of it stay.

    Raises:
        BadRequestError: a key or a value that is none.
        NotFoundError: the tags are another device's.
    """
    for uuid, tags in body.items():
        if uuid != actor.uuid:
            raise NotFoundError(f"there is no device {uuid[:64]!r} for this key")
        for key, value in tags.items():
            check_key(key)
            _check_value(value)
        queries.set_of_device(session, actor.device_id, tags)


def _writer(model: type[Any], new: type[NewTag], parent: parents.Parent) -> Writer:
    def create(session: Session, actor: UserActor, body: Any) -> int:
        parent_id = getattr(body, parent.column)
        name = parent.found(session, actor, parent_id)
        check_key(body.tag_key)
        _check_value(body.value)
        taken = {parent.column: parent_id, "tag_key": body.tag_key}
        parents.refuse_second(session, model, taken, f"{name} has a tag {body.tag_key}")
        return records.add(session, model(**taken, value=body.value))

    def update(session: Session, _: UserActor, ids: Sequence[int], body: ChangedTag) -> None:
        _check_value(body.value)
        records.change(session, model, ids, {"value": body.value})

    def delete(session: Session, _: UserActor, ids: Sequence[int]) -> None:
        records.delete(session, model, ids)

    return Writer((new, create), (ChangedTag, update), delete)


WRITERS = {
    "application_tag": _writer(ApplicationTag, NewApplicationTag, parents.APPLICATION),
    "device_tag": _writer(DeviceTag, NewDeviceTag, parents.DEVICE),
    "release_tag": _writer(ReleaseTag, NewReleaseTag, parents.RELEASE),
}
