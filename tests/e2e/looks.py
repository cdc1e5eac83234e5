"""What tests look at on a device of the fleet."""

import json
from typing import Any

from tests.fleet_under_test import FleetUnderTest

# The device that `make up` starts.
DEVICE = "alphabots-1"


def application_container(fleet: FleetUnderTest, device: str, service: str = "main") -> str:
    """The id of the service's container in the device; empty while there is none."""
    command = ("docker", "ps", "-q", "--filter", f"label=io.balena.service-name={service}")
    return fleet.in_device(device, *command, check=False).strip()


def logged(fleet: FleetUnderTest, device: str, lines: int = 5000) -> list[str]:
    rows: list[dict[str, Any]] = [
        json.loads(line)
        for line in fleet.gantry("logs", device, "-n", str(lines), "--json").splitlines()
    ]
    return [str(row["message"]) for row in rows if not row.get("isSystem")]
