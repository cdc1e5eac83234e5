"""A new device enters its fleet."""

import logging
import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from gantry.api.actors import ProvisioningActor
from gantry.api.errors import BadRequestError, ConflictError, NotFoundError
from gantry.api.models import ApiKey, Application, Device, DeviceType, KeyRole
from gantry.api.models.fleet import UUID_PATTERN
from gantry.api.queries import accounts, applications, devices, releases
from gantry.api.services import audit, names
from gantry.api.services.secrets import KEY_PATTERN, hash_key, new_key, new_uuid, same
from gantry.contracts.device_types import device_type

log = logging.getLogger(__name__)

_UUID = re.compile(UUID_PATTERN)
_NAME_TRIES = 20


class Registration(BaseModel):
    """What a device sends to register. Ids come as numbers or, from old images, as strings."""

    model_config = ConfigDict(extra="ignore")

    application: int | None = None
    user: int | None = None
    uuid: str | None = None
    device_type: str | None = None
    api_key: str | None = None
    device_name: str | None = None
    supervisor_version: str | None = None
    os_version: str | None = None
    os_variant: str | None = None
    mac_address: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A device's identity; `is_new` is false when it was there already."""

    id: int
    uuid: str
    api_key: str
    is_new: bool


def fits(device_type_slug: str, fleet_type_slug: str) -> bool:
    """Whether a device of the one type runs what is built for the other."""
    return device_type(device_type_slug).runs(device_type(fleet_type_slug))


def register(session: Session, actor: ProvisioningActor, asked: Registration) -> Registered:
    """Make the device, or find the one that this very request made before.

    A device that loses power after the request and before the answer sends it again: with the
    same uuid and key the answer is the same.

    Raises:
        BadRequestError: a malformed uuid, key or name, or a type that the fleet has no use for.
        NotFoundError: another application than the provisioning key's.
        ConflictError: the uuid is another device's (or this one's, with another key).
    """
    if asked.application is not None and asked.application != actor.application_id:
        raise NotFoundError(f"there is no application {asked.application} for this key")
    uuid = (asked.uuid or new_uuid()).lower()
    key = asked.api_key or new_key()
    if not _UUID.fullmatch(uuid):
        raise BadRequestError(
            f"the uuid {uuid[:80]!r} is not valid: 32 or 62 hexadecimal digits are"
        )
    if not KEY_PATTERN.fullmatch(key):
        raise BadRequestError("the api_key is not valid: use 32 to 255 letters, digits, - . and _")
    application = applications.application_by_id(session, actor.application_id)
    if application is None:
        raise NotFoundError("the application of this provisioning key is gone")
    devices.lock_uuid(session, uuid)
    known = devices.device_by_uuid(session, uuid)
    if known is not None:
        return _again(session, known, application, key)
    return _new(session, actor, application, asked, uuid, key)


def _again(session: Session, device: Device, application: Application, key: str) -> Registered:
    stored = accounts.valid_key(session, hash_key(key))
    if (
        stored is None
        or stored.is_of__actor != device.actor
        or not same(stored.key_hash, hash_key(key))
        or device.belongs_to__application != application.id
    ):
        raise ConflictError(
            f"the uuid {device.uuid} is registered already, with another key: register with a new "
            "uuid, or delete that device first"
        )
    return Registered(device.id, device.uuid, key, is_new=False)


def _new(
    session: Session,
    actor: ProvisioningActor,
    application: Application,
    asked: Registration,
    uuid: str,
    key: str,
) -> Registered:
    if accounts.valid_key(session, hash_key(key)) is not None:
        raise ConflictError("the api_key is in use already: generate a new one")
    kind = _device_type(session, application, asked.device_type)
    device = Device(
        actor=accounts.new_actor(session),
        uuid=uuid,
        device_name=_name(session, application, asked.device_name),
        belongs_to__user=application.belongs_to__user,
        belongs_to__application=application.id,
        is_of__device_type=kind.id,
        supervisor_version=asked.supervisor_version,
        os_version=asked.os_version,
        os_variant=asked.os_variant,
        mac_address=asked.mac_address,
    )
    session.add(device)
    session.add(
        ApiKey(
            key_hash=hash_key(key),
            role=KeyRole.DEVICE,
            is_of__actor=device.actor,
            name=f"device {uuid[:7]}",
        )
    )
    session.flush()
    audit.note(session, actor, audit.Action.CREATE, Device, [device.id], {"device_type": kind.slug})
    releases.ensure_service_installs(session, device_id=device.id)
    log.info("device registered: uuid=%s application=%s", uuid, application.slug)
    return Registered(device.id, uuid, key, is_new=True)


def _device_type(session: Session, application: Application, slug: str | None) -> DeviceType:
    own = applications.device_type_by_id(session, application.is_for__device_type)
    if own is None:  # the foreign key holds
        raise RuntimeError(f"application {application.id} is of no device type")
    if slug is None or slug == own.slug:
        return own
    found = applications.device_type_by_slug(session, slug)
    if found is None:
        raise BadRequestError(f"unknown device type {slug[:80]!r}")
    if not fits(found.slug, own.slug):
        raise BadRequestError(
            f"a {found.slug} does not run what {application.slug} builds for {own.slug}"
        )
    return found


def _name(session: Session, application: Application, wanted: str | None) -> str:
    if wanted and wanted.strip():
        return check_device_name(wanted)
    name = names.generate()
    for _ in range(_NAME_TRIES):
        if not devices.name_is_taken(session, application.id, name):
            return name
        name = names.generate()
    return f"{name}-{new_uuid()[:6]}"


def check_device_name(name: str) -> str:
    """The name without outer blanks.

    Raises:
        BadRequestError: it is empty, longer than 255 characters, or holds control characters.
    """
    name = name.strip()
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise BadRequestError(
            f"the device name {name[:60]!r} is not valid: 1 to 255 printable characters are"
        )
    return name
