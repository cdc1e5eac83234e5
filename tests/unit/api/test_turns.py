"""The pace of announcements."""

import asyncio
from collections.abc import Callable

import pytest

from gantry.api import events
from gantry.api.events import Turns


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BURST", 5)
    monkeypatch.setattr(events, "PER_SECOND", 100.0)


def timed(turns: Turns, count: int, done: Callable[[Callable[[], None]], None]) -> list[float]:
    """When each of `count` who asked at once had their turn, in seconds from the beginning."""

    async def one(begin: float, ended: list[float]) -> None:
        async with turns.turn() as unused:
            done(unused)
            ended.append(asyncio.get_running_loop().time() - begin)

    async def all_of_them() -> list[float]:
        ended: list[float] = []
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(one(begin, ended) for _ in range(count)))
        return ended

    return asyncio.run(all_of_them())


def test_some_go_at_once_and_the_others_at_a_pace() -> None:
    ended = timed(Turns(lambda: False), 15, lambda _: None)
    assert len(ended) == 15
    # Machines may be slow: nobody is early.
    assert ended[-1] >= 0.09
    assert all(when >= (number - 5) / 100.0 for number, when in enumerate(ended))


def test_who_had_no_news_takes_nobody_s_turn() -> None:
    asked: list[bool] = []

    def no_news(unused: Callable[[], None]) -> None:
        asked.append(True)
        unused()

    turns = Turns(lambda: False)
    timed(turns, 1000, no_news)
    assert len(asked) == 1000
    assert turns.is_rested


def test_while_requests_wait_one_announcement_goes_at_a_time() -> None:
    busy = [True] * 20

    def is_busy() -> bool:
        return bool(busy and busy.pop())

    assert len(timed(Turns(is_busy), 3, lambda _: None)) == 3
    # The first one goes all the same: a busy api is not to be silent.
    assert len(busy) < 20
