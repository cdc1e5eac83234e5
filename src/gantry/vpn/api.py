"""The doorway to the api: `/services/vpn/*` (docs/api.md)."""

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, TypeVar

import httpx2

from gantry.vpn.config import Config
from gantry.vpn.errors import RefusedError, UnavailableError

TIMEOUT_SECONDS = 10.0
SILENCE_SECONDS = 45.0
"""The api sends a heartbeat every 15 s: after three that are missing nobody is there."""

# Of 4xx, those that say nothing about what was asked (RFC 9110, RFC 6585).
LATER = (408, 425, 429)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DeviceGrant:
    """A device may log in, with this address, until `ends` (of the monotonic clock)."""

    uuid: str
    address: IPv4Address
    credential: str
    ends: float


@dataclass(frozen=True, slots=True)
class TunnelGrant:
    """Somebody may reach a port of a device, which is on `server`."""

    uuid: str
    user: str
    address: IPv4Address
    server: str
    credential: str
    ends: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is."""

    uuid: str
    address: IPv4Address
    server: str


@dataclass(frozen=True, slots=True)
class Event:
    """A device came or went: `session` names that one connection; `at` is ISO 8601, UTC."""

    uuid: str
    address: str
    event: str
    at: str
    session: str


@dataclass(frozen=True, slots=True)
class TunnelEnd:
    """What a tunnel of a person's carried, in bytes from the person's side."""

    session: str
    uuid: str
    bytes_in: int
    bytes_out: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the changes: the end of a credential, or something about a device."""

    credential: str | None = None
    device: str | None = None
    public_url: bool | None = None
    gone: bool = False


class Api:
    """Each method is one request. All raise UnavailableError when the api cannot say."""

    def __init__(self, client: httpx2.AsyncClient, config: Config) -> None:
        self._client = client
        self._base = f"{config.api_url}/services/vpn"
        self._server = config.server
        self._headers = {"Authorization": f"Bearer {config.service_key.get_secret_value()}"}

    async def authorize_device(self, uuid: str, key: str) -> DeviceGrant:
        """Whether a device with this key may log in.

        Raises:
            RefusedError: 401 wrong or ended key, or no such device; 403 the device is not active.
        """
        asked = time.monotonic()
        body = {"uuid": uuid, "key": key, "server": self._server}
        answer = await self._ask("POST", "/devices/authorize", body)
        return _read(answer, lambda told: _device_grant(told, asked))

    async def report(self, boot: str, events: Sequence[Event]) -> None:
        """Tell of events, the oldest first."""
        rows = [
            {
                "uuid": each.uuid,
                "address": each.address,
                "event": each.event,
                "at": each.at,
                "session": each.session,
            }
            for each in events
        ]
        await self._ask("POST", "/events", {"server": self._server, "boot": boot, "events": rows})

    async def beat(self, boot: str, connected: Sequence[str] | None) -> None:
        """Say that this server lives; with a list: that those devices and no others are here."""
        body = {"boot": boot, "connected": None if connected is None else list(connected)}
        await self._ask("PUT", f"/servers/{self._server}", body)

    async def authorize_tunnel(
        self, uuid: str, port: int, session: str, secret: str
    ) -> TunnelGrant:
        """Whether the holder of a token or key may reach this port; `uuid` may be a prefix.

        Raises:
            RefusedError: 401, 403, 404, 409 (not connected), with the api's sentence.
        """
        asked = time.monotonic()
        answer = await self._ask(
            "POST",
            "/tunnels/authorize",
            {"uuid": uuid, "port": port, "session": session},
            {"X-Gantry-Authorization": f"Bearer {secret}"},
        )
        return _read(answer, lambda told: _tunnel_grant(told, asked))

    async def end_tunnel(self, end: TunnelEnd) -> None:
        """Tell that a person's tunnel has ended."""
        body = {
            "session": end.session,
            "uuid": end.uuid,
            "bytes_in": end.bytes_in,
            "bytes_out": end.bytes_out,
            "seconds": end.seconds,
        }
        await self._ask("POST", "/tunnels/end", body)

    async def public_url(self, uuid: str) -> Place:
        """Where the device of a public URL is.

        Raises:
            RefusedError: 404 unknown or not public; 409 not connected.
        """
        return _read(await self._ask("GET", f"/public-urls/{uuid}"), _place)

    async def check(self, credentials: Sequence[str]) -> list[str]:
        """Which of these have ended."""
        answer = await self._ask("POST", "/check", {"credentials": list(credentials)})
        return _read(answer, lambda told: [str(each) for each in told["ended"]])

    async def changes(self, on_open: Callable[[], None]) -> AsyncIterator[Change]:
        """What changes, as it happens, until the api ends it; `on_open` once it is heard."""
        timeout = httpx2.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        try:
            async with self._client.stream(
                "GET", f"{self._base}/changes", headers=self._headers, timeout=timeout
            ) as answer:
                answer.raise_for_status()
                on_open()
                async for line in answer.aiter_lines():
                    if line.strip():
                        yield _change(json.loads(line))
        except (httpx2.HTTPError, ValueError, TypeError, AttributeError) as error:
            raise UnavailableError(f"changes are not heard of for now: {_why(error)}") from error

    async def _ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        try:
            answer = await self._client.request(
                method,
                f"{self._base}{path}",
                json=body,
                headers=self._headers | (headers or {}),
            )
        except httpx2.HTTPError as error:
            raise UnavailableError(f"the api does not answer ({_why(error)}): try again") from error
        if answer.is_success:
            return answer
        if 400 <= answer.status_code < 500 and answer.status_code not in LATER:
            raise RefusedError(answer.status_code, _sentence(answer))
        raise UnavailableError(f"the api answered {answer.status_code}: try again")


def _read(answer: httpx2.Response, make: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        return make(answer.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableError("the api's answer cannot be read: try again") from error


def _device_grant(told: dict[str, Any], asked: float) -> DeviceGrant:
    return DeviceGrant(
        uuid=str(told["uuid"]),
        address=IPv4Address(told["address"]),
        credential=str(told["credential"]),
        ends=_ends(told, asked),
    )


def _tunnel_grant(told: dict[str, Any], asked: float) -> TunnelGrant:
    place = _place(told)
    return TunnelGrant(
        uuid=place.uuid,
        user=str(told["user"]),
        address=place.address,
        server=place.server,
        credential=str(told["credential"]),
        ends=_ends(told, asked),
    )


def _place(told: dict[str, Any]) -> Place:
    return Place(str(told["uuid"]), IPv4Address(told["address"]), str(told["server"]))


def _ends(told: dict[str, Any], asked: float) -> float:
    seconds = told.get("seconds")
    return math.inf if seconds is None else asked + float(seconds)


def _change(told: dict[str, Any]) -> Change:
    public = told.get("public_url")
    return Change(
        credential=told.get("credential"),
        device=told.get("device"),
        public_url=None if public is None else bool(public),
        gone=bool(told.get("gone", False)),
    )


def _sentence(answer: httpx2.Response) -> str:
    try:
        told = answer.json()
        return str(told.get("error") or told["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "not allowed by the api"


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
