"""What is made ahead of time where a pair cannot be begun: the others are, and it is tried
again."""

from pathlib import Path

import httpx2
import pytest

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server import ahead
from gantry.deltas.server.ahead import Api
from gantry.deltas.server.errors import NoSuchImageError, TemporaryError, WholeError
from tests.unit.deltas.server.parts import CONFIG, Place, pair, run

SPOILT = TemporaryError("the registry sent another blob")


def test_a_pair_that_the_registry_cannot_deliver_blocks_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(here: Place) -> None:
        here.maker.plans["spoilt"] = SPOILT
        here.maker.plans["gone"] = NoSuchImageError("the registry does not have it")
        here.maker.plans["none"] = WholeError("there will be none")
        here.pairs.begin(pair("due"), 1e12)
        here.pairs.failed(pair("due").name, "away", 1.0)
        for each in ("wanted", "due"):
            here.maker.may[each].set()
        making = here.ahead(*map(pair, ("spoilt", "gone", "none", "wanted")))
        await making.round()
        assert here.maker.begun == ["wanted", "due"]
        assert here.metric("gantry_deltas_api_up") == 1
        # It is told of once, and made once it can be.
        await making.round()
        assert here.maker.begun == ["wanted", "due"]
        del here.maker.plans["spoilt"]
        here.maker.may["spoilt"].set()
        await making.round()
        assert here.maker.begun == ["wanted", "due", "spoilt"]
        found = here.pairs.find(pair("spoilt").name)
        assert found
        assert found.state is DeltaState.READY

    run(tmp_path, 1, scenario)
    said = capsys.readouterr().out
    assert said.count("not made ahead of time for now: the registry sent another blob") == 1


def test_those_that_take_a_whole_round_to_fail_come_last_and_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is as long as a round here."""
    monkeypatch.setattr(ahead, "ROUND_SECONDS", -1.0)

    async def scenario(here: Place) -> None:
        names = ("one", "two", "three")
        for each in names:
            here.maker.plans[each] = SPOILT
        here.maker.may["wanted"].set()
        making = here.ahead(*map(pair, (*names, "wanted")))
        for _ in range(8):
            await making.round()
        # The one that can be made comes as soon as each that cannot was tried once, not before the
        # more wanted ones; after that it is there, and they take turns.
        assert here.maker.asked[:4] == [*names, "wanted"]
        assert here.maker.asked[4:] == [*names, "one"]

    run(tmp_path, 1, scenario)


def test_without_a_registry_one_line_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(here: Place) -> None:
        names = [f"pair{number}" for number in range(30)]
        here.maker.plans = dict.fromkeys(names, TemporaryError("the registry does not answer"))
        making = here.ahead(*map(pair, names))
        await making.round()
        await making.round()
        assert here.maker.asked == names * 2

    run(tmp_path, 1, scenario)
    (line,) = capsys.readouterr().out.splitlines()
    assert "for now, nor 29 others: the registry does not answer" in line


def test_whether_the_api_answers_is_told_apart(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        # Nothing listens there.
        async with httpx2.AsyncClient() as client:
            making = here.ahead_by(Api(client, CONFIG))
            with pytest.raises(TemporaryError, match="the api does not say"):
                await making.round()
        assert here.metric("gantry_deltas_api_up") == 0

    run(tmp_path, 1, scenario)
