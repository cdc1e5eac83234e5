"""Module host_units: what systemctl is asked and told."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROLE = Path(__file__).parents[3] / "roles" / "device_config"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# Ansible puts a role's module_utils there.
load("ansible.module_utils.gantry_config", ROLE / "module_utils" / "gantry_config.py")
module = load("host_units", ROLE / "library" / "host_units.py")
Wanted, State = module.Wanted, module.State


def test_nothing_is_done_where_all_is_as_wanted() -> None:
    wanted = Wanted(enabled=["a", "b"], disabled=["c", "d"], started=["a"], stopped=["c", "d"])
    found = {
        "a": State("enabled", "activating"),
        "b": State("static", "inactive"),
        "c": State("masked", "inactive"),
        "d": State("indirect", "failed"),
    }
    assert module.plan(wanted, found, reload=False) == []
    assert module.plan(wanted, found, reload=True) == [["daemon-reload"]]


def test_what_differs_is_one_command_each_and_in_order() -> None:
    off, on = State("disabled", "inactive"), State("enabled", "active")
    wanted = Wanted(["a", "b"], ["c"], ["a", "b"], ["c"], ["d"])
    assert wanted.names() == ["a", "b", "c", "d"]
    # Enabling and disabling reads the units again already.
    assert module.plan(wanted, {"a": off, "b": off, "c": on, "d": on}, reload=True) == [
        ["disable", "c"],
        ["enable", "a", "b"],
        ["stop", "c"],
        ["start", "a", "b"],
        ["restart", "d"],
    ]


@pytest.mark.parametrize("active", ["deactivating", "active", "activating", "reloading"])
def test_what_is_still_there_is_stopped(active: str) -> None:
    plan = module.plan(Wanted(stopped=["a"]), {"a": State("disabled", active)}, reload=False)
    assert plan == [["stop", "a"]]


def test_a_unit_that_is_newer_than_what_systemd_knows_is_read_again_first() -> None:
    found = {"a": State("enabled", "inactive", stale=True)}
    assert module.plan(Wanted(enabled=["a"], started=["a"]), found, reload=False) == [
        ["daemon-reload"],
        ["start", "a"],
    ]


def systemctl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for systemctl, which is there only where systemd is PID 1."""
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_what_restarts_by_itself_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "LoadState=loaded\\nUnitFileState=enabled\\nNeedDaemonReload=no\\nActiveState="
    systemctl(
        tmp_path,
        f"if mkdir {tmp_path}/asked 2>/dev/null; then printf '{said}deactivating\\n'; "
        f"else printf '{said}activating\\n'; fi",
        monkeypatch,
    )
    assert module.settled(["a"], []) == {"a": State("enabled", "deactivating")}
    (tmp_path / "asked").rmdir()
    assert module.settled(["a"], ["a"]) == {"a": State("enabled", "activating")}
    # One that never ends is not waited for without end.
    monkeypatch.setattr(module, "ENDING_SECONDS", 0)
    (tmp_path / "asked").rmdir()
    assert module.settled(["a"], ["a"]) == {"a": State("enabled", "deactivating")}


def test_states_are_those_of_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "ActiveState=active\\nLoadState=%s\\nUnitFileState=%s\\nNeedDaemonReload=%s\\n"
    systemctl(
        tmp_path,
        f"printf '{block}' loaded enabled no; printf '\\n{block}' \"${{STATE:-masked}}\" '' yes",
        monkeypatch,
    )
    assert module.states(["a", "b"]) == {
        "a": State("enabled", "active"),
        "b": State("", "active", stale=True),
    }
    monkeypatch.setenv("STATE", "not-found")
    with pytest.raises(module.UnitError, match="there is no unit b"):
        module.states(["a", "b"])


@pytest.mark.parametrize("version", ["Failed to get unit file state for b: no such", "not-found"])
def test_states_of_files(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = f"echo '{version}'" + (" >&2" if " " in version else "")
    systemctl(
        tmp_path, f'[ "$2" = a ] && echo enabled || {{ {says}; exit ${{STATUS:-1}}; }}', monkeypatch
    )
    assert module.states_of_files(["a"]) == {"a": State("enabled", "inactive")}
    with pytest.raises(module.UnitError, match="there is no unit b"):
        module.states_of_files(["a", "b"])
    monkeypatch.setenv("STATUS", "7")
    with pytest.raises(module.UnitError, match="systemctl is-enabled b: "):
        module.states_of_files(["b"])
