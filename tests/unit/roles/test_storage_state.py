"""gantry-state: copies that are whole or absent, the machine id, and what cannot be kept.

Binding needs mounts: molecule/storage has the program on a booted system.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "storage" / "files" / "gantry_state.py"
OWN, KEPT, OTHER = "1" * 32, "2" * 32, "3" * 32


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with its places below `tmp_path`; `mount` is recorded in `module.mounted`."""
    spec = importlib.util.spec_from_file_location("gantry_state", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    kept = tmp_path / "state"
    kept.mkdir()
    monkeypatch.setattr(module, "STATE", kept)
    monkeypatch.setattr(module, "KEPT", kept / "root-overlay")
    monkeypatch.setattr(module, "UNFINISHED", kept / ".unfinished")
    monkeypatch.setattr(module, "WRITABLE_ONCE", kept / "gantry/root-writable")
    monkeypatch.setattr(module, "SETTINGS", tmp_path / "storage.json")
    monkeypatch.setattr(module, "MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(module, "CMDLINE", tmp_path / "cmdline.txt")
    monkeypatch.setattr(module, "FSTAB", tmp_path / "fstab")
    monkeypatch.setattr(module, "root_is_read_only", lambda: False)
    really = module.run
    module.__dict__["mounted"] = []

    def run(*command: str) -> None:
        """All but mounting, which needs a system of its own."""
        if command[0] == "mount":
            module.mounted.append(command[1:])
        else:
            really(*command)

    monkeypatch.setattr(module, "run", run)
    return module


def settings(state: ModuleType, *paths: str, read_only: bool = False) -> None:
    given = {
        "persistent_paths": paths,
        "read_only_root": read_only,
        "volatile_paths": ["/etc"],
        "volatile_size": "25%",
    }
    state.SETTINGS.write_text(json.dumps(given))


def place(state: ModuleType, path: Path) -> Path:
    return Path(str(state.KEPT) + str(path))


def test_a_folder_is_copied_whole_with_owners_and_modes(state: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "root/var/lib/thing"
    (folder / "deep").mkdir(parents=True, mode=0o750)
    (folder / "deep/file").write_text("kept")
    (folder / "deep/file").chmod(0o640)
    (folder / "link").symlink_to("deep/file")
    folder.chmod(0o700)
    settings(state, f"{folder}/")
    assert state.start() == 0
    copy = place(state, folder)
    assert (copy / "deep/file").read_text() == "kept"
    assert (copy / "deep/file").stat().st_mode & 0o777 == 0o640
    assert (copy / "link").readlink() == Path("deep/file")
    assert copy.stat().st_mode & 0o777 == 0o700
    assert state.mounted == [("--bind", str(copy), str(folder))]
    assert sorted(each.name for each in state.STATE.iterdir()) == ["root-overlay"]


def test_what_is_kept_wins_over_the_root(state: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "root/etc/thing"
    folder.mkdir(parents=True)
    (folder / "file").write_text("from the image")
    copy = place(state, folder)
    copy.mkdir(parents=True)
    (copy / "file").write_text("from the device")
    settings(state, f"{folder}/")
    assert state.start() == 0
    assert (copy / "file").read_text() == "from the device"


def test_half_a_copy_of_a_power_loss_is_made_anew(state: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "root/etc/thing"
    folder.mkdir(parents=True)
    (folder / "a").write_text("whole")
    half = state.UNFINISHED / "thing"
    half.mkdir(parents=True)
    (half / "a").write_text("ha")
    (half / "b").write_text("of another time")
    settings(state, f"{folder}/")
    assert state.start() == 0
    copy = place(state, folder)
    assert {each.name: each.read_text() for each in copy.iterdir()} == {"a": "whole"}


def test_a_copy_that_fails_leaves_nothing_and_the_others_go_on(
    state: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad, good = tmp_path / "root/bad", tmp_path / "root/good"
    bad.mkdir(parents=True)
    good.mkdir()
    usual = state.run

    def full(*command: str) -> None:
        usual(*command)
        if command[0] == "cp" and command[-2] == str(bad):
            raise state.StateError("cp: No space left on device")

    monkeypatch.setattr(state, "run", full)
    settings(state, f"{bad}/", f"{good}/")
    assert state.start() == 1
    assert capsys.readouterr().err == f"gantry-state: {bad}: cp: No space left on device\n"
    assert not place(state, bad).exists()
    assert place(state, good).is_dir()
    assert state.mounted == [("--bind", str(place(state, good)), str(good))]


def test_missing_paths_are_made_or_left_alone(state: ModuleType, tmp_path: Path) -> None:
    folder, file, left = (tmp_path / "root" / each for each in ("folder", "seed", "left"))
    settings(state, f"{folder}/", str(file), f"-{left}", f"-{left}/")
    assert state.start() == 0
    assert folder.is_dir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not left.exists()
    assert [each[2] for each in state.mounted] == [str(folder), str(file)]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_another_kind_is_not_kept(
    state: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "thing"
    if kind == "file":
        path.write_text("")
    else:
        path.symlink_to(tmp_path)
    settings(state, f"{path}/")
    assert state.start() == 1
    assert capsys.readouterr().err == f"gantry-state: {path}: it is no folder on the root\n"
    assert state.mounted == []


def test_what_is_bound_already_is_not_bound_again(state: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_text("seed")
    copy = place(state, file)
    copy.parent.mkdir(parents=True)
    os.link(file, copy)  # one inode, as under a bind mount
    settings(state, str(file))
    assert state.start() == 0
    assert state.mounted == []


def machine_id(state: ModuleType, own: str | None, kept: str | None) -> Path:
    settings(state, str(state.MACHINE_ID))
    if own is not None:
        state.MACHINE_ID.write_text(own)
    copy = place(state, state.MACHINE_ID)
    if kept is not None:
        copy.parent.mkdir(parents=True)
        copy.write_text(kept)
    return copy


@pytest.mark.parametrize(
    ("own", "kept", "expected"),
    [
        (f"{OWN}\n", None, OWN),
        (f"{OWN}\n", f"{KEPT}\n", KEPT),
        (f"{OWN}\n", "half of it", OWN),
        ("uninitialized\n", f"{KEPT}\n", KEPT),
        ("", f"{KEPT}\n", KEPT),
        (None, f"{KEPT}\n", KEPT),
    ],
)
def test_the_kept_machine_id_wins_and_is_not_bound(
    state: ModuleType, own: str | None, kept: str | None, expected: str
) -> None:
    copy = machine_id(state, own, kept)
    assert state.start() == 0
    assert copy.read_text() == state.MACHINE_ID.read_text() == f"{expected}\n"
    assert state.mounted == []


def test_without_any_machine_id_nothing_is_kept(state: ModuleType) -> None:
    copy = machine_id(state, "uninitialized\n", None)
    assert state.start() == 0
    assert not copy.exists()


@pytest.mark.parametrize("line", ["root=/dev/x rw", f"root=/dev/x rw systemd.machine_id={OTHER}"])
def test_the_kernel_is_told_where_the_root_cannot_be(
    state: ModuleType, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    machine_id(state, "uninitialized\n", f"{KEPT}\n")
    monkeypatch.setattr(state, "root_is_read_only", lambda: True)
    state.CMDLINE.write_text(f"{line}\n")
    assert state.start() == 0
    assert state.CMDLINE.read_text() == f"root=/dev/x rw systemd.machine_id={KEPT}\n"


def test_the_kernels_line_stays_where_the_root_can_be_written(state: ModuleType) -> None:
    machine_id(state, OWN, None)
    state.CMDLINE.write_text("root=/dev/x rw\n")
    assert state.start() == 0
    assert state.CMDLINE.read_text() == "root=/dev/x rw\n"


def test_writable_for_one_boot(
    state: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(state, read_only=True)
    assert state.main(["writable"]) == 0
    assert state.WRITABLE_ONCE.exists()
    monkeypatch.setattr(state, "root_is_read_only", lambda: not state.mounted)
    assert state.start() == 0
    assert state.mounted == [("--options-source=mtab", "-o", "remount,rw", "/")]
    assert not state.WRITABLE_ONCE.exists()
    assert "until the device restarts" in capsys.readouterr().out


def test_a_root_that_stays_read_only_has_its_layers(
    state: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(state, read_only=True)
    assert state.main(["writable"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(state, "root_is_read_only", lambda: True)
    layered: list[tuple[list[str], str]] = []

    def layers(paths: list[str], size: str) -> list[str]:
        layered.append((paths, size))
        return []

    def broken() -> None:
        raise state.StateError("mount: cannot remount")

    monkeypatch.setattr(state, "layers", layers)
    monkeypatch.setattr(state, "remount", broken)
    assert state.start() == 1
    assert layered == [(["/etc"], "25%")]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "gantry-state: /: mount: cannot remount\n")
    assert not state.WRITABLE_ONCE.exists()


def test_a_writable_root_needs_nothing(
    state: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(state)
    assert state.main(["writable"]) == 0
    assert not state.WRITABLE_ONCE.exists()
    assert "can be written already" in capsys.readouterr().out


@pytest.mark.parametrize("commented", [False, True])
def test_a_state_partition_that_is_missing_is_said_and_its_folder_not_used(
    state: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], commented: bool
) -> None:
    folder = tmp_path / "root/thing"
    folder.mkdir(parents=True)
    settings(state, f"{folder}/")
    state.FSTAB.write_text(f"\n{'#' * commented}LABEL=resin-state {state.STATE} auto nofail 0 2\n")
    assert state.start() == (0 if commented else 1)
    assert ("is not mounted: nothing persists" in capsys.readouterr().err) is not commented
    assert list(state.STATE.iterdir()) == ([state.KEPT] if commented else [])


def test_settings_that_are_not_there_are_said_in_one_line(
    state: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert state.main(["start"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "storage.json" in line
