"""Hook 20-journal where the state partition is missing or cannot be written: all stays in RAM."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "roles/journal/files/config.d/20-journal"
# What would change the machine that tests. How the journal moves is tested in molecule/journal.
FORBIDDEN = ("journalctl", "mount", "systemctl", "umount")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A folder with programs that only write down that they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in FORBIDDEN:
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (programs / name).chmod(0o755)
    return tmp_path


def run(folder: Path, kept: str, *, persistent: bool, missing: str = "0") -> tuple[int, str, str]:
    """Exit status, output and errors of the hook, with its places in a folder of the test's."""
    (folder / "config.json").write_text(json.dumps({"persistentLogging": persistent}))
    told = {
        "GANTRY_BOOTED": "1",
        "GANTRY_CONFIG": str(folder / "config.json"),
        "GANTRY_JOURNAL": str(folder / kept),
        "GANTRY_JOURNAL_SETTING": str(folder / "setting"),
        "GANTRY_STATE_MISSING": missing,
        "LC_ALL": "C",
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run([HOOK], env=told, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def unchanged(folder: Path) -> bool:
    return not any((folder / each).exists() for each in ("called", "setting", "state"))


def test_a_missing_state_partition_is_said_and_its_folder_stays_empty(journal: Path) -> None:
    assert run(journal, "state/journal", persistent=True, missing="1") == (
        1,
        "",
        "persistentLogging: the state partition is not mounted: the journal stays in RAM\n",
    )
    assert unchanged(journal)
    # In RAM is where it is to be.
    assert run(journal, "state/journal", persistent=False, missing="1") == (0, "", "")
    assert unchanged(journal)


def test_a_state_partition_that_cannot_be_written_is_said(journal: Path) -> None:
    # Root may write to any folder that is not on a read-only file system; to a file's none.
    (journal / "file").touch()
    status, said, wrong = run(journal, "file/journal", persistent=True)
    assert (status, said) == (1, "")
    assert wrong.startswith(
        f"persistentLogging: {journal}/file/journal cannot be written (install: "
    )
    assert wrong.endswith("): the journal stays in RAM\n")
    assert unchanged(journal)
