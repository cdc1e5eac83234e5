"""What keeps the supervisor itself going: clocks, promises of loops, edits of config.json."""

import asyncio

import pytest

from gantry.supervisor import clock, moves
from gantry.supervisor.clock import WallClock
from gantry.supervisor.cloud import _retry_after
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.watchdog import Promise


def test_a_clock_that_jumps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = [1e9]
    monkeypatch.setattr(clock, "_offset", lambda: offset[0])
    wall_clock = WallClock()
    offset[0] += 0.5  # a correction
    assert wall_clock.jump() == 0.0
    offset[0] += 3 * 365 * 86400
    assert wall_clock.jump() == 3 * 365 * 86400
    assert wall_clock.jump() == 0.0
    offset[0] -= 3600
    assert wall_clock.jump() == -3600


def test_who_sleeps_is_woken_by_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = [0.0]
    monkeypatch.setattr(clock, "_offset", lambda: offset[0])
    monkeypatch.setattr(clock, "_LOOK_EVERY", 0.01)

    async def scenario() -> None:
        sleeping = asyncio.create_task(clock.sleep(3600.0))
        await asyncio.sleep(0.05)
        assert not sleeping.done()
        offset[0] = 1e6
        await asyncio.wait_for(sleeping, 60)
        await asyncio.wait_for(clock.sleep(0.02), 60)

    asyncio.run(scenario())


def test_a_loop_that_does_not_turn_in_time_is_complained_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    promise = Promise("poll")
    promise.within(3600.0)
    now[0] += 3600.0 + 170.0
    assert promise.complaint() is None
    now[0] += 20.0
    assert promise.complaint() == "the poll loop is 190 s late"
    promise.within(1.0)
    assert promise.complaint() is None


def test_only_who_the_device_is_makes_it_begin_anew() -> None:
    config = DeviceConfig({"uuid": "u", "deviceApiKey": "k", "applicationId": 7, "hostname": "a"})
    assert moves.changes(config, config.changed({"applicationId": "7", "hostname": "b"})) == []
    assert moves.changes(config, config.changed({"deviceApiKey": "l"})) == ["deviceApiKey"]
    assert moves.changes(config, config.changed({"uuid": None, "apiKey": "p"})) == ["uuid"]


def test_nobody_is_waited_for_longer_than_an_hour() -> None:
    assert _retry_after("30") == 30.0
    assert _retry_after("99999999") == 3600.0
    assert _retry_after("Fri, 31 Dec 2099 23:59:59 GMT") == 3600.0
    assert _retry_after("Sat, 01 Jan 2000 00:00:00 GMT") == 0.0
