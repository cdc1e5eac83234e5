"""What is taken for a backup, and what is not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gantry.deployment.backup.manifest import BackupError, check

PARTS = ["stack.yaml", "database.dump", "identity.tar", "git.tar", "nats.tar"]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder with parts and a manifest of them, some of whose fields are another's."""

    def made(*names: str, **fields: Any) -> Path:
        parts = {}
        for name in names:
            (tmp_path / Path(name).name).write_text(name)
            digest = hashlib.sha256(name.encode()).hexdigest()
            parts[name] = {"bytes": len(name), "sha256": digest}
        known = {"fleet": "devbots", "made": "2026-11-21T22:00:00+00:00", "gantry": "0.1.0"}
        manifest = known | {"schema": "0005", "format": 1, "parts": parts} | fields
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path

    return made


def test_a_whole_one_is_known(make: Make) -> None:
    manifest = check(make(*PARTS, "registry.tar"), print)
    assert manifest.fleet == "devbots"
    assert manifest.parts["git.tar"].bytes == len("git.tar")
    assert check(make(*PARTS), print).parts.keys() == {*PARTS}


def _complaint(folder: Path) -> str:
    with pytest.raises(BackupError) as refused:
        check(folder, print)
    return str(refused.value)


def test_what_changed_or_is_gone_is_named(make: Make) -> None:
    folder = make(*PARTS)
    (folder / "git.tar").write_text("git.taR")
    assert "git.tar is not what was saved" in _complaint(folder)
    (folder / "git.tar").unlink()
    assert "git.tar: No such file" in _complaint(folder)


def test_a_manifest_tells_what_it_lacks(make: Make) -> None:
    assert "lacks git.tar" in _complaint(make(*(each for each in PARTS if each != "git.tar")))


def test_a_manifest_names_no_other_files(make: Make) -> None:
    assert "names ../other.tar" in _complaint(make(*PARTS, "../other.tar"))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"format": 2}, "format 2"),
        ({"schema": "9999"}, "newer than this one's"),
        ({"parts": []}, "is not one of a backup"),
        ({"parts": {"git.tar": {"bytes": 1}}}, "is not one of a backup"),
        ({"schema": ["0005"]}, "is not one of a backup"),
        ({"colour": "red"}, "is not one of a backup"),
    ],
)
def test_what_is_no_manifest_of_ours(make: Make, fields: dict[str, Any], complaint: str) -> None:
    assert complaint in _complaint(make(*PARTS, **fields))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}", "[" * 100_000])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert "is not one of a backup" in _complaint(tmp_path)


def test_a_folder_without_a_manifest_is_none(tmp_path: Path) -> None:
    assert "is no backup" in _complaint(tmp_path)
