"""The second factor of an account, under the family's names."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from gantry.api.context import Ctx, CurrentLogin, CurrentSession, Place
from gantry.api.errors import ForbiddenError
from gantry.api.routes.answers import Account, RecoveryCodes, failures
from gantry.api.services import second_factor
from gantry.api.services.sessions import user_actor

router = APIRouter(prefix="/auth/totp", tags=["accounts"])


class Code(BaseModel):
    """A code of an authenticator, or a recovery code."""

    code: str


class Password(BaseModel):
    """The account's password, asked for once more."""

    password: str


class Reset(BaseModel):
    """Whose second factor is lost."""

    username: str


@router.get("/setup", response_class=PlainTextResponse, responses=failures(409))
def setup(ctx: Ctx, login: CurrentSession, response: Response) -> str:
    """A new secret as an `otpauth://` URL; each call makes another, until a code confirms it."""
    response.headers["Cache-Control"] = "no-store"
    return ctx.second_factors.set_up(login)


@router.post("/verify", response_class=PlainTextResponse, responses=failures(409, 429))
def verify(ctx: Ctx, login: CurrentLogin, body: Code) -> str:
    """The token of a session that has passed the second factor."""
    return ctx.second_factors.verify(login, body.code)


@router.post("/disable", response_class=PlainTextResponse, responses=failures(429))
def disable(ctx: Ctx, login: CurrentSession, place: Place, body: Password) -> str:
    """The token of a session without a second factor."""
    return ctx.second_factors.disable(login, body.password, place)


@router.post("/recovery-codes", response_model=RecoveryCodes, responses=failures(429))
def recovery_codes(
    ctx: Ctx, login: CurrentSession, place: Place, body: Password
) -> dict[str, list[str]]:
    """New recovery codes. They are shown this once."""
    return {"codes": ctx.second_factors.recovery_codes(login, body.password, place)}


@router.post("/reset", response_model=Account, responses=failures(403, 404))
def reset(ctx: Ctx, login: CurrentSession, body: Reset) -> dict[str, str]:
    """Remove another's lost second factor; the administrator alone may."""
    if not login.user.is_administrator:
        raise ForbiddenError("only the administrator resets second factors")
    with ctx.database.transaction() as session:
        user = second_factor.reset(session, user_actor(login.user), body.username)
    return {"username": user.username}
