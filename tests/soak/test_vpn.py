"""Five hundred real OpenVPN clients before one server.

GANTRY_SOAK_CLIENTS and GANTRY_SOAK_IDLE (seconds) change how many, and how long they are watched.
The figures are printed, and those of docs/benchmarks.md are taken so.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.benchmarks.vpn import cloud_side, measure, report

CLIENTS = int(os.environ.get("GANTRY_SOAK_CLIENTS", "500"))
IDLE = float(os.environ.get("GANTRY_SOAK_IDLE", "120"))
# infra/vpn.py reckons with 184 KiB; what is far over that would leave too little for tunnels.
BYTES_A_CLIENT = 224 * 1024
PROCESSOR_A_CLIENT = 0.0005
RETURN_SECONDS = 120


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_hundred_clients(tmp_path: Path) -> None:
    with cloud_side(tmp_path) as cloud:
        found = measure(cloud, CLIENTS, IDLE, lambda text: print(text, file=sys.stderr, flush=True))
        log = cloud.api.log.read_text()
    print(report(found))
    assert "internal error" not in log
    assert (found.openvpn_memory + found.service_memory) < BYTES_A_CLIENT
    assert found.openvpn_processor + found.service_processor < PROCESSOR_A_CLIENT
    assert found.return_seconds < RETURN_SECONDS
