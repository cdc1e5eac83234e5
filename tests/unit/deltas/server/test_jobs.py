"""Who comes first."""

import asyncio
from pathlib import Path

import pytest

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.errors import NotTodayError, TemporaryError, WholeError
from gantry.deltas.server.generator import DiedError
from gantry.deltas.server.jobs import MAX_DEATHS, TODAY_SECONDS, Job
from tests.unit.deltas.server.parts import Place, eventually, pair, run


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


def test_what_is_expected_with_two_workers(tmp_path: Path) -> None:
    """Two that wait, and their own time counts whole: all take a minute."""

    async def scenario(here: Place) -> None:
        here.pairs.begin(pair("earlier"), 1.0, 1000)
        here.pairs.ready(pair("earlier").name, "sha256:e", 100, 1000, 60.0)
        await here.jobs.resume()
        jobs = [await here.ask(letter) for letter in "abcde"]
        await here.until("a", "b")
        found = [here.jobs.expected(each)[0] for each in jobs]
        assert found == [pytest.approx(seconds, abs=3) for seconds in (61, 61, 122, 122, 183)]

    run(tmp_path, 2, scenario)


def test_who_hears_of_an_image_late_makes_nothing_twice(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        here.maker.slow = asyncio.Event()
        late = asyncio.create_task(here.jobs.ask(pair("same")))
        await eventually(lambda: here.maker.asked == ["same"])
        slow, here.maker.slow = here.maker.slow, None
        assert (await here.settled("same")).state is DeltaState.READY
        slow.set()
        found = await late
        assert not isinstance(found, Job)
        assert found.state is DeltaState.READY
        assert here.maker.begun == ["same"]

    run(tmp_path, 1, scenario)


def test_deaths_alone_make_a_pair_whole(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        died, away = DiedError("it ended (-9)"), TemporaryError("the registry is away")
        here.maker.ends["pair"] = [away, away, died, away, died, died]
        for tries in range(1, 6):
            record = await here.settled("pair")
            assert (record.state, record.tries) == (DeltaState.FAILED, tries)
            # Until then it is not tried.
            await here.settled("pair")
            assert len(here.maker.begun) == tries
            here.clock.now = record.retry_at
        record = await here.settled("pair")
        assert record.state is DeltaState.WHOLE
        assert record.reason == f"it ended (-9), {MAX_DEATHS} times"
        # The machine may have more memory to spare another day.
        here.clock.now += TODAY_SECONDS - 1
        assert (await here.settled("pair")).state is DeltaState.WHOLE
        here.clock.now += 1
        assert (await here.settled("pair")).state is DeltaState.READY

    run(tmp_path, 1, scenario)


@pytest.mark.parametrize(("error", "holds"), [(WholeError, True), (NotTodayError, False)])
def test_how_long_it_holds_that_there_is_none(
    tmp_path: Path, error: type[WholeError], holds: bool
) -> None:
    async def first(here: Place) -> None:
        here.maker.ends["pair"] = [error("it takes too much")]
        record = await here.settled("pair")
        assert (record.state, record.reason) == (DeltaState.WHOLE, "it takes too much")

    async def as_before(here: Place) -> None:
        here.clock.now += TODAY_SECONDS - 60
        assert (await here.settled("pair")).state is DeltaState.WHOLE
        assert here.maker.begun == []

    async def a_day_later(here: Place) -> None:
        here.clock.now += TODAY_SECONDS + 60
        await here.settled("pair")
        assert here.maker.begun == ([] if holds else ["pair"])

    for each in (first, as_before, a_day_later):
        run(tmp_path, 1, each)


@pytest.mark.parametrize("limit", ["memory_bytes", "seconds", "pair_bytes", "percent", "processes"])
def test_with_other_limits_it_is_tried_again(tmp_path: Path, limit: str) -> None:
    values = {"memory_bytes": 2**28, "seconds": 60, "pair_bytes": 2**30, "percent": 50}
    values["processes"] = 1

    async def first(here: Place) -> None:
        here.maker.ends["made"] = [WholeError("it takes too much")]
        here.maker.plans["planned"] = WholeError("too large")
        for each in ("made", "planned"):
            assert (await here.settled(each)).state is DeltaState.WHOLE

    async def again(here: Place) -> None:
        for each in ("made", "planned"):
            assert (await here.settled(each)).state is DeltaState.READY
        assert here.maker.begun == ["made", "planned"]

    run(tmp_path, 1, first, **values)
    run(tmp_path, 1, again, **(values | {limit: values[limit] + 1}))
