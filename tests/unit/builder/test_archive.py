"""Pushed trees are unpacked within limits."""

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from gantry.builder.archive import TreeLimits, receive, unpack
from gantry.builder.plan import RejectedError

LIMITS = TreeLimits(size_bytes=10_000, entries=5)


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def archive(folder: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "tree.tar"
    with tarfile.open(path, "w") as tar:
        for each in members:
            tar.addfile(each, io.BytesIO(b"x" * each.size) if each.size else None)
    return path


def test_files_keep_their_executable_bit_only(tmp_path: Path) -> None:
    source = archive(
        tmp_path,
        member("run.sh", size=3, mode=0o4777),
        member("secret.txt", size=3, mode=0o600),
        member("link", tarfile.SYMTYPE, linkname="run.sh"),
    )
    unpack(source, tmp_path / "out", LIMITS)
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/secret.txt").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "out/link").read_text() == "xxx"


@pytest.mark.parametrize(
    "bad",
    [
        member("../escape", size=1),
        member("/etc/thing", size=1),
        member("hard", tarfile.LNKTYPE, linkname="../../etc/passwd"),
        member("device", tarfile.BLKTYPE, devmajor=8),
        member("device", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("pipe", tarfile.FIFOTYPE),
        member("large", size=20_000),
    ],
    ids=lambda each: f"{each.name}-{each.linkname or each.type.decode()}",
)
def test_what_a_build_must_not_have_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(RejectedError):
        unpack(archive(tmp_path, bad), tmp_path / "out", LIMITS)
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("linkname", ["..", "/tmp"])
def test_nothing_is_written_through_a_link(tmp_path: Path, linkname: str) -> None:
    source = archive(
        tmp_path,
        member("out", tarfile.SYMTYPE, linkname=linkname),
        member("out/escape", size=1),
    )
    with pytest.raises(RejectedError, match="behind a link"):
        unpack(source, tmp_path / "tree", LIMITS)
    assert not (tmp_path / "escape").exists()


def test_a_file_in_place_of_a_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    source = archive(
        tmp_path,
        member("x", tarfile.SYMTYPE, linkname=str(tmp_path / "victim")),
        member("x", size=3),
    )
    unpack(source, tmp_path / "tree", LIMITS)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "tree/x").read_text() == "xxx"


def test_too_many_files_and_none_at_all(tmp_path: Path) -> None:
    many = archive(tmp_path, *[member(f"f{number}") for number in range(6)])
    with pytest.raises(RejectedError, match="more than 5 files"):
        unpack(many, tmp_path / "out", LIMITS)
    with pytest.raises(RejectedError, match="empty"):
        unpack(archive(tmp_path), tmp_path / "none", LIMITS)


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello" * 300)
    with pytest.raises(RejectedError, match="not a tar"):
        unpack(tmp_path / "x", tmp_path / "out", LIMITS)


def test_the_stream_is_cut_at_the_limit(tmp_path: Path) -> None:
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 1000

    async def run() -> None:
        with pytest.raises(RejectedError, match="larger than"):
            await receive(endless(), tmp_path / "tree.tar", LIMITS)

    anyio.run(run)
    assert len(sent) == 11
