"""A mirror between two of its states: waited for, then said."""

from pathlib import Path

import pytest

from gantry.builder import bases
from gantry.builder.bases import BaseError

APT = "E: Failed to fetch Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?"


def program(folder: Path, good_from: int, says: str = APT) -> list[str]:
    """A command that fails with apt's words until it is called for the `good_from`th time."""
    path = folder / "program"
    path.write_text(
        f"#!/bin/sh\necho x >> {folder}/calls\n"
        f"[ $(wc -l < {folder}/calls) -ge {good_from} ] || {{ echo '{says}'; exit 25; }}\n"
    )
    path.chmod(0o755)
    return [str(path)]


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_a_mirror_in_between_is_asked_again(tmp_path: Path) -> None:
    said: list[str] = []
    bases._run_patiently(program(tmp_path, 3), said.append, 0.01)
    assert calls(tmp_path) == 3
    assert "the archive's mirror is being brought up to date: again in 0 s" in said


def test_a_mirror_that_stays_so_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="try again in an hour") as caught:
        bases._run_patiently(program(tmp_path, 9), print, 0.01)
    assert calls(tmp_path) == 3
    assert "File has unexpected size" in str(caught.value)


def test_other_failures_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="no space left"):
        bases._run_patiently(program(tmp_path, 9, "no space left"), print, 0.01)
    assert calls(tmp_path) == 1
