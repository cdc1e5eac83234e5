"""The pace at which a fleet hears of news."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gantry.api import events
from gantry.api.events import Hub, Subscription, Turns

FLEET = 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BURST", 5)
    monkeypatch.setattr(events, "PER_SECOND", 50.0)


def with_hub(
    count: int, work: Callable[[Hub, list[Subscription]], Coroutine[Any, Any, None]]
) -> None:
    """A hub with the streams of so many devices of one fleet; it has no database to listen to."""

    async def run() -> None:
        hub = Hub("postgresql://nobody@127.0.0.1:1/nothing", lambda: False)
        task = asyncio.create_task(hub.run())
        held = [hub.subscription(device, FLEET) for device in range(count)]
        await work(hub, [each.__enter__() for each in held])
        for each in held:
            each.__exit__(None, None, None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def woken(entry: Subscription, ended: list[float], begin: float) -> None:
    while not entry.changed:  # signs of life wake it too
        await entry.wait()
    ended.append(asyncio.get_running_loop().time() - begin)


def test_some_devices_of_a_fleet_hear_at_once_and_the_others_at_a_pace() -> None:
    ended: list[float] = []

    async def work(hub: Hub, entries: list[Subscription]) -> None:
        begin = asyncio.get_running_loop().time()
        hub.wake(f"application:{FLEET}")
        hub.wake(f"application:{FLEET}")  # one look serves both
        await asyncio.gather(*(woken(each, ended, begin) for each in entries))

    with_hub(15, work)
    # Machines may be slow: nobody is early.
    assert all(when >= (number - 5) / 50.0 for number, when in enumerate(ended))
    assert len(ended) == 15


def test_news_of_one_device_wait_for_no_fleet() -> None:
    async def work(hub: Hub, entries: list[Subscription]) -> None:
        hub.wake(f"application:{FLEET}")
        hub.wake(f"device:{entries[-1].device_id}")
        assert entries[-1].changed
        await asyncio.sleep(0)
        assert not all(each.changed for each in entries)

    with_hub(50, work)


def test_who_leaves_while_it_waits_is_not_waited_for() -> None:
    async def work(hub: Hub, entries: list[Subscription]) -> None:
        with hub.subscription(99, FLEET) as late:
            hub.wake(f"application:{FLEET}")
        await asyncio.gather(*(each.wait() for each in entries))
        assert not late.changed

    with_hub(3, work)


def test_who_had_no_news_takes_nobody_s_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine, no turn comes back by itself meanwhile.
    monkeypatch.setattr(events, "PER_SECOND", 0.01)

    async def work() -> None:
        turns = Turns(lambda: False)
        for _ in range(100):
            assert turns.take() == 0.0
            turns.give_back()
        assert [turns.take() for _ in range(5)] == [0.0] * 5
        assert turns.take() > 0.0

    asyncio.run(work())


def test_while_requests_wait_fleets_do() -> None:
    busy = [True]

    async def work() -> None:
        turns = Turns(lambda: busy[0])
        assert turns.take() == 0.0
        assert turns.take() == events.BUSY_PAUSE
        busy[0] = False
        assert turns.take() == 0.0
        busy[0] = True
        await asyncio.sleep(events.BUSY_AT_MOST + 0.01)
        assert turns.take() == 0.0

    asyncio.run(work())
