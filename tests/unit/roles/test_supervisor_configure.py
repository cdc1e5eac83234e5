"""config.json on a device: what is merged, what is never lost, what is refused."""

import importlib
import json
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "roles/supervisor/files"))
configure: ModuleType = importlib.import_module("gantry_supervisor.configure")
files: ModuleType = importlib.import_module("gantry_supervisor.files")

FLEET: dict[str, Any] = {
    "apiEndpoint": "https://api.devbots.gantry.internal:8443",
    "applicationId": "3",
    "apiKey": "provisioning-key",
    "deviceType": "raspberrypi3-64",
    "balenaRootCA": "Q0E=",
}
IDENTITY: dict[str, Any] = {
    "uuid": "0123456789abcdef0123456789abcdef",
    "deviceApiKey": "own-key",
    "deviceId": 77,
    "registered_at": 1700000000000,
}
REGISTERED = {key: value for key, value in FLEET.items() if key != "apiKey"} | IDENTITY
ELSEWHERE = {**FLEET, "apiEndpoint": "https://api.testingbots.gantry.internal:8444"}


def test_a_new_device_gets_what_is_given() -> None:
    assert configure.merged({}, FLEET) == FLEET


def test_unknown_keys_and_the_users_settings_stay() -> None:
    current = {"hostname": "robot", "somethingNew": {"kept": [1]}, "persistentLogging": True}
    assert configure.merged(current, FLEET) == {**current, **FLEET}


def test_a_registered_device_keeps_its_identity_and_gets_no_fleet_key() -> None:
    result = configure.merged(REGISTERED, {**FLEET, "appUpdatePollInterval": 60000})
    assert result == {**REGISTERED, "appUpdatePollInterval": 60000}


def test_a_device_on_its_way_to_registering_keeps_name_and_key() -> None:
    current = FLEET | {"uuid": IDENTITY["uuid"], "deviceApiKey": "own-key"}
    assert configure.merged(current, FLEET) == current


def test_merging_twice_changes_nothing() -> None:
    once = configure.merged(REGISTERED, FLEET)
    assert configure.merged(once, FLEET) == once


def test_the_same_fleet_in_other_words_is_no_move() -> None:
    same = {**FLEET, "apiEndpoint": "https://API.devbots.gantry.internal:8443/", "applicationId": 3}
    assert configure.moves(REGISTERED, same) == ""
    assert configure.merged(REGISTERED, same)["uuid"] == IDENTITY["uuid"]


@pytest.mark.parametrize("given", [ELSEWHERE, {**FLEET, "applicationId": "4"}])
def test_a_registered_device_is_not_moved_unasked(given: dict[str, Any]) -> None:
    with pytest.raises(configure.MoveError, match="supervisor_allow_move") as error:
        configure.merged(REGISTERED, given)
    assert "device 0123456 of application 3" in str(error.value)
    assert "own-key" not in str(error.value)


def test_a_moved_device_loses_identity_and_fleet_and_keeps_its_settings() -> None:
    current = REGISTERED | {"hostname": "robot", "logsEndpoint": "https://logs.old", "unknown": 1}
    result = configure.merged(current, ELSEWHERE, allow_move=True)
    assert result == {**ELSEWHERE, "hostname": "robot", "unknown": 1}


def test_a_device_that_is_not_registered_yet_changes_its_fleet_freely() -> None:
    assert configure.merged({**FLEET, "hostname": "a"}, ELSEWHERE) == {**ELSEWHERE, "hostname": "a"}


def test_another_identity_than_the_devices_is_refused() -> None:
    given = {**FLEET, "uuid": "f" * 32}
    with pytest.raises(configure.MoveError, match="another uuid than device 0123456"):
        configure.merged(REGISTERED, given)


def test_an_identity_made_beforehand_is_taken() -> None:
    assert configure.merged({}, REGISTERED) == REGISTERED


def test_who_leaves_a_fleet_keeps_its_own_settings() -> None:
    left = configure.forgotten(REGISTERED | {"hostname": "robot", "listenPort": 48484})
    assert left == {"deviceType": "raspberrypi3-64", "hostname": "robot", "listenPort": 48484}


def test_the_file_is_roots_alone_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"hostname": "robot"}')
    done = configure.apply(path, FLEET, False)
    assert done == [f"{path}: apiEndpoint, apiKey, applicationId, balenaRootCA, deviceType"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {**FLEET, "hostname": "robot"}
    before = path.stat()
    assert configure.apply(path, FLEET, False) == []
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.json"]


def test_others_lose_the_right_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FLEET))
    path.chmod(0o644)
    assert configure.apply(path, FLEET, False) == [f"{path}: for root alone"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_done_is_told_without_values(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REGISTERED))
    told = " ".join(configure.apply(path, ELSEWHERE, True))
    assert told.startswith("moved device 0123456 of application 3 at https://api.devbots")
    assert "provisioning-key" not in told
    assert "own-key" not in told


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_a_broken_file_is_refused_and_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(files.FileError, match="correct or remove it"):
        configure.apply(path, FLEET, False)
    assert path.read_bytes() == content.encode("latin-1")


def test_the_reason_quotes_nothing_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"deviceApiKey": "own-key"')
    with pytest.raises(files.FileError) as error:
        configure.read(path)
    assert "own-key" not in str(error.value)


@pytest.mark.parametrize("left", [None, "", '{"uui'])
def test_a_write_that_lost_power_is_ended(tmp_path: Path, left: str | None) -> None:
    path = tmp_path / "config.json"
    if left is not None:
        path.write_text(left)
    (tmp_path / "config.json.tmp").write_text(json.dumps(REGISTERED))
    assert configure.apply(path, {"hostname": "robot"}, False) == [f"{path}: hostname"]
    assert json.loads(path.read_text()) == REGISTERED | {"hostname": "robot"}


def test_half_a_copy_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REGISTERED))
    (tmp_path / "config.json.tmp").write_text('{"uuid": ')
    assert configure.read(path) == REGISTERED


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REGISTERED))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    # No disk of a test's own is at hand; the error is the kernel's.
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(files.FileError, match=r"cannot be written \(No space left on device\)"):
        configure.apply(path, {"hostname": "robot"}, False)
    assert json.loads(path.read_text()) == REGISTERED
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]
