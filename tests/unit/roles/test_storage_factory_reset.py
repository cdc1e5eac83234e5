"""gantry-factory-reset: what goes and what stays, and a power loss at any moment of it."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "storage" / "files" / "gantry_factory_reset.py"
CONFIG = {
    "uuid": "0" * 32,
    "deviceApiKey": "secret-of-the-device",
    "apiKey": None,
    "apiEndpoint": "https://api.devbots.gantry.internal:8443",
    "applicationId": 7,
    "balenaRootCA": "Y2E=",
    "hostname": "robot",
    "persistentLogging": True,
    "somethingUnknown": {"kept": "always"},
}
OWNERS = {key: CONFIG[key] for key in ("hostname", "persistentLogging", "somethingUnknown")}


class PowerLoss(BaseException):
    """Nothing runs after it, not even what cleans up."""


@pytest.fixture
def reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program on a device with things in all places."""
    spec = importlib.util.spec_from_file_location("gantry_factory_reset", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    boot, state, data = (tmp_path / each for each in ("boot", "state", "data"))
    for name, path in {
        "BOOT": boot,
        "STATE": state,
        "DATA": data,
        "REQUEST": boot / "factory-reset",
        "CONFIG": boot / "config.json",
    }.items():
        monkeypatch.setattr(module, name, path)
    (boot / "system-connections").mkdir(parents=True)
    (boot / "system-connections/wifi").write_text("[connection]")
    (boot / "config.json").write_text(json.dumps(CONFIG))
    for path in (
        "state/gantry/ssh/ssh_host_ed25519_key",
        "state/gantry/ssh/ssh_host_ed25519_key.pub",
        "state/gantry/ssh/authorized_keys",
        "state/gantry/config.last-good.json",
        "state/root-overlay/etc/machine-id",
        "state/root-overlay/etc/NetworkManager/system-connections/home",
        "state/journal/log",
        "state/lost+found/#1",
        "data/docker/overlay2/layer/file",
        "data/supervisor/database.sqlite",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return module


def left(*folders: Path) -> set[str]:
    return {
        str(each.relative_to(folder.parent))
        for folder in folders
        for each in folder.rglob("*")
        if not each.is_dir()
    }


IDENTITY = {
    "state/gantry/ssh/ssh_host_ed25519_key",
    "state/gantry/ssh/ssh_host_ed25519_key.pub",
    "state/lost+found/#1",
    "state/root-overlay/etc/machine-id",
}


def test_state_and_data_go_and_the_identity_stays(reset: ModuleType) -> None:
    assert reset.main(["--at-boot"]) == 0
    assert left(reset.DATA) == {
        "data/docker/overlay2/layer/file",
        "data/supervisor/database.sqlite",
    }
    assert reset.main(["--finish"]) == 0
    assert left(reset.STATE, reset.DATA) == IDENTITY
    assert not (reset.STATE / "journal").exists()
    assert left(reset.BOOT) == {"boot/config.json", "boot/system-connections/wifi"}
    assert json.loads(reset.CONFIG.read_text()) == CONFIG


def test_the_identity_goes_when_told(reset: ModuleType) -> None:
    assert reset.main(["--at-boot", "--forget-identity"]) == 0
    assert reset.main(["--finish"]) == 0
    assert left(reset.STATE, reset.DATA) == {"state/lost+found/#1"}
    assert json.loads(reset.CONFIG.read_text()) == OWNERS
    assert reset.CONFIG.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_a_request(reset: ModuleType) -> None:
    reset.REQUEST.touch()
    assert reset.main(["--finish"]) == 0
    assert left(reset.STATE, reset.DATA) == IDENTITY
    assert not reset.REQUEST.exists()


@pytest.mark.parametrize("lost_at", range(1, 12))
@pytest.mark.parametrize("forget", [False, True])
def test_a_power_loss_at_any_step_is_made_good_by_the_next_boot(
    reset: ModuleType, monkeypatch: pytest.MonkeyPatch, forget: bool, lost_at: int
) -> None:
    assert reset.main(["--at-boot", *(["--forget-identity"] if forget else [])]) == 0
    steps = 0

    def cut(function: Callable[..., object]) -> Callable[..., object]:
        def cutting(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps == lost_at:
                raise PowerLoss
            return function(*arguments, **named)

        return cutting

    # Each is a moment in which the disk changes.
    with monkeypatch.context() as patched:
        patched.setattr(reset.subprocess, "run", cut(reset.subprocess.run))
        patched.setattr(Path, "replace", cut(Path.replace))
        patched.setattr(Path, "unlink", cut(Path.unlink))
        patched.setattr(os, "fsync", cut(os.fsync))
        with pytest.raises(PowerLoss):
            reset.main(["--finish"])
    if reset.REQUEST.exists():
        assert reset.main(["--finish"]) == 0
    assert left(reset.STATE, reset.DATA) == ({"state/lost+found/#1"} if forget else IDENTITY)
    assert json.loads(reset.CONFIG.read_text()) == (OWNERS if forget else CONFIG)


@pytest.mark.parametrize("text", ["reset", "[]", '{"forgetIdentity": "yes"}', "\0\0\0"])
def test_what_is_not_understood_resets_nothing(
    reset: ModuleType, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    before = left(reset.STATE, reset.DATA)
    reset.REQUEST.write_text(text)
    assert reset.main(["--finish"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "is not understood, so nothing is reset: it may be empty" in line
    assert left(reset.STATE, reset.DATA) == before


def test_a_broken_config_json_is_said_before_anything_goes(
    reset: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = left(reset.STATE, reset.DATA)
    reset.CONFIG.write_text("{")
    assert reset.main(["--at-boot", "--forget-identity"]) == 1
    assert not reset.REQUEST.exists()
    reset.REQUEST.write_text('{"forgetIdentity": true}')
    assert reset.main(["--finish"]) == 1
    assert capsys.readouterr().err.count("config.json cannot be read") == 2
    assert left(reset.STATE, reset.DATA) == before


def test_a_boot_partition_that_cannot_be_written_resets_nothing(
    reset: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the device would be emptied at each boot."""
    before = left(reset.STATE, reset.DATA)
    reset.REQUEST.touch()

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(reset, "write_whole", refuse)
    assert reset.main(["--finish"]) == 1
    assert "cannot be written (Read-only file system), so nothing" in capsys.readouterr().err
    assert left(reset.STATE, reset.DATA) == before


def test_links_are_removed_and_not_followed(reset: ModuleType, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (reset.DATA / "link").symlink_to(outside)
    (reset.DATA / "docker/link").symlink_to(outside)
    reset.REQUEST.touch()
    assert reset.main(["--finish"]) == 0
    assert (outside / "file").exists()
    assert left(reset.DATA) == set()


def test_folders_deeper_than_python_goes(reset: ModuleType) -> None:
    here = os.getcwd()
    try:
        os.chdir(reset.DATA)
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)
    reset.REQUEST.touch()
    assert reset.main(["--finish"]) == 0
    assert list(reset.DATA.iterdir()) == []


def test_nobody_is_asked_without_a_terminal(
    reset: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert reset.main([]) == 1
    assert "nobody can be asked: say --yes" in capsys.readouterr().err
    assert not reset.REQUEST.exists()
