"""The doorway to the api: who may read or write a device's log."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import httpx2

from gantry.logs.errors import RefusedError, UnavailableError

REMEMBER_SECONDS = 20.0
"""How long an answer is believed. A revoked key works this long at most."""

MAX_REMEMBERED = 10_000


class Action(StrEnum):
    """What somebody wants to do with a device's log."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks (their Authorization header, as sent) and for which device's log."""

    device: str
    action: Action
    authorization: str


class Access:
    """Asks the api and remembers its consent for a short while; refusals are not remembered."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        api_url: str,
        service_key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = f"{api_url}/services/logs/authorize"
        self._key = service_key
        self._clock = clock
        self._allowed: OrderedDict[bytes, float] = OrderedDict()

    async def check(self, caller: Caller) -> None:
        """Returns when the caller may.

        Raises:
            RefusedError: they may not.
            UnavailableError: the api cannot say.
        """
        if not caller.authorization:
            raise RefusedError(401, "no Authorization header: send the device's key or a token")
        name = _fingerprint(caller)
        if self._allowed.get(name, 0.0) > self._clock():
            return
        asked = self._clock()
        await self._ask(caller)
        self._allowed[name] = asked + REMEMBER_SECONDS
        self._allowed.move_to_end(name)
        if len(self._allowed) > MAX_REMEMBERED:
            self._allowed.popitem(last=False)

    async def still_allowed(self, caller: Caller) -> bool:
        """Whether a connection that was allowed may go on. An api that is away cannot revoke."""
        try:
            await self.check(caller)
        except RefusedError:
            return False
        except UnavailableError:
            return True
        return True

    async def _ask(self, caller: Caller) -> None:
        try:
            answer = await self._client.get(
                self._url,
                params={"device": caller.device, "action": caller.action.value},
                headers={
                    "Authorization": f"Bearer {self._key}",
                    "X-Gantry-Authorization": caller.authorization,
                },
            )
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"the api does not answer ({reason}): try again") from error
        if answer.status_code in (401, 403, 404):
            raise RefusedError(answer.status_code, _sentence(answer))
        if answer.status_code != 200:
            raise UnavailableError(f"the api answered {answer.status_code}: try again")


def _fingerprint(caller: Caller) -> bytes:
    """The caller as a key of the memory, which holds no secret in the clear."""
    text = f"{caller.device}\0{caller.action}\0{caller.authorization}"
    return hashlib.sha256(text.encode()).digest()


def _sentence(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return "not allowed by the api"
