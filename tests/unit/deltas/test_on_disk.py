"""What an engine makes of a layer's tar on disk, as far as that is sure."""

import io
import tarfile
from pathlib import Path

import pytest

from gantry.deltas.create.tars import Entry, OnDisk, Plain, Tar, on_disk


def listed(
    tmp_path: Path, *members: tuple[str, bytes, str], raw: bytes = b""
) -> list[OnDisk] | None:
    """The listing of a tar of (name, type, content or link)."""
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                archive.addfile(info)
    if raw:
        path.write_bytes(raw + path.read_bytes())
    tar = Tar(path)
    try:
        entries = list(tar.entries())
        covered = sum(_length(each) for each in entries)
        assert covered == tar.size
        return on_disk(entries)
    finally:
        tar.close()


def _length(each: Entry | Plain) -> int:
    if isinstance(each, Plain):
        return each.length
    return 512 + each.content + -each.content % 512


REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_names_are_in_the_walks_order_with_folders_that_nobody_told(tmp_path: Path) -> None:
    long = "d" * 120 + "/file"
    found = listed(
        tmp_path, ("a-b", REG, "x"), ("a/b/c", REG, "y"), (long, REG, "z"), ("./s", SYM, "a-b")
    )
    assert found is not None
    assert [each.path for each in found] == [
        b"a",
        b"a/b",
        b"a/b/c",
        b"a-b",
        b"d" * 120,
        long.encode(),
        b"s",
    ]
    assert [each.regular for each in found] == [False, False, True, True, False, True, False]
    assert found[0].facts is None
    assert found[-1].facts is not None
    assert found[-1].facts.link == b"a-b"


def test_whiteouts_are_devices_and_hard_links_are_files(tmp_path: Path) -> None:
    found = listed(
        tmp_path,
        ("a", DIR, ""),
        ("a/.wh.gone", REG, ""),
        ("a/.wh..wh..opq", REG, ""),
        ("emptied/.wh..wh..opq", REG, ""),
        ("first", REG, "text"),
        ("second", LNK, "first"),
    )
    assert found is not None
    assert [each.path for each in found] == [b"a", b"a/gone", b"emptied", b"first", b"second"]
    assert found[1].facts is None
    assert found[2].facts is None
    assert found[3].facts == found[4].facts
    assert not found[4].regular


@pytest.mark.parametrize(
    "members",
    [
        [("a", REG, "x"), ("a", REG, "y")],
        [("link", SYM, "b"), ("b", DIR, ""), ("link/x", REG, "x")],
        [("x/y", REG, "x"), ("x", REG, "y")],
        [("a/../b", REG, "x")],
        [("/abs", REG, "x")],
    ],
)
def test_what_engines_may_read_in_more_than_one_way(
    members: list[tuple[str, bytes, str]], tmp_path: Path
) -> None:
    assert listed(tmp_path, *members) is None


def test_bytes_that_are_no_tar_make_no_listing(tmp_path: Path) -> None:
    assert listed(tmp_path, ("a", REG, "x"), raw=b"\xff" * 512) is None
