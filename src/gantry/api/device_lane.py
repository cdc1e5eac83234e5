"""The short way for most of all requests: what devices ask for with their own keys.

Ten thousand devices poll, report, and keep a stream open each. Served by the framework, a stream
would hold thirty coroutines, and a poll two threads one after the other; here it is one thread and
few objects, which the garbage collector goes through too. What is anything but plain takes the way
of all requests: the routes there decide, and say what is wrong.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gantry.api.actors import DeviceActor
from gantry.api.context import Context
from gantry.api.errors import ApiError
from gantry.api.routes import devices as routes
from gantry.api.services import devices, reports, streams
from gantry.api.services.sessions import is_token
from gantry.api.services.target_state import TargetState

START = "/device/v3/"
# A report is a few hundred bytes; a larger one is read where limits are kept.
REPORT_LIMIT = 64 * 1024

_REPORTS = TypeAdapter(dict[str, reports.DeviceReport])

T = TypeVar("T")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class NotPlainError(Exception):
    """This request is for the framework. What was read of it is in `read`."""

    def __init__(self, read: list[Message] | None = None) -> None:
        super().__init__()
        self.read = read or []


class DeviceLane:
    """ASGI middleware: serves plain requests of devices, and hands on all others."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        found = {each.endpoint: each for each in routes.router.routes if isinstance(each, APIRoute)}
        # Metrics name requests by their route.
        self._handlers: dict[tuple[str, str], tuple[APIRoute, Handler]] = {
            ("GET", "state"): (found[routes.state], self._state),
            ("PATCH", ""): (found[routes.report], self._report),
            ("GET", "events"): (found[routes.events], self._events),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        read: list[Message] = []
        if scope["type"] == "http" and scope["path"].startswith(START):
            found = self._handlers.get((scope["method"], _what(scope["path"])))
            if found is not None and not scope["query_string"]:
                scope["route"], handler = found
                try:
                    await handler(scope, receive, send)
                    return
                except NotPlainError as error:
                    read = error.read
        await self._app(scope, _again(read, receive) if read else receive, send)

    async def _state(self, scope: Scope, receive: Receive, send: Send) -> None:
        uuid, key = _uuid(scope["path"]), _key(scope)
        known = _header(scope, b"if-none-match")

        def target() -> TargetState:
            actor = self._device(key, uuid)
            return devices.target(self._context.database, actor, uuid, known)

        found = await run_in_threadpool(_plainly, target)
        await routes.target_answer(found, known)(scope, receive, send)

    async def _report(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        if _header(scope, b"content-type") != "application/json":
            raise NotPlainError
        read, body = await _body(receive)

        def report() -> None:
            said = _REPORTS.validate_json(body)
            vault = self._context.supervisor_secrets
            devices.report(self._context.database, vault, self._device(key), said)

        try:
            await self._context.threads.write(_plainly, report)
        except NotPlainError as error:
            raise NotPlainError(read) from error
        await routes.reported()(scope, receive, send)

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        context, uuid, key = self._context, _uuid(scope["path"]), _key(scope)
        actor = await run_in_threadpool(_plainly, lambda: self._device(key, uuid))
        if context.hub.open_streams(actor.device_id) >= streams.MAX_STREAMS:
            raise NotPlainError
        stream = streams.EventStream(context.database, context.hub, actor, key, context.instance)
        await stream(scope, receive, send)

    def _device(self, key: str, uuid: str | None = None) -> DeviceActor:
        """Whose key this is; with `uuid`, the device that bears it.

        Raises:
            NotPlainError: nobody's, or somebody else's.
        """
        actor = self._context.actor(key)
        if not isinstance(actor, DeviceActor) or uuid not in (None, actor.uuid):
            raise NotPlainError
        return actor


def _plainly(work: Callable[[], T]) -> T:
    """What `work` returns; what goes wrong in it is told by the routes, which try it again."""
    try:
        return work()
    except (ApiError, SQLAlchemyError, ValidationError, UnicodeError) as error:
        raise NotPlainError from error


def _what(path: str) -> str:
    """What is asked for of a device, such as `state`; nothing where the path names none."""
    uuid, _, what = path[len(START) :].partition("/")
    return what or ("" if uuid == "state" else "?")


def _uuid(path: str) -> str:
    return path[len(START) :].partition("/")[0]


def _header(scope: Scope, name: bytes) -> str | None:
    """The value of a header.

    Raises:
        NotPlainError: there are several of it.
    """
    values = [value for each, value in scope["headers"] if each == name]
    if len(values) > 1:
        raise NotPlainError
    return values[0].decode("latin-1") if values else None


def _key(scope: Scope) -> str:
    """The API key of a request.

    Raises:
        NotPlainError: it has none, or a session's token.
    """
    scheme, _, key = (_header(scope, b"authorization") or "").partition(" ")
    if scheme != "Bearer" or not key or is_token(key):
        raise NotPlainError
    return key


async def _body(receive: Receive) -> tuple[list[Message], bytes]:
    """The body, and the messages that it came in.

    Raises:
        NotPlainError: it is large, or the sender left.
    """
    read: list[Message] = []
    size = 0
    while not read or read[-1].get("more_body"):
        read.append(await receive())
        size += len(read[-1].get("body", b""))
        if read[-1]["type"] != "http.request" or size > REPORT_LIMIT:
            raise NotPlainError(read)
    return read, b"".join(each.get("body", b"") for each in read)


def _again(read: list[Message], receive: Receive) -> Receive:
    """`receive`, with what was read already before it."""
    left = iter(read)

    async def next_message() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return next_message
