"""An index that cannot be used for a moment, as on a full disk, ends nothing for good. Here its
table is away for that moment."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server import keeping
from gantry.deltas.server.errors import TemporaryError
from gantry.deltas.server.pairs import Pairs
from tests.unit.deltas.server.parts import PAUSE, Place, eventually, pair, run


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """Whoever uses the index meanwhile gets SQLite's error."""
    with closing(sqlite3.connect(folder / "pairs.sqlite")) as database:
        database.execute("alter table pair rename to away")
        try:
            yield
        finally:
            database.execute("alter table away rename to pair")


def test_every_way_to_it_says_so(tmp_path: Path) -> None:
    pairs = Pairs(tmp_path / "pairs.sqlite")
    with away(tmp_path):
        for use in (
            lambda: pairs.find("x"),
            lambda: pairs.all(DeltaState.READY),
            lambda: pairs.taken(1),
            lambda: pairs.begin(pair("x"), 1.0),
            lambda: pairs.use(["x"], 1.0),
            lambda: pairs.remove("x"),
            lambda: pairs.needs("x"),
            pairs.counts,
        ):
            with pytest.raises(TemporaryError, match="the index cannot be used: no such table"):
                use()
    assert pairs.counts() == ({}, 0)
    pairs.close()


def test_a_full_disk_is_such_a_moment(tmp_path: Path) -> None:
    pairs = Pairs(tmp_path / "pairs.sqlite")
    pairs._database.execute("pragma max_page_count = 1")

    def fill() -> None:
        for number in range(200):
            pairs.begin(pair(f"x{number}"), 1.0)

    with pytest.raises(TemporaryError, match="database or disk is full"):
        fill()
    pairs._database.execute("pragma max_page_count = 1000")
    assert pairs.begin(pair("y"), 1.0).state is DeltaState.WORKING
    pairs.close()


def test_making_ahead_of_time_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(here: Place) -> None:
        here.maker.may["wanted"].set()
        with away(tmp_path):
            running = asyncio.create_task(here.ahead(pair("wanted")).run())
            await asyncio.sleep(4 * PAUSE)
            assert not running.done()
            assert here.maker.begun == []
        await here.until("wanted")
        running.cancel()

    run(tmp_path, 1, scenario)
    # Once, however many rounds it takes.
    assert capsys.readouterr().out.count("nothing is made ahead of time for now: the index") == 1


def test_expiry_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY_SECONDS", PAUSE)

    async def scenario(here: Place) -> None:
        orphan = tmp_path / "deltas" / f"{'0' * 64}.gantry-delta"
        orphan.parent.mkdir()
        orphan.write_bytes(b"nobody's")
        with away(tmp_path):
            running = asyncio.create_task(here.keeper.run())
            await asyncio.sleep(4 * PAUSE)
            assert not running.done()
            assert orphan.exists()
        await eventually(lambda: not orphan.exists())
        running.cancel()

    run(tmp_path, 1, scenario)
    assert "old deltas are not removed for now: the index" in capsys.readouterr().out


def test_a_pair_that_is_being_made_is_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(here: Place) -> None:
        first = await here.ask("first")
        await here.until("first")
        with away(tmp_path):
            here.maker.may["first"].set()
            async with asyncio.timeout(10):
                await first.done.wait()
        again = await here.ask("first")
        assert again is not first
        await here.made("first", again)

    run(tmp_path, 1, scenario)
    assert "the index cannot be used" in capsys.readouterr().out
