"""Logging in, who one is, one's password."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from gantry.api.context import Ctx, CurrentActor, CurrentSession, CurrentUser, Place
from gantry.api.errors import ForbiddenError
from gantry.api.routes.answers import ActorWhoami, Whoami, failures
from gantry.api.services import sessions, whoami

router = APIRouter(tags=["accounts"])


class LoginRequest(BaseModel):
    """A name and its password."""

    username: str
    password: str


class PasswordChange(BaseModel):
    """The password so far, and the one from now on."""

    password: str
    newPassword: str  # noqa: N815 - the wire's name


@router.post("/login_", response_class=PlainTextResponse, responses=failures(401, 429))
def login(ctx: Ctx, place: Place, body: LoginRequest) -> str:
    """A session token as text."""
    return sessions.login(ctx.database, ctx.sessions, body.username, body.password, place)


@router.get("/user/v1/whoami", response_model=Whoami)
def user_whoami(user: CurrentUser) -> dict[str, Any]:
    """The user who asks."""
    return {"id": user.user_id, "username": user.username, "email": user.email}


@router.get("/whoami", response_class=PlainTextResponse)
@router.get("/user/v1/refresh-token", response_class=PlainTextResponse)
def refresh_token(ctx: Ctx, login: CurrentSession) -> str:
    """A new session token; never for an API key, which it would outlive."""
    return ctx.sessions.renewed(login)


@router.post(
    "/user/v1/change-password",
    response_class=PlainTextResponse,
    responses=failures(403, 429),
)
def change_password(ctx: Ctx, login: CurrentSession, place: Place, body: PasswordChange) -> str:
    """The token of a new session; all others of the user end."""
    if login.user.username == ctx.config.admin_username:
        raise ForbiddenError(
            f"the password of {login.user.username} is the fleet's own, and each start of the api "
            "restores it: docs/decisions/0003 says how to replace it"
        )
    return sessions.change_password(
        ctx.database, ctx.sessions, login, body.password, body.newPassword, place
    )


@router.get("/actor/v1/whoami", response_model=ActorWhoami, response_model_exclude_unset=True)
def actor_whoami(actor: CurrentActor) -> dict[str, Any]:
    """Whoever asks, of whatever kind."""
    return whoami.describe(actor)
