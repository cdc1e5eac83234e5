"""vpn-pause: how long the unit waits before OpenVPN is started again."""

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "vpn_client" / "files" / "vpn-pause"


class Pause:
    """The program with a folder of its own, and a `sleep` that writes down for how long."""

    def __init__(self, folder: Path) -> None:
        self.state, self._slept = folder / "pause", folder / "slept"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "sleep").write_text(f'#!/bin/sh\necho "$1" > {self._slept}\n')
        (programs / "sleep").chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GANTRY_VPN_FOLDER": str(folder),
        }

    def start(self) -> int:
        """The unit starts; for how long it waited."""
        self._slept.write_text("0")
        done = subprocess.run(
            [PROGRAM, "5", "30"], env=self._environment, capture_output=True, text=True, check=True
        )
        slept = int(self._slept.read_text())
        assert done.stderr == ""
        assert (f"tried again in {slept} s" in done.stdout) == (slept > 0)
        return slept

    def ran(self, seconds: int) -> None:
        """Afterwards, OpenVPN runs for so long."""
        pause, started = self.state.read_text().split()
        self.state.write_text(f"{pause} {int(started) - seconds}\n")


@pytest.fixture
def pause(tmp_path: Path) -> Pause:
    return Pause(tmp_path)


def test_it_doubles_up_to_its_bound(pause: Pause) -> None:
    assert [pause.start() for _ in range(6)] == [0, 5, 10, 20, 30, 30]


def test_what_ran_for_long_begins_anew(pause: Pause) -> None:
    assert [pause.start() for _ in range(4)] == [0, 5, 10, 20]
    pause.ran(3600)
    assert [pause.start() for _ in range(3)] == [0, 5, 10]


def test_a_short_run_does_not(pause: Pause) -> None:
    assert [pause.start() for _ in range(3)] == [0, 5, 10]
    pause.ran(20)
    assert pause.start() == 20
