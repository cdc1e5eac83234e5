"""The folder that bundles are brought to: found at once, and cheap to look at while none comes."""

import os
from pathlib import Path

import pytest

from gantry.supervisor.bundle_folder import Folder


def look(folder: Folder) -> Path | None:
    """What the supervisor finds at one look."""
    return None if folder.is_still_empty() else folder.first()


def settled(path: Path) -> Folder:
    """A folder that was empty for some looks."""
    folder = Folder(path)
    for _ in range(3):
        assert look(folder) is None
    assert folder.is_still_empty()
    return folder


@pytest.mark.parametrize("exists", [True, False])
def test_what_comes_is_found(exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "bundles"
    if exists:
        path.mkdir()
        os.utime(path, ns=(0, 10**18))
    folder = settled(path)
    path.mkdir(exist_ok=True)
    (path / "b.gantry-bundle").write_bytes(b"")
    (path / "a.gantry-bundle").write_bytes(b"")
    assert look(folder) == path / "a.gantry-bundle"
    # It stays to be tried again.
    assert look(folder) == path / "a.gantry-bundle"


def test_what_comes_while_it_is_looked_at_is_found(tmp_path: Path) -> None:
    """The folder's time is that of the look before: clocks of file systems are coarse."""
    folder = Folder(tmp_path)
    assert look(folder) is None
    before = tmp_path.stat()
    (tmp_path / "a.gantry-bundle").write_bytes(b"")
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(folder) == tmp_path / "a.gantry-bundle"


def test_what_could_not_be_read_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk leaves the folder's time as it is."""
    (tmp_path / "a.gantry-bundle").write_bytes(b"")
    folder = Folder(tmp_path)

    def broken(self: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", broken)
        for _ in range(3):
            assert look(folder) is None
    assert look(folder) == tmp_path / "a.gantry-bundle"


def test_uploads_that_were_given_up_go(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for each in (old, new):
        each.write_bytes(b"")
    for _ in range(3):
        assert look(folder) is None
    # What is written to changes no folder: it is looked at as long as there is anything.
    os.utime(old, (0, 0))
    assert look(folder) is None
    assert not old.exists()
    assert new.exists()
