"""What a running api is made of, handed to the routes."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from gantry.api.actors import (
    Actor,
    DeviceActor,
    ProvisioningActor,
    ServiceActor,
    UserActor,
)
from gantry.api.config import Config
from gantry.api.database import Database
from gantry.api.errors import ForbiddenError, UnauthorizedError
from gantry.api.events import Hub
from gantry.api.metrics import Metrics
from gantry.api.services.registry_tokens import TokenSigner
from gantry.api.services.second_factor import SecondFactors
from gantry.api.services.secrets import same
from gantry.api.services.sessions import Holder, Login, Sessions, is_token
from gantry.api.services.throttle import place_of
from gantry.api.services.vault import Vault
from gantry.api.threads import Threads
from gantry.api.tunnel import Gate


@dataclass(frozen=True)
class Context:
    """The parts of one api process."""

    config: Config
    database: Database
    threads: Threads
    hub: Hub
    metrics: Metrics
    sessions: Sessions
    signer: TokenSigner
    second_factors: SecondFactors
    # Opens what supervisors ask for.
    supervisor_secrets: Vault
    # The way to devices; None: the fleet has no VPN.
    gate: Gate | None
    # Names this process among the replicas: its streams' leases bear it.
    instance: str

    def actor(self, credential: str) -> Actor | None:
        """Who holds this session token or API key."""
        with self.database.statement() as session:
            return self.sessions.actor(session, credential)

    def holder(self, credential: str) -> Holder | None:
        """As `actor`, and until when."""
        with self.database.statement() as session:
            return self.sessions.holder(session, credential)

    def login(self, credential: str) -> Login | None:
        """The session of this token, also one whose second factor is missing."""
        with self.database.statement() as session:
            return self.sessions.login(session, credential)

    def service(self, credential: str) -> ServiceActor | None:
        """Which of the fleet's own services holds this key."""
        keys = self.config.service_keys
        found = None
        # All are compared, whichever it is.
        for name in ("git", "builder", "logs", "vpn", "deltas", "collector"):
            key = getattr(keys, name)
            if key is not None and same(key.get_secret_value(), credential):
                found = ServiceActor(name)
        return found


# What does not wait is a coroutine: FastAPI would send a function to a thread, which costs more.
async def of_request(request: Request) -> Context:
    """The context of the application that serves this request."""
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(of_request)]


def bearer(header: str | None) -> str:
    """The credential of an `Authorization: Bearer` header.

    Raises:
        UnauthorizedError: no header, or another scheme.
    """
    scheme, _, credential = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise UnauthorizedError(
            "this needs `Authorization: Bearer …` with a session token or an API key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return credential.strip()


def credential(request: Request) -> str:
    """The session token or API key of a request.

    Raises:
        UnauthorizedError: there is none.
    """
    # The family's clients send API keys as ?apikey= too.
    key = request.query_params.get("apikey")
    header = request.headers.get("authorization")
    return key if key and not header else bearer(header)


def _actor(request: Request, ctx: Ctx) -> Actor:
    actor = ctx.actor(credential(request))
    if actor is None:
        raise _not_valid()
    return actor


def _not_valid() -> UnauthorizedError:
    return UnauthorizedError(
        "the session token or API key is not valid (any more): log in again",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _login(request: Request, ctx: Ctx) -> Login:
    given = credential(request)
    login = ctx.login(given) if is_token(given) else None
    if login is None:
        if ctx.actor(given) is not None:
            raise UnauthorizedError("an API key may not do this: log in")
        raise _not_valid()
    return login


def session_of(request: Request, ctx: Ctx) -> Login:
    """The session that a request bears.

    Raises:
        UnauthorizedError: none, none that holds, an API key, or the second factor is missing.
    """
    return _login(request, ctx).whole()


async def _place(request: Request) -> str:
    # Whoever connects to the proxy: the last address that it added, else the connection's.
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    return place_of(forwarded or (request.client.host if request.client else ""))


async def _user(actor: Annotated[Actor, Depends(_actor)]) -> UserActor:
    if not isinstance(actor, UserActor):
        raise ForbiddenError("this is for users: log in, or use a user's API key")
    return actor


async def _device(actor: Annotated[Actor, Depends(_actor)]) -> DeviceActor:
    if not isinstance(actor, DeviceActor):
        raise ForbiddenError("this is for devices, with their own key")
    return actor


async def _provisioning(actor: Annotated[Actor, Depends(_actor)]) -> ProvisioningActor:
    if not isinstance(actor, ProvisioningActor):
        raise ForbiddenError("registering needs a provisioning key of the application")
    return actor


CurrentActor = Annotated[Actor, Depends(_actor)]
CurrentUser = Annotated[UserActor, Depends(_user)]
CurrentDevice = Annotated[DeviceActor, Depends(_device)]
CurrentProvisioning = Annotated[ProvisioningActor, Depends(_provisioning)]
# A session of a person, and not a key of theirs; the former also before its second factor.
CurrentLogin = Annotated[Login, Depends(_login)]
CurrentSession = Annotated[Login, Depends(session_of)]
# Where a request comes from, as tries are counted.
Place = Annotated[str, Depends(_place)]


class ServiceOnly:
    """A dependency: the caller must be the service of this name."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, request: Request, ctx: Ctx) -> ServiceActor:
        service = ctx.service(bearer(request.headers.get("authorization")))
        if service is None:
            raise UnauthorizedError("this needs the key of one of the fleet's own services")
        if service.name != self._name:
            raise ForbiddenError(f"this is for the service {self._name}, not for {service.name}")
        return service


def wanted(call: object) -> str | None:
    """The credential that a dependency wants: `actor`, `session` or `service`."""
    if isinstance(call, ServiceOnly):
        return "service"
    if call in (session_of, _login):
        return "session"
    return "actor" if call is _actor else None


def is_narrow(call: object) -> bool:
    """Whether a dependency turns away actors of other kinds than its own."""
    return isinstance(call, ServiceOnly) or call in (_user, _device, _provisioning)
