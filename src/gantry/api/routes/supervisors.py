"""A person's requests to supervisors: passed on to devices, and their answers back."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from gantry.api import tunnel
from gantry.api.context import Context, Ctx, CurrentUser, credential
from gantry.api.errors import UnauthorizedError
from gantry.api.events import CHANGES
from gantry.api.queries import records
from gantry.api.routes.answers import SupervisorAnswer, failures
from gantry.api.services import device_requests, vpn
from gantry.api.services.device_requests import Said, SupervisorRequest, Target
from gantry.api.tunnel import Answer, Gate, TunnelError

log = logging.getLogger(__name__)

router = APIRouter(tags=["devices"])

_ANSWER = {"description": "What the supervisor answers, with its own status.", "content": {}}


@dataclass(frozen=True, slots=True)
class _Limits:
    """What ends an answer that goes on: the credential's end, and that of the device's reach."""

    credential: str
    # Of the event loop's clock.
    end: float | None


@router.post(
    "/supervisor/{path:path}",
    response_class=Response,
    responses={
        207: {"model": list[SupervisorAnswer], "description": "What several devices answer."},
        **failures(403, 404, 503, 504),
        "default": _ANSWER,
    },
)
async def supervisor(
    ctx: Ctx, user: CurrentUser, path: str, body: SupervisorRequest, request: Request
) -> Response:
    """A request to a device's supervisor, through the VPN; with `appId`, to those of all devices
    of an application."""

    def find() -> tuple[Target | list[Target], str, float | None]:
        with ctx.database.transaction() as session:
            found = device_requests.find(session, ctx.supervisor_secrets, user, path, body)
            holder = ctx.sessions.holder(session, credential(request))
            if holder is None:
                raise UnauthorizedError("the session token or API key is not valid (any more)")
            seconds = None
            if holder.until is not None:
                seconds = (holder.until - records.now(session)).total_seconds()
        return found, holder.credential, seconds

    begun = asyncio.get_running_loop().time()
    found, name, seconds = await run_in_threadpool(find)
    gate = _gate(ctx)
    if isinstance(found, Target):
        limits = _Limits(name, None if seconds is None else begun + seconds)
        return await _passed_on(ctx, gate, found, path, body, limits)
    return JSONResponse([_told(each) for each in await _all(gate, found, path, body)], 207)


def _gate(ctx: Context) -> Gate:
    if ctx.gate is None:
        raise device_requests.UnreachableError(device_requests.NO_VPN)
    return ctx.gate


async def _all(gate: Gate, targets: list[Target], path: str, body: SupervisorRequest) -> list[Said]:
    return await device_requests.ask_all(gate, targets, path, body)


def _told(said: Said) -> dict[str, object]:
    return {"uuid": said.uuid, "status": said.status, "body": said.body}


async def _passed_on(
    ctx: Context, gate: Gate, target: Target, path: str, body: SupervisorRequest, limits: _Limits
) -> Response:
    """The answer of one device, as it comes."""
    asked = device_requests.request_of(path, body.method, body.data, target.key)
    async with contextlib.AsyncExitStack() as stack:
        try:
            way = await stack.enter_async_context(tunnel.opened(target.server, target.uuid, gate))
            answer = await way.ask(asked, device_requests.ANSWER_SECONDS)
        except TunnelError as error:
            raise device_requests.refused(target, error) from error
        return _Relayed(answer, _relay(ctx, target, answer, limits), stack.pop_all())
    raise AssertionError("an exit stack holds no exception back")


class _Relayed(StreamingResponse):
    """An answer that takes the tunnel down with it."""

    def __init__(
        self, answer: Answer, pieces: AsyncIterator[bytes], stack: contextlib.AsyncExitStack
    ) -> None:
        super().__init__(pieces, answer.status, media_type=answer.media_type)
        # As the device has it: nothing is added.
        self.headers["content-type"] = answer.media_type
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _relay(
    ctx: Context, target: Target, answer: Answer, limits: _Limits
) -> AsyncIterator[bytes]:
    """What the device says, until it has said it, or whoever listens may no more."""
    over = asyncio.create_task(_over(ctx, target, limits))
    try:
        while True:
            piece = asyncio.ensure_future(anext(answer.body, b""))
            await asyncio.wait((piece, over), return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                await asyncio.gather(piece, return_exceptions=True)
                return
            if not piece.result():
                return
            yield piece.result()
    except TunnelError as error:
        log.info("an answer of device %s was cut off: %s", target.uuid, error)
    finally:
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)


async def _over(ctx: Context, target: Target, limits: _Limits) -> None:
    """Until the person's credential has ended, or the device is gone."""
    ends = (limits.credential, f"gone:{target.uuid}", None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(limits.end):
            with ctx.hub.listening(CHANGES) as heard:
                # While the device was asked nobody listened.
                if await ctx.threads.tunnel(vpn.ended, ctx.database, [limits.credential]):
                    return
                while await heard.get() not in ends:
                    pass
