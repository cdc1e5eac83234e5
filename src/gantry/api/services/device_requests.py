"""Requests to devices' supervisors, through the VPN: the family's `POST /supervisor/<path>`."""

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.orm import Session

from gantry.api import tunnel
from gantry.api.actors import UserActor
from gantry.api.errors import ApiError, BadRequestError, ForbiddenError, NotFoundError
from gantry.api.models import Device
from gantry.api.queries import devices
from gantry.api.services import audit
from gantry.api.services.applications import owned
from gantry.api.services.devices import visible
from gantry.api.services.vault import UnreadableError, Vault
from gantry.api.services.vpn import not_connected
from gantry.api.tunnel import Gate, NoAnswerError, NotReachedError, Request

log = logging.getLogger(__name__)

# The family's.
ANSWER_SECONDS = 50.0
BETWEEN_SECONDS = 0.05
# All devices of an application are asked within so much time, and those that are left are not.
ALL_SECONDS = 60.0
MAX_BODY = 64 * 1024
# What goes into a header of HTTP. Devices tell their keys themselves.
_KEY = re.compile(r"[!-~]+")
NO_VPN = "this fleet has no VPN: on the device's own network, ask its port 48484"

Method = Annotated[
    Literal["GET", "POST", "PUT", "PATCH", "DELETE"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


class UnreachableError(ApiError):
    """The device cannot be asked now."""

    status = 503


class SilentError(ApiError):
    """The device was asked and did not answer: what it has done of it is not known."""

    status = 504


class SupervisorRequest(BaseModel):
    """Which device is asked: `uuid`, `deviceId`, or all of `appId`; and what is sent to it."""

    model_config = ConfigDict(extra="ignore")

    uuid: str | None = None
    deviceId: int | None = None  # noqa: N815 - the wire's names
    appId: int | None = None  # noqa: N815
    method: Method = "POST"
    data: Any = Field(None, description="The body, as JSON; a GET has none.")


@dataclass(frozen=True, slots=True)
class Target:
    """A device that can be asked: where it is, and the key of its supervisor."""

    uuid: str
    server: str
    key: str


@dataclass(frozen=True, slots=True)
class Said:
    """One device's whole answer; without one, the status that stands for that."""

    uuid: str
    status: int
    body: Any


def request_of(path: str, method: str, data: object, key: str) -> Request:
    """The request to a supervisor."""
    body = b"" if method == "GET" else json.dumps({} if data is None else data).encode()
    return Request(method, "/" + quote(path, safe="/:@!$&'()*+,;=~"), key, body)


def target_of(vault: Vault, device: Device) -> Target:
    """How a device is asked.

    Raises:
        UnreachableError: it is not connected, or its supervisor has not told its key.
    """
    if not device.is_connected_to_vpn or device.vpn_server is None:
        raise UnreachableError(not_connected(device))
    if device.api_secret is None:
        raise UnreachableError(
            f"device {device.uuid[:7]} has not told the key of its supervisor yet: try again when "
            "it has reported its state, or update its supervisor"
        )
    try:
        key = vault.open(device.api_secret, device.uuid).decode()
    except UnreadableError as error:
        log.error("the key of the supervisor of %s cannot be read: %s", device.uuid, error)
        raise UnreachableError(
            f"the stored key of the supervisor of device {device.uuid[:7]} cannot be read: restart "
            "its supervisor, which tells it again"
        ) from error
    if not _KEY.fullmatch(key):
        raise UnreachableError(
            f"what device {device.uuid[:7]} has told is no key: restart its supervisor, which "
            "tells it again"
        )
    return Target(device.uuid, device.vpn_server, key)


def find(
    session: Session, vault: Vault, user: UserActor, path: str, asked: SupervisorRequest
) -> Target | list[Target]:
    """The device that a request names, or those of an application that are connected. What is more
    than a look goes to the audit log.

    Raises:
        BadRequestError: it names nothing.
        NotFoundError: no such device or application, or not for this user.
        ForbiddenError: the device is not active.
        UnreachableError: it cannot be asked now.
    """
    found: Target | list[Target]
    if asked.uuid is None and asked.deviceId is None:
        if asked.appId is None:
            raise BadRequestError("say which device: `uuid` or `deviceId`, or `appId` for all")
        application = owned(session, user.user_id, asked.appId)
        asks = devices.connected(session, application.id)
        found = _targets(vault, asks)
        if not found:
            raise UnreachableError(f"no device of {application.slug} is connected to the VPN")
    else:
        device = _device(session, user, asked)
        if not device.is_active:
            raise ForbiddenError(f"device {device.uuid[:7]} is not active: activate it first")
        asks, found = [device], target_of(vault, device)
    if asked.method != "GET":
        changes = {"path": f"/{path}", "method": asked.method}
        audit.note(session, user, audit.Action.ASK, Device, [each.id for each in asks], changes)
    return found


def _device(session: Session, user: UserActor, asked: SupervisorRequest) -> Device:
    if asked.uuid is not None:
        return visible(session, user, asked.uuid)
    number = asked.deviceId or 0
    found = devices.owned_device_by_id(session, user.user_id, number)
    if found is None:
        raise NotFoundError(f"there is no device {number}")
    return found


def _targets(vault: Vault, found: Sequence[Device]) -> list[Target]:
    made = []
    for each in found:
        try:
            made.append(target_of(vault, each))
        except UnreachableError as error:
            log.info("left out: %s", error.sentence)
    return made


async def ask_all(
    gate: Gate, targets: Sequence[Target], path: str, asked: SupervisorRequest
) -> list[Said]:
    """What each device says; they are begun with one after the other."""
    end = asyncio.get_running_loop().time() + ALL_SECONDS

    async def one(number: int, target: Target) -> Said:
        await asyncio.sleep(number * BETWEEN_SECONDS)
        request = request_of(path, asked.method, asked.data, target.key)
        try:
            async with asyncio.timeout_at(end):
                status, body = await ask(gate, target, request, ANSWER_SECONDS)
        except (NotReachedError, NoAnswerError) as error:
            return Said(target.uuid, refused(target, error).status, {"error": str(error)})
        except TimeoutError:
            return Said(target.uuid, 504, {"error": "time was up before it answered"})
        return Said(target.uuid, status, _read(body))

    return list(await asyncio.gather(*(one(*each) for each in enumerate(targets))))


async def ask(gate: Gate, target: Target, request: Request, seconds: float) -> tuple[int, bytes]:
    """The status and the body of an answer, cut where it is very long.

    Raises:
        NotReachedError, NoAnswerError: there is none.
    """
    async with tunnel.opened(target.server, target.uuid, gate) as way:
        return await whole(await way.ask(request, seconds))


async def whole(answer: tunnel.Answer) -> tuple[int, bytes]:
    """The status and the body of an answer, cut where it is very long."""
    body = b""
    async for piece in answer.body:
        body += piece
        if len(body) > MAX_BODY:
            break
    return answer.status, body[:MAX_BODY]


def refused(target: Target, error: tunnel.TunnelError) -> ApiError:
    """What the person is told."""
    name = f"device {target.uuid[:7]}"
    if isinstance(error, NotReachedError):
        return UnreachableError(f"{name} cannot be reached: {error}")
    return SilentError(f"{name} was asked, and what it has done is not known: {error}")


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
