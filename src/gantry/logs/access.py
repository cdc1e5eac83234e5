"""The doorway to the api: who may read or write a device's log."""

import asyncio
import contextlib
import hashlib
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from weakref import WeakValueDictionary

import httpx2

from gantry.logs.errors import RefusedError, UnavailableError

REMEMBER_SECONDS = 20.0
"""How long an answer is believed, unless the api announces that a key or session has ended."""

RETRY_SECONDS = 5.0
SILENCE_SECONDS = 45.0
"""The api sends a heartbeat every 15 s: after three that are missing nobody is there."""

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


@dataclass(eq=False)
class Credential:
    """A key, or a user's sessions, as the api calls it; all consents to its holder share one."""

    doubted_at: float = -math.inf
    limits: set[asyncio.Timeout] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Consent:
    """The api's word that a caller may: asked for at `given`, good for nothing from `ends` on."""

    credential: Credential
    given: float
    ends: float

    def holds(self, now: float) -> bool:
        """Whether it is to be believed still."""
        return now < self.ends and self.credential.doubted_at < self.given

    @contextlib.contextmanager
    def guards(self, limit: asyncio.Timeout, now: float) -> Iterator[None]:
        """Have `limit`, which has been entered, be over as soon as this does not hold any more."""
        if not self.holds(now):
            limit.reschedule(0)
        elif self.ends < math.inf:
            over = asyncio.get_running_loop().time() + self.ends - now
            limit.reschedule(min(limit.when() or over, over))
        self.credential.limits.add(limit)
        try:
            yield
        finally:
            self.credential.limits.discard(limit)


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
        self._revocations = f"{api_url}/services/logs/revocations"
        self.clock = clock
        self._allowed: OrderedDict[bytes, tuple[float, Consent]] = OrderedDict()
        self._credentials: WeakValueDictionary[str, Credential] = WeakValueDictionary()

    async def check(self, caller: Caller) -> Consent:
        """Returns when the caller may.

        Raises:
            RefusedError: they may not.
            UnavailableError: the api cannot say.
        """
        if not caller.authorization:
            raise RefusedError(401, "no Authorization header: send the device's key or a token")
        name = _fingerprint(caller)
        now = self.clock()
        until, known = self._allowed.get(name, (0.0, None))
        if known is not None and until > now and known.holds(now):
            return known
        consent = await self._ask(caller)
        self._allowed[name] = (consent.given + REMEMBER_SECONDS, consent)
        self._allowed.move_to_end(name)
        if len(self._allowed) > MAX_REMEMBERED:
            self._allowed.popitem(last=False)
        return consent

    async def still_allowed(self, caller: Caller, consent: Consent) -> Consent | None:
        """What a connection that was allowed goes on with; None: it ends.

        An api that is away cannot revoke, but a key's time ends by itself.
        """
        try:
            return await self.check(caller)
        except RefusedError:
            return None
        except UnavailableError:
            return consent if self.clock() < consent.ends else None

    def doubt(self, name: str) -> None:
        """A key or session may have ended: whoever goes by it is judged anew."""
        credential = self._credentials.get(name)
        if credential is None:
            return
        credential.doubted_at = self.clock()
        for limit in tuple(credential.limits):
            # One that is over at this very moment takes no other time.
            with contextlib.suppress(RuntimeError):
                limit.reschedule(0)

    async def listen(self) -> None:
        """Hear of what ends before its time, until cancelled.

        While the api is away nothing is heard: connections are judged anew from time to time.
        """
        timeout = httpx2.Timeout(10.0, read=SILENCE_SECONDS)
        headers = {"Authorization": f"Bearer {self._key}"}
        heard = True
        while True:
            try:
                async with self._client.stream(
                    "GET", self._revocations, headers=headers, timeout=timeout
                ) as answer:
                    answer.raise_for_status()
                    heard = True
                    async for line in answer.aiter_lines():
                        if line.strip():
                            self.doubt(str(json.loads(line)["credential"]))
            except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
                if heard:
                    reason = str(error) or type(error).__name__
                    print(f"revocations are not heard of for now: {reason}", flush=True)
                heard = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _ask(self, caller: Caller) -> Consent:
        asked = self.clock()
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
        try:
            told = answer.json()
            name, seconds = str(told["credential"]), told["seconds"]
            ends = math.inf if seconds is None else asked + float(seconds)
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError("the api's answer cannot be read: try again") from error
        credential = self._credentials.setdefault(name, Credential())
        return Consent(credential, asked, ends)


def _fingerprint(caller: Caller) -> bytes:
    """The caller as a key of the memory, which holds no secret in the clear."""
    text = f"{caller.device}\0{caller.action}\0{caller.authorization}"
    return hashlib.sha256(text.encode()).digest()


def _sentence(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return "not allowed by the api"
