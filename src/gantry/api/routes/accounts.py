"""Logging in, who one is, API keys."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict

from gantry.api.context import Ctx, CurrentActor, CurrentUser
from gantry.api.models import ApiKey, KeyRole
from gantry.api.services import provisioning, sessions, whoami
from gantry.api.services.applications import owned
from gantry.api.services.secrets import hash_key, new_key

router = APIRouter()


class Login(BaseModel):
    """A name and its password."""

    username: str
    password: str


class KeyRequest(BaseModel):
    """What a new key is called, and until when it holds."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    description: str | None = None
    expiryDate: datetime | None = None  # noqa: N815 - the wire's name


@router.post("/login_", response_class=PlainTextResponse)
def login(ctx: Ctx, request: Request, body: Login) -> str:
    """A session token as text."""
    return sessions.login(
        ctx.database, ctx.sessions, body.username, body.password, _address(request)
    )


def _address(request: Request) -> str:
    """Whoever connects to the proxy: the last address that it added, else the connection's."""
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[-1].strip()
    return (forwarded or (request.client.host if request.client else "unknown"))[:64]


@router.get("/user/v1/whoami")
def user_whoami(user: CurrentUser) -> dict[str, Any]:
    """The user who asks."""
    return {"id": user.user_id, "username": user.username, "email": user.email}


@router.get("/user/v1/refresh-token", response_class=PlainTextResponse)
def refresh_token(ctx: Ctx, user: CurrentUser) -> str:
    """A new session token."""
    with ctx.database.transaction() as session:
        return whoami.fresh_token(session, ctx.sessions, user)


@router.get("/actor/v1/whoami")
def actor_whoami(actor: CurrentActor) -> dict[str, Any]:
    """Whoever asks, of whatever kind."""
    return whoami.describe(actor)


@router.post("/api-key/user/full")
def user_key(ctx: Ctx, user: CurrentUser, body: KeyRequest) -> str:
    """A new API key that may do what its user may. It is shown this once."""
    key = new_key()
    with ctx.database.transaction() as session:
        session.add(
            ApiKey(
                key_hash=hash_key(key),
                role=KeyRole.USER,
                is_of__actor=user.actor_id,
                name=body.name,
                description=body.description,
                expiry_date=body.expiryDate,
            )
        )
    return key


@router.post("/api-key/application/{application_id}/provisioning")
def provisioning_key(
    ctx: Ctx, user: CurrentUser, application_id: int, body: KeyRequest | None = None
) -> str:
    """A new key that registers devices in an application. It is shown this once."""
    asked = body or KeyRequest()
    with ctx.database.transaction() as session:
        application = owned(session, user.user_id, application_id)
        return provisioning.provisioning_key(
            session, application, asked.name, asked.description, asked.expiryDate
        )
