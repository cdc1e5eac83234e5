"""Ten thousand devices with the real intervals, before one api and one PostgreSQL.

GANTRY_SOAK_DEVICES and GANTRY_SOAK_SECONDS change how many they are, and for how long they go on
once all are started. The figures are printed, and those of docs/benchmarks.md are taken so.
"""

import os
import sys
from pathlib import Path

import pytest

from gantry.api import events
from gantry.simulator import results
from gantry.simulator.simulation import Plan
from tests.benchmarks.devices import cloud_side, measure

DEVICES = int(os.environ.get("GANTRY_SOAK_DEVICES", "10000"))
SECONDS = float(os.environ.get("GANTRY_SOAK_SECONDS", "1200"))
# Of all servers together, and of one state poll in a hundred.
MEMORY_MIB = 4096
POLL_MS = 200
# More of them starting at once take all of two processors, the simulator's part included.
PER_SECOND = 8


@pytest.mark.soak
def test_ten_thousand_devices_are_served(tmp_path: Path) -> None:
    plan = Plan(
        devices=DEVICES,
        duration=SECONDS,
        ramp=DEVICES / PER_SECOND,
        release_after=SECONDS / 10,
    )
    with cloud_side(tmp_path) as cloud:
        found = measure(cloud, plan, lambda text: print(text, file=sys.stderr, flush=True))
        log = cloud.api.log.read_text()
    for line in results.lines(found):
        print(line)
    assert found["errors"] == {}
    assert "internal error" not in log
    assert found["requests"]["state"]["p99"] < POLL_MS
    assert found["servers"]["memory_together"] < MEMORY_MIB
    for name, limit in cloud.limits.items():
        assert found["servers"]["memory"][name] < limit, name
    (release,) = found["releases"].values()
    assert release["seen"]["devices"] == release["running"]["devices"] == DEVICES
    # No stampede: what the api lets out in a second, and the moment that the clocks differ by.
    assert release["peak_announcements_per_second"] <= events.BURST + 2 * events.PER_SECOND
