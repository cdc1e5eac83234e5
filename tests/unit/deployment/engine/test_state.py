"""The state file: whole after every step, private, of one engine."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gantry.deployment.engine.state import Resource, State, exclusive
from gantry.deployment.engine.values import EngineError, secret

NET = Resource("urn:pulumi:s::p::t::net", "t", id="1", inputs={"key": secret("hush")})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "passphrase").write_text("words")
    return tmp_path / "s.json"


def _open(file: Path) -> State:
    return State(file, "s", file.with_name("passphrase"))


def test_what_was_put_is_read_again(file: Path) -> None:
    _open(file).put(NET)
    again = _open(file)
    assert again.resources == {NET.urn: NET}
    assert "hush" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["engine"] == "gantry"
    again.drop(NET)
    assert not file.exists()


def test_begun_step_stays_in_the_file_until_it_ends(file: Path) -> None:
    state = _open(file)
    with contextlib.suppress(RuntimeError), state.step(NET, "creating"):
        assert _open(file).pending[NET.urn].type == "creating"
        raise RuntimeError
    assert not file.exists()
    with state.step(NET, "creating"):
        state.put(NET)
        assert not _open(file).pending
    assert _open(file).resources


def test_replaced_resource_waits_beside_its_replacement(file: Path) -> None:
    state = _open(file)
    state.put(NET)
    state.doom(NET)
    state.put(replace(NET, id="2"))
    again = _open(file)
    assert [(r.id, r.delete) for r in again.everything()] == [("2", False), ("1", True)]
    again.drop(again.doomed[0])
    assert [r.id for r in again.everything()] == ["2"]


def test_rename_reaches_those_that_refer_to_it(file: Path) -> None:
    state = _open(file)
    child = Resource("u::child", "t", parent=NET.urn, dependencies=(NET.urn,))
    state.put(NET)
    state.put(child)
    state.rename(NET.urn, replace(NET, urn="u::new"))
    found = _open(file).resources
    assert set(found) == {"u::new", "u::child"}
    assert found["u::child"].needs == {"u::new"}


@pytest.mark.parametrize("text", ['{"engine": "other", "format": 1}', "{half"])
def test_file_that_is_not_ours(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(EngineError, match=r"is of engine 'other'|is damaged"):
        _open(file)


def test_lock_is_free_again(file: Path) -> None:
    lock = file.with_suffix(".lock")
    with exclusive(lock, "s"), pytest.raises(EngineError, match="worked on"), exclusive(lock, "s"):
        pass
    with exclusive(lock, "s"):
        pass
