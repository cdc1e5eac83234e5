"""`gantry cp`: to a host and to a service's container, and back."""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.remote_world import service

BIG_BYTES = 64_000_000


@pytest.fixture(scope="module", params=["host", "service", "bare"])
def place(request: pytest.FixtureRequest, host: Any) -> Iterator[tuple[str, Any]]:
    """What stands behind the device's name, and how to look there: the device's own, or of a
    container with no more than a program in it."""
    if request.param == "host":
        host.run("mkdir -p /data")
        yield "", host.container
        return
    name = f"files-{secrets.token_hex(4)}"
    with service(host, name, bare=request.param == "bare") as container:
        if request.param == "service":
            container.exec_run(["mkdir", "-p", "/data"])
        yield f"/{name}", container


def tree(path: Path) -> dict[str, tuple[str, str]]:
    """All that is below, by name: what it is, and its content."""
    found = {}
    for each in sorted(path.rglob("*")):
        if each.is_symlink():
            what = ("link", os.readlink(each))
        elif each.is_dir():
            what = ("folder", "")
        else:
            mode = stat.S_IMODE(each.stat().st_mode)
            what = (f"{mode:o}", hashlib.sha256(each.read_bytes()).hexdigest())
        found[str(each.relative_to(path))] = what
    return found


def make_tree(path: Path) -> Path:
    """A folder with all that a copy may stumble over."""
    (path / "sub folder" / "deep").mkdir(parents=True)
    (path / "empty").mkdir()
    (path / "a file").write_bytes(b"one\n")
    (path / "sub folder" / 'it\'s "ünï" $HOME').write_bytes(os.urandom(3000))
    (path / "sub folder" / "-rf").write_bytes(b"")
    (path / "sub folder" / "deep" / ("n" * 180)).write_bytes(os.urandom(200_000))
    (path / "run").write_text("#!/bin/sh\n")
    (path / "run").chmod(0o750)
    (path / "link").symlink_to("sub folder/deep")
    (path / "gone").symlink_to("/nowhere")
    os.link(path / "a file", path / "second name")
    os.utime(path / "a file", (1_700_000_000, 1_700_000_000))
    return path


def test_a_big_file_both_ways(remote: Any, place: tuple[str, Any], tmp_path: Path) -> None:
    behind, _ = place
    big = tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(BIG_BYTES // 1_000_000):
            file.write(os.urandom(1_000_000))
    there = f"{remote.name}{behind}:/data/big"
    ended = remote.operator.ended("cp", str(big), there)
    assert ended.returncode == 0, ended.stderr
    assert "big: 64.0 MB in " in ended.stderr
    remote.operator.run("cp", there, str(tmp_path / "back"))
    with big.open("rb") as one, (tmp_path / "back").open("rb") as other:
        digest = hashlib.file_digest(one, "sha256").hexdigest()
        assert hashlib.file_digest(other, "sha256").hexdigest() == digest


def test_a_folder_both_ways(remote: Any, place: tuple[str, Any], tmp_path: Path) -> None:
    behind, _ = place
    source = make_tree(tmp_path / "a tree")
    # Into a folder that is there, by the name that it has here; back under another.
    remote.operator.run("cp", str(source), f"{remote.name}{behind}:/data")
    remote.operator.run("cp", f"{remote.name}{behind}:/data/a tree", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(source)
    assert (tmp_path / "back" / "a file").stat().st_mtime == 1_700_000_000
    # A second time it is the same; a new name there; into a folder that is here.
    remote.operator.run("cp", f"{source}/", f"{remote.name}{behind}:/data/other name")
    (tmp_path / "into").mkdir()
    remote.operator.run("cp", f"{remote.name}{behind}:/data/other name/", str(tmp_path / "into"))
    assert tree(tmp_path / "into" / "other name") == tree(source)


def test_what_was_uploaded_is_roots(remote: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("x")
    file.chmod(0o4755)
    remote.operator.run("cp", str(file), f"{remote.name}:/srv/mine")
    assert remote.host.run("stat -c '%U %G %a' /srv/mine") == "root root 755\n"
    # Another file in its place, and one in the home folder of root.
    file.write_text("second")
    remote.operator.run("cp", str(file), f"{remote.name}:/srv/mine")
    assert remote.host.run("cat /srv/mine") == "second"
    remote.operator.run("cp", str(file), f"{remote.name}:-odd name")
    assert remote.host.run("cat '/root/-odd name'") == "second"


def test_a_log_that_grows_is_copied_as_it_was(remote: Any, tmp_path: Path) -> None:
    remote.host.run(
        "head -c 30000000 /dev/zero > /srv/growing; "
        "(for i in $(seq 400); do echo more >> /srv/growing; sleep 0.01; done) >/dev/null 2>&1 &"
    )
    remote.operator.run("cp", f"{remote.name}:/srv/growing", str(tmp_path))
    assert (tmp_path / "growing").stat().st_size >= 30_000_000


def test_a_link_is_followed(remote: Any, tmp_path: Path) -> None:
    remote.host.run("mkdir -p /srv/real && echo x > /srv/real/f && ln -sfn real /srv/current")
    remote.operator.run("cp", f"{remote.name}:/srv/current", str(tmp_path))
    assert (tmp_path / "current" / "f").read_text() == "x\n"


def test_what_is_not_there(remote: Any, place: tuple[str, Any], tmp_path: Path) -> None:
    behind, _ = place
    ended = remote.operator.ended("cp", f"{remote.name}{behind}:/none", str(tmp_path / "x"))
    assert ended.returncode in (1, 3)
    assert "/none" in ended.stderr
    assert not (tmp_path / "x").exists()
    file = tmp_path / "file"
    file.write_text("x")
    ended = remote.operator.ended("cp", str(file), f"{remote.name}{behind}:/none/deeper")
    assert ended.returncode in (1, 3)
    assert f"is not, or not wholly, on {remote.name}" in ended.stderr
    ended = remote.operator.ended("cp", str(file), f"{remote.name}{behind}:/data/new/")
    assert ended.returncode == 2
    assert "has no folder /data/new/" in ended.stderr


def test_a_service_that_does_not_run(remote: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for pair in ((str(file), f"{remote.name}/camera:/x"), (f"{remote.name}/camera:/x", str(file))):
        ended = remote.operator.ended("cp", *pair)
        assert ended.returncode == 3
        assert "gantry: service camera does not run here" in ended.stderr
    assert file.read_text() == "x"


def test_usage(remote: Any, tmp_path: Path) -> None:
    for pair in (("a", "b"), ("x:/a", "y:/b"), (f"{remote.name}:/", str(tmp_path)), ("./x:y", "b")):
        assert remote.operator.ended("cp", *pair).returncode == 2
    assert remote.operator.ended("cp", "nothing", f"{remote.name}:/x").returncode == 3
    ended = remote.operator.ended("cp", f"{remote.name}:/etc/hosts", str(tmp_path / "no" / "x"))
    assert ended.returncode == 2
    assert remote.tunnels.connections == 0
