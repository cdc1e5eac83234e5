"""Requests to the supervisors of devices. No tunnel leads to them yet: this says so."""

from typing import Any, NoReturn

from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import ApiError, BadRequestError, NotFoundError
from gantry.api.models import Device
from gantry.api.queries import devices
from gantry.api.services.applications import owned
from gantry.api.services.devices import visible


class UnreachableError(ApiError):
    """The device cannot be asked now."""

    status = 503


def ask(session: Session, user: UserActor, path: str, body: dict[str, Any]) -> NoReturn:
    """Ask the device that the body names: by `uuid`, `deviceId`, or all of `appId`.

    Raises:
        BadRequestError: the body names nothing.
        NotFoundError: no such device or application, or not for this user.
        UnreachableError: always, otherwise.
    """
    if body.get("uuid") is None and body.get("deviceId") is None:
        if not isinstance(body.get("appId"), int):
            raise BadRequestError("say which device: `uuid` or `deviceId`, or `appId` for all")
        slug = owned(session, user.user_id, body["appId"]).slug
        raise UnreachableError(f"the devices of {slug} cannot be asked: {_WHY}")
    device = _device(session, user, body)
    if not device.is_online:
        raise UnreachableError(f"device {device.uuid[:7]} is not online")
    raise UnreachableError(
        f"device {device.uuid[:7]} is online, but its supervisor cannot be asked for "
        f"/{path[:100]}: {_WHY}"
    )


_WHY = "there is no tunnel to devices yet; on the device's own network, ask its port 48484"


def _device(session: Session, user: UserActor, body: dict[str, Any]) -> Device:
    if isinstance(body.get("uuid"), str):
        return visible(session, user, body["uuid"])
    number = body.get("deviceId")
    found = (
        devices.owned_device_by_id(session, user.user_id, number)
        if isinstance(number, int)
        else None
    )
    if found is None:
        raise NotFoundError(f"there is no device {str(number)[:64]}")
    return found
