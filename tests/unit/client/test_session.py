"""Sessions and which fleet is meant."""

import stat
from pathlib import Path

import pytest

from gantry.client import session
from gantry.client.errors import ClientError, NotAuthorisedError
from gantry.client.session import Session

SESSION = Session("https://api.devbots.gantry.internal:8443", "admin", "s3cret")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANTRY_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("GANTRY_FLEET", raising=False)
    return tmp_path


def test_a_session_is_kept_for_its_owner_only(home: Path) -> None:
    session.save("devbots", SESSION)
    path = home / "devbots" / "session.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert session.load("devbots") == SESSION
    assert [each.name for each in path.parent.iterdir()] == ["session.json"]


def test_fields_of_other_versions_do_no_harm(home: Path) -> None:
    session.save("devbots", SESSION)
    path = home / "devbots" / "session.json"
    path.write_text(path.read_text().replace("{", '{"later": 1,', 1))
    assert session.load("devbots") == SESSION


def test_no_session_and_a_damaged_one_say_what_to_do(home: Path) -> None:
    with pytest.raises(NotAuthorisedError, match="`gantry login --fleet devbots`"):
        session.load("devbots")
    assert not (home / "devbots").exists()
    (home / "devbots").mkdir()
    (home / "devbots" / "session.json").write_text("{")
    with pytest.raises(ClientError, match="log in again"):
        session.load("devbots")


def test_which_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.choose_fleet(None) == "devbots"
    session.save("testingbots", SESSION)
    assert session.choose_fleet(None) == "testingbots"
    session.save("usertestingbots", SESSION)
    assert session.choose_fleet(None) == "devbots"
    monkeypatch.setenv("GANTRY_FLEET", "usertestingbots")
    assert session.choose_fleet(None) == "usertestingbots"
    assert session.choose_fleet("other") == "other"
    assert session.forget("testingbots")
    assert not session.forget("testingbots")
