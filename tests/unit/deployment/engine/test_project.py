"""Pulumi.yaml and stack files."""

from pathlib import Path

import pytest

from gantry.deployment.engine.project import load
from gantry.deployment.engine.values import EngineError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: gantry\nmain: infra/\nstackConfigDir: stacks/\n")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "infra").mkdir()
    return tmp_path


def _stack(root: Path, text: str) -> None:
    (root / "stacks" / "Pulumi.devbots.yaml").write_text(text)


def test_configuration_is_text_under_full_keys(root: Path) -> None:
    _stack(root, "config:\n  port: 8443\n  gantry:on: true\n  docker:host: unix:///x\n  l: [1]\n")
    project = load(root, "devbots")
    assert project.config == {
        "gantry:port": "8443",
        "gantry:on": "true",
        "docker:host": "unix:///x",
        "gantry:l": "[1]",
    }
    assert project.main == root / "infra"


def test_empty_stack_file(root: Path) -> None:
    _stack(root, "")
    assert load(root, "devbots").config == {}


def test_what_cannot_be_read_is_said(root: Path) -> None:
    _stack(root, "config:\n  gantry:key:\n    secure: v1:abc\n")
    with pytest.raises(EngineError, match="gantry:key is a secure value"):
        load(root, "devbots")
    with pytest.raises(EngineError, match=r"there is no stack x .*: the stacks are devbots"):
        load(root, "x")
    _stack(root, "")
    (root / "infra").rmdir()
    with pytest.raises(EngineError, match="is no folder"):
        load(root, "devbots")
    with pytest.raises(EngineError, match=r"Pulumi.yaml cannot be read"):
        load(root / "stacks", "devbots")
