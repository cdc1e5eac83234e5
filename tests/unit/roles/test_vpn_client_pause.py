"""vpn-pause: how long the unit waits before OpenVPN is started again, and OpenVPN by itself."""

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "vpn_client" / "files" / "vpn-pause"


class Pause:
    """The program with a folder of its own, and a `sleep` that writes down for how long."""

    def __init__(self, folder: Path) -> None:
        self.state, self._slept = folder / "pause", folder / "slept"
        self._retry = folder / "retry.conf"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "sleep").write_text(f'#!/bin/sh\necho "$1" > {self._slept}\n')
        (programs / "sleep").chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GANTRY_VPN_FOLDER": str(folder),
        }

    def start(self, *, first: int = 8, most: int = 50, spread: int = 20) -> int:
        """The unit starts; for how long it waited."""
        self._slept.write_text("0")
        command = [PROGRAM, *map(str, (first, most, spread))]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        )
        slept = int(self._slept.read_text())
        assert done.stderr == ""
        assert (f"tried again in {slept} s" in done.stdout) == (slept > 0)
        return slept

    def ran(self, seconds: int) -> None:
        """Afterwards, OpenVPN runs for so long."""
        bound, started = self.state.read_text().split()
        self.state.write_text(f"{bound} {int(started) - seconds}\n")

    def retry(self) -> tuple[int, int]:
        """What OpenVPN is told: its first and its longest pause."""
        option, first, most = self._retry.read_text().split()
        assert option == "connect-retry"
        return int(first), int(most)


@pytest.fixture
def pause(tmp_path: Path) -> Pause:
    return Pause(tmp_path)


def assert_between(slept: list[int], bounds: list[int]) -> None:
    """Each is from half its bound to its bound."""
    wrong = [
        (each, bound)
        for each, bound in zip(slept, bounds, strict=True)
        if not (bound + 1) // 2 <= each <= bound
    ]
    assert wrong == []


def test_its_bound_doubles_up_to_the_most(pause: Pause) -> None:
    assert_between([pause.start() for _ in range(6)], [0, 8, 16, 32, 50, 50])


def test_what_ran_for_long_begins_anew(pause: Pause) -> None:
    assert_between([pause.start() for _ in range(4)], [0, 8, 16, 32])
    pause.ran(3600)
    assert_between([pause.start() for _ in range(3)], [0, 8, 16])


def test_a_short_run_does_not(pause: Pause) -> None:
    assert_between([pause.start() for _ in range(3)], [0, 8, 16])
    pause.ran(20)
    assert_between([pause.start()], [32])


def test_devices_of_a_fleet_wait_differently(pause: Pause) -> None:
    """Of 200 devices, no second has many: each is one in 21 by lot."""
    firsts = []
    for _ in range(200):
        pause.ran(3600) if pause.state.exists() else None
        pause.start()
        first, most = pause.retry()
        assert (8 <= first <= 28, most) == (True, 50)
        firsts.append(first)
    assert len(set(firsts)) > 15
    assert max(firsts.count(each) for each in firsts) < 30
    refused = []
    for _ in range(100):
        pause.state.write_text("50 0\n")
        pause.ran(-int(Path("/proc/uptime").read_text().split(".")[0]))
        refused.append(pause.start())
    assert len(set(refused)) > 15


def test_no_first_pause_is_longer_than_the_longest(pause: Pause) -> None:
    for _ in range(30):
        pause.start(first=1, most=3, spread=25)
        first, most = pause.retry()
        assert 1 <= first <= most == 3
