"""How long a delta is waited for, how fast downloads were, and which pairs are given up."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gantry.contracts.deltas import DeltaAnswer, DeltaState
from gantry.supervisor.deltas import hopeless
from gantry.supervisor.deltas.hopeless import Hopeless
from gantry.supervisor.deltas.patience import LEAST, MOST, UNKNOWN, Patience
from gantry.supervisor.pace import Pace, PullMeter
from gantry.supervisor.store import Store

MB = 1_000_000


def working(**fields: Any) -> DeltaAnswer:
    return DeltaAnswer(DeltaState.WORKING, **fields)


@pytest.mark.parametrize(
    ("patience", "whole", "seconds"),
    [
        (Patience(rate=MB), 100 * MB, 100.0),
        (Patience(rate=MB), MB, LEAST),
        (Patience(rate=1000.0), 100 * MB, MOST),
        (Patience(rate=MB), None, UNKNOWN),
        (Patience(), 100 * MB, UNKNOWN),
        (Patience(most=7.0, rate=MB), 100 * MB, 7.0),
        (Patience(most=0.0), None, 0.0),
    ],
)
def test_as_long_as_a_pull_takes(patience: Patience, whole: int | None, seconds: float) -> None:
    assert patience.limit(whole) == seconds
    answer = working(whole=whole)
    assert patience.verdict(answer, seconds) is not None
    if seconds:
        assert patience.verdict(answer, seconds - 1) is None


@pytest.mark.parametrize(
    ("patience", "answer", "waited", "said"),
    [
        # 100 s for a pull, 5 for the delta.
        (Patience(rate=MB), working(whole=100 * MB, size=5 * MB, seconds=95), 0, None),
        (Patience(rate=MB), working(whole=100 * MB, size=5 * MB, seconds=96), 0, "about 101 s"),
        (Patience(rate=MB), working(whole=100 * MB, size=5 * MB, seconds=30), 60, None),
        (Patience(rate=MB), working(whole=100 * MB, size=5 * MB, seconds=40), 60, "takes about 1"),
        # Half a minute is no matter.
        (Patience(rate=MB), working(whole=MB, seconds=20), 0, None),
        (Patience(rate=MB), working(whole=MB, seconds=31), 0, "a pull takes about 1 s"),
        # Without a word of the server.
        (Patience(rate=MB), working(whole=100 * MB), 99, None),
        (Patience(rate=MB), working(whole=100 * MB), 101, "not made within 101 s, and a pull"),
        (Patience(), working(seconds=299), 0, None),
        (Patience(), working(seconds=301), 0, "about 301 s, and is waited for 300 s at most"),
        # Whoever says how long means it, whatever a pull would take.
        (Patience(most=900.0, rate=MB), working(whole=MB, size=MB, seconds=899), 0, None),
        (Patience(most=900.0, rate=MB), working(whole=MB, seconds=901), 0, "for 900 s at most"),
    ],
)
def test_what_is_said_of_it_counts(
    patience: Patience, answer: DeltaAnswer, waited: float, said: str | None
) -> None:
    found = patience.verdict(answer, waited)
    assert (found is None) == (said is None)
    assert (said or "") in (found or "")


def stored(path: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    """What a supervisor does between its start and its end."""

    async def run() -> None:
        store = Store(path / "database.sqlite")
        await store.open()
        await work(store)
        await store.close()

    asyncio.run(run())


def test_how_fast_downloads_were_outlives_a_restart(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        pace = Pace(store)
        await pace.load()
        assert pace.rate is None
        await pace.add(1000, 0.1)  # says nothing
        await pace.add(4 * MB, 0.0)
        assert pace.rate is None
        await pace.add(4 * MB, 4.0)
        await pace.add(3 * MB, 1.0)

    async def second(store: Store) -> None:
        pace = Pace(store)
        await pace.load()
        assert pace.rate == 2 * MB
        await store.put("download_pace", "fast")

    async def third(store: Store) -> None:
        pace = Pace(store)
        await pace.load()
        assert pace.rate is None

    for each in (first, second, third):
        stored(tmp_path, each)


def test_what_a_pull_receives() -> None:
    meter = PullMeter()
    for now, layer, status, detail in (
        (1.0, "latest", "Pulling from v2/app", {}),
        (2.0, "a", "Already exists", {}),
        (3.0, "b", "Downloading", {"current": 100, "total": 400}),
        (4.0, "c", "Downloading", {"current": 50, "total": 60}),
        (5.0, "b", "Downloading", {"current": 390, "total": 400}),
        (6.0, "b", "Download complete", {}),
        (6.0, "tiny", "Download complete", {}),
        (60.0, "b", "Extracting", {"current": 300, "total": 400}),
        (90.0, None, "Status: Downloaded newer image", {}),
    ):
        meter.add({"id": layer, "status": status, "progressDetail": detail}, now)
    assert (meter.size, meter.total, meter.seconds) == (450, 460, 3.0)
    assert (PullMeter().size, PullMeter().seconds) == (0, 0.0)


def test_what_cannot_be_applied_is_remembered_as_long_as_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(store: Store) -> None:
        pairs = Hopeless(store)
        await pairs.load()
        await pairs.add(("new", "old"), True, {"old"})
        await pairs.add(("other", "old"), False, {"old"})
        assert ("new", "old") in pairs
        assert ("other", "old") in pairs

    async def second(store: Store) -> None:
        pairs = Hopeless(store)
        await pairs.load()
        assert ("new", "old") in pairs
        assert ("other", "old") not in pairs
        # What it would have been made from has gone.
        await pairs.add(("newest", "new"), True, {"new"})
        assert ("new", "old") not in pairs
        for number in range(100):
            await pairs.add((f"image {number}", "new"), True, {"new"})

    async def third(store: Store) -> None:
        pairs = Hopeless(store)
        await pairs.load()
        kept = [number for number in range(100) if (f"image {number}", "new") in pairs]
        assert kept == [*range(100 - hopeless.MOST, 100)]
        assert ("new", "old") not in pairs

    async def another_version(store: Store) -> None:
        monkeypatch.setattr(hopeless, "VERSION", "99.0.0")
        pairs = Hopeless(store)
        await pairs.load()
        assert ("image 99", "new") not in pairs
        assert await store.get("hopeless_deltas") is None

    async def nonsense(store: Store) -> None:
        for value in ("x", {"version": "99.0.0", "pairs": 3}, {"version": "99.0.0", "pairs": [3]}):
            await store.put("hopeless_deltas", value)
            await Hopeless(store).load()

    for each in (first, second, third, another_version, nonsense):
        stored(tmp_path, each)
