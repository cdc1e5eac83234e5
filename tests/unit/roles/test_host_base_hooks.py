"""Hooks 10-hostname and 15-time-servers: what they take, refuse and write."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

HOOKS = Path(__file__).parents[3] / "roles/host_base/files/config.d"
UUID = "0123456789abcdef0123456789abcdef"
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1 raspberrypi old\n"


def load(name: str) -> ModuleType:
    # The hooks are programs, without .py in their names.
    loader = SourceFileLoader(name.replace("-", "_"), str(HOOKS / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


hostname = load("10-hostname")
time_servers = load("15-time-servers")


def run(
    hook: str, folder: Path, config: dict[str, object], **environment: str
) -> subprocess.CompletedProcess[str]:
    """The hook as gantry-config runs it, with its places in a folder of the test's."""
    (folder / "config.json").write_text(json.dumps(config))
    told = {
        "GANTRY_CONFIG": str(folder / "config.json"),
        "GANTRY_BOOTED": "0",
        "GANTRY_UUID": str(config.get("uuid", "")),
        "GANTRY_ETC": str(folder),
        "GANTRY_SOURCES": str(folder / "run" / "gantry.sources"),
        "PATH": f"{folder}:{os.environ['PATH']}",
        **environment,
    }
    command = [sys.executable, str(HOOKS / hook)]
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("config", "uuid", "expected"),
    [
        ({"hostname": "lab-robot"}, UUID, "lab-robot"),
        ({"hostname": "lab.example.org"}, "", "lab.example.org"),
        ({"hostname": "7"}, "", "7"),
        ({"hostname": ""}, UUID, "0123456"),
        ({"hostname": None}, UUID, "0123456"),
        ({}, UUID, "0123456"),
        ({}, "", ""),
    ],
)
def test_names(config: dict[str, object], uuid: str, expected: str) -> None:
    assert hostname.wanted_name(config, uuid) == expected


@pytest.mark.parametrize(
    "name",
    [
        "my robot",
        "-a",
        "a-",
        "a..b",
        "a.",
        ".a",
        "a_b",
        "röbi",
        "a/../b",
        "a\nb",
        "a" * 64,
        "$(id)",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a host's name: use letters"):
        hostname.wanted_name({"hostname": name}, UUID)


def test_hosts_names_this_host_once() -> None:
    text = hostname.hosts_with(HOSTS, "lab")
    assert text == "127.0.0.1\tlocalhost\n127.0.1.1\tlab\n::1\tlocalhost ip6-localhost\n"
    assert hostname.hosts_with(text, "lab") == text
    assert hostname.hosts_with("", "lab") == "127.0.1.1\tlab\n"


def test_the_hook_writes_once(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    (tmp_path / "hostname").write_text("raspberrypi\n")
    first = run("10-hostname", tmp_path, {"hostname": "lab-robot"})
    assert (first.returncode, first.stdout) == (0, "hostname: this host is lab-robot\n")
    assert (tmp_path / "hostname").read_text() == "lab-robot\n"
    assert "127.0.1.1\tlab-robot\n" in (tmp_path / "hosts").read_text()
    again = run("10-hostname", tmp_path, {"hostname": "lab-robot"})
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert sorted(os.listdir(tmp_path)) == ["config.json", "hostname", "hosts"]


def test_without_a_name_nothing_is_written(tmp_path: Path) -> None:
    done = run("10-hostname", tmp_path, {})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_wrong_name_changes_nothing_and_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    done = run("10-hostname", tmp_path, {"hostname": "my robot", "uuid": UUID})
    assert done.returncode == 1
    assert done.stderr.startswith("hostname: hostname 'my robot' cannot be a host's name")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "hosts").read_text() == HOSTS
    assert not (tmp_path / "hostname").exists()


def test_a_file_that_cannot_be_replaced_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_text("old\n")

    # As a file that a container engine has mounted answers.
    def busy(source: str, target: Path) -> None:
        raise OSError(16, os.strerror(16))

    monkeypatch.setattr(hostname.os, "replace", busy)
    assert hostname.replace(path, "new\n")
    assert path.read_text() == "new\n"
    assert os.listdir(tmp_path) == ["hosts"]


def test_a_read_only_root_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(hostname.tempfile, "mkstemp", read_only)
    assert not hostname.replace(tmp_path / "hosts", "new\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", ""),
        ("time.example.org", "pool time.example.org iburst\n"),
        ("192.0.2.7  2001:db8::7", "pool 192.0.2.7 iburst\npool 2001:db8::7 iburst\n"),
    ],
)
def test_time_servers(setting: str, expected: str) -> None:
    assert time_servers.sources_of(setting) == expected


@pytest.mark.parametrize("setting", ["a;b", "-x", "time,example", "a#b", "time.", "::g"])
def test_time_servers_that_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="is no server's name or address"):
        time_servers.sources_of(f"time.example.org {setting}")


def test_time_servers_come_and_go(tmp_path: Path) -> None:
    # The machine's own chrony, if there is one, is not to be asked.
    (tmp_path / "chronyc").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    (tmp_path / "chronyc").chmod(0o755)
    sources = tmp_path / "run" / "gantry.sources"
    set_ = run("15-time-servers", tmp_path, {"ntpServers": "192.0.2.7"}, GANTRY_BOOTED="1")
    assert (set_.returncode, set_.stdout) == (0, "time-servers: 192.0.2.7\n")
    assert sources.read_text() == "pool 192.0.2.7 iburst\n"
    again = run("15-time-servers", tmp_path, {"ntpServers": "192.0.2.7"}, GANTRY_BOOTED="1")
    assert (again.returncode, again.stdout) == (0, "")
    refused = run("15-time-servers", tmp_path, {"ntpServers": "a;b"}, GANTRY_BOOTED="1")
    assert refused.returncode == 1
    assert sources.exists()
    gone = run("15-time-servers", tmp_path, {}, GANTRY_BOOTED="1")
    assert (gone.returncode, gone.stdout) == (0, "time-servers: as Ansible set them\n")
    assert not sources.exists()
    assert (tmp_path / "asked").read_text() == "reload sources\n" * 2
