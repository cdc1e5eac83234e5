"""Module host_files: files of root's, whole or not at all."""

import importlib.util
import os
import stat
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[3] / "roles/device_config/library/host_files.py"
SPEC = importlib.util.spec_from_file_location("host_files", MODULE)
assert SPEC
assert SPEC.loader
host_files = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(host_files)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of root's are root's to make")


def put(files: dict[Path, str], mode: int = 0o644, *, check: bool = False) -> list[str]:
    texts = {str(path): text for path, text in files.items()}
    modes = dict.fromkeys(texts, mode)
    paths: list[str] = host_files.put(texts, modes, check)[0]
    return paths


def test_files_are_written_once_and_not_in_check_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gantry.conf"
    files = {str(path): "a\n"}
    paths, differences = host_files.put(files, {str(path): 0o640}, True)
    assert (paths, differences[0]["after"]) == ([str(path)], "a\n")
    assert not path.parent.exists()
    assert put({path: "a\n"}, 0o640) == [str(path)]
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("a\n", 0o640)
    assert put({path: "a\n"}, 0o640) == []
    path.chmod(0o666)
    assert put({path: "a\n"}, 0o640) == [str(path)]
    assert [each.name for each in path.parent.iterdir()] == ["gantry.conf"]


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    put({old: "a\n"})
    stamp = old.stat().st_mtime_ns
    assert put({old: "a\n", new: "b\n"}) == [str(new)]
    assert old.stat().st_mtime_ns == stamp


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("a\n")
    link.symlink_to(other)
    assert put({link: "a\n"}) == [str(link)]
    assert not link.is_symlink()
    assert other.read_text() == "a\n"


def test_a_file_that_is_no_text_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    assert put({path: "text\n"}) == [str(path)]
    assert path.read_text() == "text\n"
