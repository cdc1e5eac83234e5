"""A request's end: what it is counted from, and what becomes of an answer that comes later."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gantry.api.limits import Deadline

SECONDS = 0.3


def served(
    app: ASGIApp, pauses: tuple[float, ...] = (0.0,), after: float = 0.0, path: str = "/"
) -> list[Message]:
    """What one request is answered whose body comes in pieces, each after a pause."""
    sent: list[Message] = []
    left = list(pauses)

    async def receive() -> Message:
        await asyncio.sleep(left.pop(0))
        return {"type": "http.request", "body": b"x", "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        scope = {"type": "http", "method": "POST", "path": path}
        await Deadline(app, SECONDS)(scope, receive, send)
        await asyncio.sleep(after)

    asyncio.run(run())
    return sent


def reader(then: Callable[[], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await then()
        await PlainTextResponse("OK")(scope, receive, send)

    return app


async def at_once() -> None:
    """No wait."""


async def in_a_thread() -> None:
    # As a driver waits: nothing ends it.
    await asyncio.shield(asyncio.to_thread(time.sleep, SECONDS * 3))


def test_a_slow_sender_is_waited_for() -> None:
    sent = served(reader(at_once), (SECONDS * 2, SECONDS * 2, 0.0))
    assert [each.get("status", each.get("body")) for each in sent] == [200, b"OK"]


def test_what_does_not_answer_is_503_and_its_answer_is_dropped() -> None:
    begun = time.monotonic()
    sent = served(reader(in_a_thread), after=SECONDS * 4)
    assert time.monotonic() - begun >= SECONDS
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"30") in sent[0]["headers"]
    assert "try again" in json.loads(sent[1]["body"])["error"]


def test_an_answer_that_has_begun_may_go_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(SECONDS * 2)
        await send({"type": "http.response.body", "body": b"whole"})

    assert served(app)[-1]["body"] == b"whole"


def test_a_failure_is_passed_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        served(app)


def test_what_waits_for_a_device_has_more_time() -> None:
    sent = served(reader(in_a_thread), path="/supervisor/v1/restart")
    assert [each.get("status", each.get("body")) for each in sent] == [200, b"OK"]
