"""What `gantry cp` reads in its arguments, and what it makes of tars that it did not write."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry.client import copying, tree_tar
from gantry.client.copying import Remote
from gantry.client.errors import ClientError, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crane:/etc/hosts", Remote("crane", None, "/etc/hosts")),
        ("quiet crane:a b", Remote("quiet crane", None, "a b")),
        ("crane/main:/data/x:y", Remote("crane", "main", "/data/x:y")),
        ("./crane:/etc", None),
        ("/tmp/a:b", None),
        ("../a:b", None),
        ("~/a:b", None),
        ("plain", None),
        ("a/b/c:/x", None),
    ],
)
def test_paths(text: str, expected: Remote | None) -> None:
    assert copying.parse(text) == expected


@pytest.mark.parametrize("text", ["crane:", "crane:/", "crane:/..", "crane/main://"])
def test_paths_that_name_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="name a file or folder"):
        copying.parse(text)


def test_names_there() -> None:
    remote = Remote("crane", None, "/data/new")
    assert copying.name_there(remote, copying.IS_FOLDER, "own") == "own"
    assert copying.name_there(remote, copying.IS_FILE, "own") == "new"
    assert copying.name_there(remote, copying.IS_NOTHING, "own") == "new"
    with pytest.raises(UsageError, match="no folder /data/"):
        copying.name_there(Remote("crane", None, "/data/"), copying.IS_NOTHING, "own")


def tar(fill: Callable[[tarfile.TarFile], None]) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        fill(archive)
    made.seek(0)
    return made


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, goal: str = ""
) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, goal, 0o755
    if kind == tarfile.REGTYPE:
        info.size = len(content)
    return info, io.BytesIO(content)


def of(*members: tuple[tarfile.TarInfo, io.BytesIO | None]) -> io.BytesIO:
    def fill(archive: tarfile.TarFile) -> None:
        for info, content in members:
            archive.addfile(info, content)

    return tar(fill)


def nobody(count: int) -> None:
    return


@pytest.mark.parametrize(
    "name", ["top/../../out", "../out", "/out", "other", "top/a/../../../out", ".."]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "in" / "target"
    target.parent.mkdir()
    sent = of(member("top", kind=tarfile.DIRTYPE), member(name))
    with pytest.raises(ClientError, match="leads elsewhere"):
        tree_tar.read(sent, target, nobody)
    assert sorted(tmp_path.rglob("*")) == [target.parent, target]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    sent = of(
        member("top", kind=tarfile.DIRTYPE),
        member("top/link", kind=tarfile.SYMTYPE, goal=str(outside)),
        member("top/link/evil"),
    )
    with pytest.raises((ClientError, OSError)):
        tree_tar.read(sent, target, nobody)
    # What an earlier copy has left is no way out either.
    (target / "old").symlink_to(outside)
    for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE):
        again = of(
            member("top", kind=tarfile.DIRTYPE), member("top/old/evil", kind=kind, goal="/etc")
        )
        with pytest.raises(ClientError, match="is a link"):
            tree_tar.read(again, target, nobody)
    assert list(outside.iterdir()) == []


def test_a_file_takes_a_links_place_and_leaves_its_goal(tmp_path: Path) -> None:
    goal = tmp_path / "goal"
    goal.write_text("mine")
    target = tmp_path / "target"
    target.mkdir()
    (target / "name").symlink_to(goal)
    tree_tar.read(of(member("top", kind=tarfile.DIRTYPE), member("top/name")), target, nobody)
    assert goal.read_text() == "mine"
    assert (target / "name").read_text() == "x"


def test_another_name_of_a_file_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    target = tmp_path / "target"
    sent = of(
        member("top", kind=tarfile.DIRTYPE),
        member("top/a", kind=tarfile.LNKTYPE, goal="top/../../secret"),
    )
    with pytest.raises(ClientError, match="leads elsewhere"):
        tree_tar.read(sent, target, nobody)
    assert list(target.iterdir()) == []


def test_devices_and_pipes_are_left_out(tmp_path: Path) -> None:
    sent = of(
        member("top", kind=tarfile.DIRTYPE),
        member("top/null", kind=tarfile.CHRTYPE),
        member("top/pipe", kind=tarfile.FIFOTYPE),
        member("top/file"),
    )
    assert tree_tar.read(sent, tmp_path / "t", nobody) == ["top/null", "top/pipe"]
    assert [each.name for each in (tmp_path / "t").iterdir()] == ["file"]


def test_what_is_broken_off_leaves_no_half_file(tmp_path: Path) -> None:
    whole = of(member("top", os.urandom(100_000))).getvalue()
    for length in (0, 100, 512, 600, 50_000):
        with pytest.raises(ClientError, match="no whole copy"):
            tree_tar.read(io.BytesIO(whole[:length]), tmp_path / "file", nobody)
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    whole = of(member("top", os.urandom(100_000))).getvalue()
    with pytest.raises(ClientError, match="no whole copy"):
        tree_tar.read(io.BytesIO(whole[:50_000]), tmp_path / "file", nobody)
    assert (tmp_path / "file").read_text() == "old"


def test_a_pipe_is_left_out_of_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    os.mkfifo(tmp_path / "top" / "pipe")
    (tmp_path / "top" / "file").write_bytes(b"12345")
    made, counted = io.BytesIO(), []
    left_out = tree_tar.write(tmp_path / "top", "name", made, counted.append)
    assert left_out == [str(tmp_path / "top" / "pipe")]
    assert sum(counted) == tree_tar.size_of(tmp_path / "top") == 5
    made.seek(0)
    with tarfile.open(fileobj=made) as archive:
        assert [(each.name, each.uid, each.uname) for each in archive] == [
            ("name", 0, ""),
            ("name/file", 0, ""),
        ]


def test_targets(tmp_path: Path) -> None:
    assert tree_tar.target_of(str(tmp_path), "x") == tmp_path / "x"
    assert tree_tar.target_of(str(tmp_path / "new"), "x") == tmp_path / "new"
    for wrong in (f"{tmp_path}/new/", str(tmp_path / "no" / "new")):
        with pytest.raises(UsageError, match="no folder"):
            tree_tar.target_of(wrong, "x")
