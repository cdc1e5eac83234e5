"""gantry-config: what it reads, what it refuses, and what its hooks are told."""

import functools
import importlib.util
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/device_config/module_utils/gantry_config.py"
UUID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with its places in a folder of the test's."""
    for name in ("boot", "hooks", "run", "state"):
        (tmp_path / name).mkdir()
    places = {
        "GANTRY_BOOT": "boot",
        "GANTRY_RUN": "run",
        "GANTRY_HOOKS": "hooks",
        "GANTRY_DEVICE": "device.json",
        "GANTRY_LAST_GOOD": "state/last.json",
        "GANTRY_STATE": "state",
        "GANTRY_FSTAB": "fstab",
    }
    for name, place in places.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    spec = importlib.util.spec_from_file_location("gantry_config", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_hook(folder: Path, name: str, script: str, mode: int = 0o755) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"hostname": "a"', "is not JSON"),
        ("[]", "is a list: it must be an object"),
        ('"a"', "is a text: it must be an object"),
        ("null", "is null: it must be an object"),
        ('{"hostname": 7}', "hostname is a number: it must be a text"),
        ('{"persistentLogging": "true"}', "persistentLogging is a text: it must be true or false"),
        ('{"persistentLogging": 1}', "persistentLogging is a number: it must be true or false"),
        ('{"listenPort": "http"}', "listenPort is a text: it must be a number"),
        ('{"listenPort": true}', "listenPort is true or false: it must be a number"),
        ('{"os": []}', "os is a list: it must be an object"),
        ('{"uuid": "abc"}', "uuid is not 32 or 62 hexadecimal digits"),
        (
            '{"hostname": 7, "ntpServers": []}',
            "hostname is a number: it must be a text; ntpServers",
        ),
    ],
)
def test_what_is_refused(program: ModuleType, text: str, problem: str) -> None:
    with pytest.raises(program.ConfigError) as error:
        program.parse(text)
    assert problem in str(error.value)


def test_values_are_never_said(program: ModuleType) -> None:
    with pytest.raises(program.ConfigError) as error:
        program.parse('{"apiKey": ["s3cret"], "hostname": 1234}')
    assert "s3cret" not in str(error.value)
    assert "1234" not in str(error.value)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"applicationId": "2167", "userId": 141, "vpnPort": "443"},
        {"hostname": "", "uuid": None, "persistentLogging": None},
        {"unknown": [1, {"a": 2}], "mixpanelToken": "x", "os": {"network": {}}},
        {"uuid": UUID},
    ],
)
def test_what_is_taken_as_it_is(program: ModuleType, document: dict[str, object]) -> None:
    assert program.parse(json.dumps(document)) == document


def test_a_byte_order_mark_is_no_error(program: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "boot" / "config.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert program.read(path) == {}
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(program.ConfigError, match="is not UTF-8"):
        program.read(path)


def test_hooks_run_in_order_and_are_told(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boot/config.json").write_text(json.dumps({"uuid": UUID, "apiKey": "s3cret"}))
    (tmp_path / "device.json").write_text('{"variant": "development"}')
    told = 'echo "$GANTRY_UUID $GANTRY_VARIANT $GANTRY_BOOT"; stat -c %a "$GANTRY_CONFIG"'
    write_hook(
        tmp_path / "hooks", "20-second", f'{told}; env | grep -c s3cret; cat "$GANTRY_CONFIG"'
    )
    write_hook(tmp_path / "hooks", "10-first", "echo first")
    write_hook(tmp_path / "hooks", "README", "echo no program", mode=0o644)
    assert program.main(["apply"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:4] == ["first", f"{UUID} development {tmp_path / 'boot'}", "600", "0"]
    assert json.loads(lines[4])["apiKey"] == "s3cret"
    # Nothing of it is left lying about.
    left = {each.name: each.read_text() for each in (tmp_path / "run").iterdir()}
    assert left.keys() == {"config.lock", "config.seen"}
    assert "s3cret" not in "".join(left.values())


def test_one_that_fails_does_not_keep_the_others(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_hook(tmp_path / "hooks", "10-bad", "echo 'bad: its key is wrong' >&2; exit 3")
    (tmp_path / "hooks/20-broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "hooks/20-broken").chmod(0o755)
    write_hook(tmp_path / "hooks", "30-good", "echo good")
    assert program.main(["apply"]) == 1
    said = capfd.readouterr()
    assert said.out == "good\n"
    assert "gantry-config: 10-bad: exit status 3" in said.err
    assert "gantry-config: 20-broken: cannot be run" in said.err


def test_a_hook_that_hangs_is_ended(
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "HOOK_SECONDS", 0.2)
    write_hook(tmp_path / "hooks", "10-slow", "exec sleep 60")
    assert program.main(["apply"]) == 1
    assert "10-slow: not done after 0.2 s" in capfd.readouterr().err


def test_hooks_by_name(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_hook(tmp_path / "hooks", "10-hostname", "echo hostname")
    write_hook(tmp_path / "hooks", "20-journal", "echo journal")
    assert program.main(["apply", "journal"]) == 0
    assert program.main(["apply", "10-hostname"]) == 0
    assert capfd.readouterr().out == "journal\nhostname\n"
    assert program.main(["apply", "splash"]) == 1
    assert "no hook 'splash'" in capfd.readouterr().err


def test_a_broken_file_gives_the_last_good_settings(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "boot/config.json"
    write_hook(tmp_path / "hooks", "10-show", 'cat "$GANTRY_CONFIG"; echo')
    config.write_text('{"hostname": "good"}')
    assert program.main(["apply"]) == 0
    assert stat.S_IMODE((tmp_path / "state/last.json").stat().st_mode) == 0o600
    config.write_text('{"hostname": "half')
    assert program.main(["apply"]) == 1
    said = capfd.readouterr()
    assert said.out.splitlines() == ['{"hostname": "good"}'] * 2
    assert "is not JSON" in said.err
    assert "The last good settings stay" in said.err
    assert config.read_text() == '{"hostname": "half'


def test_a_broken_file_at_first_runs_nothing(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boot/config.json").write_text("{")
    write_hook(tmp_path / "hooks", "10-show", "echo ran")
    assert program.main(["apply"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "Nothing was applied" in said.err
    assert not (tmp_path / "state/last.json").exists()


def test_no_file_is_no_error_and_no_last_good_one(program: ModuleType, tmp_path: Path) -> None:
    write_hook(tmp_path / "hooks", "10-empty", '[ "$(cat "$GANTRY_CONFIG")" = "{}" ]')
    assert program.main(["apply"]) == 0
    assert program.main(["check"]) == 0
    assert not (tmp_path / "state/last.json").exists()


def test_a_state_that_cannot_be_written_keeps_nothing_from_working(
    program: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "state").rmdir()
    (tmp_path / "state").write_text("a file in the folder's place")
    (tmp_path / "boot/config.json").write_text("{}")
    write_hook(tmp_path / "hooks", "10-ran", f"touch {tmp_path}/ran")
    assert program.main(["apply"]) == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("LABEL=resin-state {state} ext4 defaults,nofail 0 2", True),
        ("# LABEL=resin-state {state} ext4 defaults,nofail 0 2", False),
        ("LABEL=resin-data {state}-data ext4 defaults,nofail 0 2", False),
        ("", False),
    ],
)
def test_hooks_are_told_of_a_missing_state_partition_and_its_folder_stays_empty(
    program: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    line: str,
    missing: bool,
) -> None:
    (tmp_path / "fstab").write_text(f"proc /proc proc\n{line.format(state=tmp_path / 'state')}\n\n")
    (tmp_path / "boot/config.json").write_text("{}")
    write_hook(tmp_path / "hooks", "10-told", 'echo "$GANTRY_STATE_MISSING"')
    assert program.main(["apply"]) == 0
    assert capfd.readouterr().out == f"{missing:d}\n"
    assert [each.name for each in (tmp_path / "state").iterdir()] == ["last.json"] * (not missing)


def test_a_state_partition_that_is_mounted_is_not_missing(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mount that is there on any machine.
    monkeypatch.setattr(program, "STATE", Path("/proc"))
    (tmp_path / "fstab").write_text("LABEL=resin-state /proc ext4 defaults,nofail 0 2\n")
    assert not program.state_is_missing()


def test_what_is_saved_while_hooks_run_is_seen(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "boot/config.json"
    config.write_text('{"hostname": "first"}')
    second = json.dumps({"hostname": "second"})
    write_hook(
        tmp_path / "hooks",
        "10-show",
        f"cat \"$GANTRY_CONFIG\"; echo; [ -e {tmp_path}/done ] || echo '{second}' > {config}; "
        f"touch {tmp_path}/done",
    )
    assert program.main(["apply"]) == 0
    assert capfd.readouterr().out.splitlines() == ['{"hostname": "first"}', second]


def test_what_is_saved_after_a_run_is_noticed(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "boot/config.json"
    config.write_text('{"a": 1}')
    # Nothing ran yet, so there is nothing that a run could have missed.
    assert program.main(["missed"]) == 1
    write_hook(tmp_path / "hooks", "10-one", "true")
    saved = config.stat()

    def save() -> None:
        config.write_text('{"a": 2}')
        # On FAT, times are no finer than 2 seconds.
        os.utime(config, ns=(saved.st_atime_ns, saved.st_mtime_ns))

    def drop(name: str) -> None:
        (tmp_path / "boot" / name).mkdir()
        (tmp_path / "boot" / name / "fi\udc80le").write_text("1")

    drops = [functools.partial(drop, each) for each in program.FOLDERS]
    changes: list[Callable[[], None]] = [save, config.unlink, *drops]
    for change in changes:
        assert program.main(["apply"]) == 0
        assert program.main(["missed"]) == 1
        change()
        # A run of some hooks has not shown it to all.
        assert program.main(["apply", "one"]) == 0
        assert program.main(["missed"]) == 0
    assert capfd.readouterr() == ("", "")


def test_check_says_what_is_wrong_and_changes_nothing(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boot/config.json").write_text('{"localMode": "no"}')
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    assert program.main(["check"]) == 1
    assert "localMode is a text" in capfd.readouterr().err
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before


def test_write_whole_leaves_no_temporary_file(program: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        program.write_whole(path, "text")
    assert not [each for each in os.listdir(tmp_path) if each.startswith(".folder")]
