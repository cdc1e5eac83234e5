"""A USB stick's bundles: copied whole or not at all, once, and what is none is told."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gantry.contracts import bundle as contract
from gantry.contracts.bundle import Header

ROLE = Path(__file__).parents[3] / "roles/supervisor"
sys.path.append(str(ROLE / "files"))

stick: ModuleType = importlib.import_module("gantry_supervisor.stick")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("stick", "data"):
        (tmp_path / name).mkdir()
    return tmp_path / "stick", tmp_path / "data" / "bundles"


@pytest.fixture
def said() -> list[str]:
    return []


def bundle(payload: bytes = b"x" * 3000) -> bytes:
    return Header(10, bytes(32), len(payload)).pack() + payload


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if not each.name.startswith(".")}


def test_it_knows_the_same_format_as_the_supervisor() -> None:
    assert stick.SUFFIX == contract.SUFFIX
    assert stick.MAGIC == contract.MAGIC
    assert stick.HEADER_LENGTH == contract.HEADER_LENGTH


def test_bundles_are_brought_once(places: tuple[Path, Path], said: list[str]) -> None:
    source, folder = places
    (source / "a.gantry-bundle").write_bytes(bundle())
    (source / "letter.txt").write_text("private")
    (source / "folder.gantry-bundle").mkdir()
    (source / "link.gantry-bundle").symlink_to("/etc/passwd")
    (source / "._a.gantry-bundle").write_bytes(b"what another system leaves there")
    (source / "song.gantry-bundle").write_bytes(b"ID3" + bytes(100))
    stick.bring_all(source, folder, said.append)
    assert names(folder) == {"a.gantry-bundle"}
    assert (folder / "a.gantry-bundle").read_bytes() == bundle()
    assert said == [
        "a.gantry-bundle is copied; the stick may be pulled out",
        "song.gantry-bundle is no bundle",
    ]
    # Applied meanwhile; the stick is still there at the next boot.
    (folder / "a.gantry-bundle").unlink()
    stick.bring_all(source, folder, said.append)
    assert names(folder) == set()
    assert "was brought already" in said[-2]
    # Under another name it is meant again, as is another one under this name.
    (source / "a.gantry-bundle").rename(source / "a.force.gantry-bundle")
    (source / "b.gantry-bundle").write_bytes(bundle(b"other" * 2000))
    stick.bring_all(source, folder, said.append)
    assert names(folder) == {"a.force.gantry-bundle", "b.gantry-bundle"}


def test_without_room_nothing_is_copied(
    places: tuple[Path, Path], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = places
    (source / "a.gantry-bundle").write_bytes(bundle())
    usage = os.statvfs(source)
    monkeypatch.setattr(stick, "RESERVE", usage.f_bavail * usage.f_frsize)
    stick.bring_all(source, folder, said.append)
    assert names(folder) == set()
    assert "too little room" in said[0]


def test_a_copy_that_breaks_off_leaves_nothing(
    places: tuple[Path, Path], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = places
    (source / "a.gantry-bundle").write_bytes(bundle())

    def pulled_out(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(stick.os, "fsync", pulled_out)
    with pytest.raises(OSError, match="Input/output"):
        stick.bring_all(source, folder, said.append)
    assert names(folder) == set()
    assert said == []


def test_what_the_host_has_mounted_is_its_own(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 /mnt/data ext4 rw 0 0\n")
    assert stick.is_mounted("/dev/sda1", mounts)
    assert not stick.is_mounted("/dev/sda", mounts)
    assert not stick.is_mounted("/dev/sdb1", mounts)


def test_a_device_that_cannot_be_mounted_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stick.settings, "RUN", tmp_path)
    assert stick.main(str(tmp_path / "no-such-device")) == 1
    assert "cannot be read" in capsys.readouterr().out
