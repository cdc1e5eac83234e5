"""What the api is told: everything, in order, once it can be told; and what it missed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gantry.vpn import report
from gantry.vpn.api import Event
from gantry.vpn.process import Run
from tests.unit.vpn.parts import Server, StandIn, consent, eventually, serving


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "BATCH_SECONDS", 0.02)
    monkeypatch.setattr(report, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(report, "LIST_SECONDS", 0.7)
    monkeypatch.setattr(report, "RETRY_SECONDS", (0.05, 0.1))


@contextlib.asynccontextmanager
async def reporting(server: Server) -> AsyncIterator[None]:
    server.reporter.begin(server.run)
    task = asyncio.create_task(server.reporter.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(api: StandIn, what: str = "/events") -> list[Any]:
    return [body for _, path, body in api.asked if path.startswith(what)]


def right(_: str, path: str, body: Any) -> tuple[int, Any]:
    return (200, consent(body["uuid"]) if path == "/devices/authorize" else {})


def events_of(api: StandIn) -> list[tuple[str, str]]:
    return [(each["uuid"][-1], each["event"]) for body in told(api) for each in body["events"]]


def beats(api: StandIn) -> list[Any]:
    """What the heartbeats had for a list."""
    return [body["connected"] for body in told(api, "/servers/vpn-1")]


def test_events_come_in_order_and_in_batches(api: StandIn) -> None:
    async def run() -> None:
        api.answer = right
        async with serving(api) as server, reporting(server):
            await eventually(lambda: len(beats(api)) == 1)
            for client, uuid in enumerate(("a" * 32, "b" * 32)):
                await server.enter(client, uuid)
            server.leave(0)
            expected = [("a", "connected"), ("b", "connected"), ("a", "disconnected")]
            await eventually(lambda: events_of(api) == expected)
            assert len(told(api)) <= 2
            sessions = [each["session"] for body in told(api) for each in body["events"]]
            assert sessions[0] == sessions[2] != sessions[1]
            assert {body["boot"] for body in told(api)} == {server.run.boot}

    asyncio.run(run())


def test_the_list_is_sent_at_the_start_and_from_time_to_time(api: StandIn) -> None:
    async def run() -> None:
        api.answer = right
        async with serving(api) as server, reporting(server):
            await eventually(lambda: len(beats(api)) >= 2)
            assert beats(api)[:2] == [[], None]
            await server.enter(0, "a" * 32)
            await eventually(lambda: ["a" * 32] in beats(api))
            # A new run of openvpn says at once that nobody is there.
            server.devices.all_gone(server.run)
            fresh = Run(server.run.management)
            server.reporter.begin(fresh)
            first = {"boot": fresh.boot, "connected": []}
            await eventually(lambda: first in told(api, "/servers/vpn-1"))
            ofs = [each for each in told(api, "/servers/vpn-1") if each["boot"] == fresh.boot]
            assert ofs[0] == first

    asyncio.run(run())


def test_events_wait_for_the_api_and_lose_no_order(api: StandIn) -> None:
    async def run() -> None:
        api.answer = right
        async with serving(api) as server, reporting(server):
            await server.enter(0, "a" * 32)
            await eventually(lambda: len(events_of(api)) == 1)
            api.answer = lambda *args: (0, None) if args[1] == "/events" else right(*args)
            server.leave(0)
            await eventually(lambda: len(events_of(api)) > 3)  # it was tried again
            await server.enter(1, "b" * 32)
            api.asked.clear()
            api.answer = right
            await eventually(lambda: len(events_of(api)) >= 2)
            assert events_of(api)[-2:] == [("a", "disconnected"), ("b", "connected")]

    asyncio.run(run())


def test_after_a_long_outage_all_is_said_anew(api: StandIn, monkeypatch: Any) -> None:
    async def run() -> None:
        monkeypatch.setattr(report, "OUTAGE_SECONDS", 0.1)
        api.answer = right
        async with serving(api) as server, reporting(server):
            await server.enter(0, "a" * 32)
            await eventually(lambda: len(events_of(api)) == 1)
            api.answer = lambda *_: (0, None)
            await asyncio.sleep(0.6)
            api.asked.clear()
            api.answer = right
            await eventually(lambda: bool(events_of(api)))
            assert set(events_of(api)) == {("a", "connected")}
            # With the time at which it began: it may be elsewhere since.
            times = {each["at"] for body in told(api) for each in body["events"]}
            assert times == {server.devices.connected["a" * 32].since}
            await eventually(lambda: ["a" * 32] in beats(api))

    asyncio.run(run())


def test_more_than_can_be_kept_becomes_what_is_true_now(api: StandIn, monkeypatch: Any) -> None:
    async def run() -> None:
        monkeypatch.setattr(report, "MAX_EVENTS", 10)
        api.answer = lambda *args: (0, None) if args[1] == "/events" else right(*args)
        async with serving(api) as server, reporting(server):
            await server.enter(0, "a" * 32)
            for number in range(1, 12):
                await server.enter(number, "b" * 32)
                server.leave(number)
            api.asked.clear()
            api.answer = right
            await eventually(lambda: ["a" * 32] in beats(api))
            assert ("a", "connected") in events_of(api)
            assert len(events_of(api)) < 23
            assert events_of(api)[-1] == ("a", "connected")

    asyncio.run(run())


def test_what_the_api_will_not_hear_keeps_nothing_else_from_it(api: StandIn) -> None:
    async def run() -> None:
        api.answer = right
        async with serving(api) as server, reporting(server):
            await server.enter(0, "a" * 32)
            await eventually(lambda: len(events_of(api)) == 1)
            wrong = Event("x", "", "vanished", "yesterday", "?")
            api.answer = lambda *args: (422, {}) if "vanished" in str(args[2]) else right(*args)
            server.reporter.add(server.run, wrong)
            await eventually(lambda: ("x", "vanished") in events_of(api))
            api.asked.clear()
            await server.enter(1, "b" * 32)
            await eventually(lambda: len(events_of(api)) >= 2)
            assert {uuid for uuid, _ in events_of(api)} == {"a", "b"}

    asyncio.run(run())


def test_what_is_left_is_told_at_the_end(api: StandIn) -> None:
    async def run() -> None:
        api.answer = right
        async with serving(api) as server:
            await server.enter(0, "a" * 32)
            server.devices.all_gone(server.run)
            await server.reporter.flush(5)
            assert events_of(api) == [("a", "connected"), ("a", "disconnected")]
            # The api that is away holds nobody up.
            api.delay = 10
            server.reporter.add(server.run, Event("a" * 32, "100.64.0.7", "connected", "now", "s"))
            async with asyncio.timeout(1):
                await server.reporter.flush(0.1)

    asyncio.run(run())
