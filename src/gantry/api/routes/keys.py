"""New API keys, under the family's names. Each is shown once."""

from fastapi import APIRouter, Request

from gantry.api.actors import UserActor
from gantry.api.context import Context, Ctx, CurrentSession, CurrentUser, session_of
from gantry.api.routes.answers import failures
from gantry.api.services import keys
from gantry.api.services.keys import ActorKeyRequest, ActorType, KeyRequest
from gantry.api.services.sessions import user_actor

router = APIRouter(prefix="/api-key", tags=["keys"])


@router.post("/user/full")
def user_key(ctx: Ctx, login: CurrentSession, body: KeyRequest) -> str:
    """A new API key that may do what its user may; no key makes another that outlives it."""
    return _made(ctx, user_actor(login.user), ActorType.USER, login.user.id, body)


@router.post("/application/{application_id}/provisioning", responses=failures(404))
def provisioning_key(
    ctx: Ctx, user: CurrentUser, application_id: int, body: KeyRequest | None = None
) -> str:
    """A new key that registers devices in an application."""
    return _made(ctx, user, ActorType.APPLICATION, application_id, body)


@router.post("/device/{device_id}/device-key", responses=failures(404))
def device_key(ctx: Ctx, user: CurrentUser, device_id: int, body: KeyRequest | None = None) -> str:
    """One more key of a device."""
    return _made(ctx, user, ActorType.DEVICE, device_id, body)


@router.post("/v1", include_in_schema=False)
@router.post("/v1/", responses=failures(404))
@router.post("/v2", include_in_schema=False)
@router.post("/v2/", responses=failures(404))
def key(ctx: Ctx, request: Request, user: CurrentUser, body: ActorKeyRequest) -> str:
    """A new key of any kind, for whom the body names."""
    if body.actorType is ActorType.USER:
        session_of(request, ctx)
    with ctx.database.transaction() as session:
        return keys.for_actor(session, user, body)


def _made(
    ctx: Context, user: UserActor, kind: ActorType, actor_id: int, body: KeyRequest | None
) -> str:
    details = body.model_dump() if body else {}
    asked = ActorKeyRequest(actorType=kind, actorTypeId=actor_id, **details)
    with ctx.database.transaction() as session:
        return keys.for_actor(session, user, asked)
