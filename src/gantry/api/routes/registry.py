"""Tokens for the registry and the delta server, and the keys that open the git server."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, ServiceActor, UserActor
from gantry.api.context import Context, Ctx, ServiceOnly
from gantry.api.errors import BadRequestError, UnauthorizedError
from gantry.api.queries import accounts
from gantry.api.routes.answers import RegistryToken, failures
from gantry.api.services import registry_tokens

router = APIRouter(tags=["registry"])


@router.get(
    "/auth/v1/token",
    response_model=RegistryToken,
    responses=failures(401),
    openapi_extra={"security": [{"registry": []}, {}]},
)
def token(
    ctx: Ctx,
    request: Request,
    service: str | None = None,
    scope: Annotated[list[str] | None, Query()] = None,
) -> dict[str, Any]:
    """A token for what the caller may have of what is asked; nothing for nobody."""
    registry, delta = ctx.config.registry, ctx.config.delta
    if service not in (None, registry, delta):
        raise BadRequestError(
            f"there is no registry {str(service)[:100]!r}: it is {registry}; deltas are at {delta}"
        )
    name, actor = _caller(ctx, request.headers.get("authorization"))
    asked = registry_tokens.parse_scopes(scope or [])
    with ctx.database.transaction() as session:
        granted = registry_tokens.grant(session, actor, asked)
        if service == delta:
            granted = registry_tokens.for_deltas(granted)
        lifetime = registry_tokens.lifetime(session, granted)
    return ctx.signer.sign(name, service or registry, granted, lifetime)


def _caller(ctx: Context, header: str | None) -> tuple[str, Actor | ServiceActor | None]:
    """Who asks, from HTTP Basic: a name, and the key that must belong to it."""
    if header is None:
        return "", None
    name, key = _basic(header)
    is_service = name in ("builder", "deltas", "collector")
    actor: Actor | ServiceActor | None = ctx.service(key) if is_service else ctx.actor(key)
    if actor is None or not _is_named(actor, name):
        raise UnauthorizedError(
            f"the key does not belong to {name[:80]!r}",
            headers={"WWW-Authenticate": 'Basic realm="registry"'},
        )
    return name, actor


def _is_named(actor: Actor | ServiceActor, name: str) -> bool:
    match actor:
        case DeviceActor(uuid=uuid):
            return name == f"d_{uuid}"
        case UserActor(username=username):
            return name == username
        case ProvisioningActor():
            return name == "provisioning"
        case ServiceActor(name=service):
            return name == service


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, key = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise UnauthorizedError(
            "this needs HTTP Basic with a name and a key",
            headers={"WWW-Authenticate": 'Basic realm="registry"'},
        )
    return name, key


@router.get(
    "/auth/v1/public-keys/{username}",
    response_class=PlainTextResponse,
    dependencies=[Depends(ServiceOnly("git"))],
)
def public_keys(ctx: Ctx, username: str) -> str:
    """The keys that open the git server under this name, one a line; nothing for nobody."""
    with ctx.database.transaction() as session:
        keys = accounts.public_keys(session, username)
    return "".join(f"{key.public_key} {key.title}\n" for key in keys)
