"""Who comes first."""

from pathlib import Path

import pytest

from tests.unit.deltas.server.parts import Place, run


def test_what_nobody_waits_for_gives_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(here: Place) -> None:
        ahead = await here.ask("ahead", demanded=False)
        await here.until("ahead")
        first, second = await here.ask("first"), await here.ask("second")
        await here.until("ahead", "first")
        assert here.maker.ended == ["ahead"]
        assert (here.jobs.busy, here.jobs.waiting) == (1, 2)
        assert ahead.percent is None
        await here.made("first", first)
        await here.until("ahead", "first", "second")
        await here.made("second", second)
        await here.until("ahead", "first", "second", "ahead")
        assert not ahead.done.is_set()
        await here.made("ahead", ahead)

    run(tmp_path, 1, scenario)
    assert capsys.readouterr().out.count("gives way to one that is waited for") == 1


def test_where_a_worker_is_free_nothing_gives_way(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        await here.ask("ahead", demanded=False)
        await here.until("ahead")
        await here.ask("first")
        await here.until("ahead", "first")
        assert here.maker.ended == []
        await here.ask("second")
        await here.until("ahead", "first", "second")
        assert here.maker.ended == ["ahead"]
        # Nor do askers for each other.
        await here.ask("third")
        await here.until("ahead", "first", "second")

    run(tmp_path, 2, scenario)


def test_who_asks_for_the_same_lets_it_go_on(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        ahead = await here.ask("ahead", demanded=False)
        await here.until("ahead")
        assert await here.ask("ahead") is ahead
        first = await here.ask("first")
        await here.until("ahead")
        await here.made("ahead", ahead)
        await here.until("ahead", "first")
        # And while it gives way: it is the next one then.
        other = await here.ask("other", demanded=False)
        await here.made("first", first)
        await here.until("ahead", "first", "other")
        second = await here.ask("second")
        assert await here.ask("other") is other
        await here.until("ahead", "first", "other", "second")
        third = await here.ask("third")
        await here.made("second", second)
        await here.until("ahead", "first", "other", "second", "other")
        await here.made("other", other)
        await here.made("third", third)

    run(tmp_path, 1, scenario)


def test_what_an_earlier_run_left_is_made_after_what_is_asked_for(tmp_path: Path) -> None:
    async def earlier(here: Place) -> None:
        await here.ask("left")
        await here.until("left")

    async def later(here: Place) -> None:
        assert await here.jobs.resume() == 1
        await here.until("left")
        await here.ask("first")
        await here.until("left", "first")

    run(tmp_path, 1, earlier)
    run(tmp_path, 1, later)


def test_what_is_expected_counts_the_queue(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        first = await here.ask("first")
        await here.until("first")
        assert here.jobs.expected(first)[1] is None
        await here.made("first", first)
        second, third = await here.ask("second"), await here.ask("third")
        await here.until("first", "second")
        # One took 0.1 s: the second is at 10 % of its 2 s, and the third has all of them before it.
        (soon, size), (later, _) = here.jobs.expected(second), here.jobs.expected(third)
        assert size == 5
        assert soon is not None
        assert later is not None
        assert 0 < soon <= 2
        assert 2 < later <= 4

    run(tmp_path, 1, scenario)
