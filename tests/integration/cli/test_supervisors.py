"""Which supervisor a device is to run, by the command line."""

import secrets
from typing import Any

from tests.integration.api.test_supervisors import publish


def test_a_device_is_given_another_supervisor(operator: Any, robots: Any, device: Any) -> None:
    api = robots.api
    publish(api, "3.1.0")
    publish(api, "3.1.0")
    publish(api, "3.2.0", architecture="amd64", image=f"r/{secrets.token_hex(4)}")
    shown = operator.run("devices", "supervisor", device.name)
    assert shown == f"{device.name}: runs none yet, and keeps it\n"
    answer = device.client.patch(
        "/device/v3/state", json={device.uuid: {"supervisor_version": "3.0.0"}}
    )
    assert answer.status_code == 200
    said = f"{device.name}: runs 3.0.0, is to run 3.1.0+rev1; its log tells how that goes\n"
    assert operator.run("devices", "supervisor", device.name, "3.1.0+rev1") == said
    target = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    assert target["supervisor"]["version"] == "3.1.0+rev1"
    # That of another architecture is none for this one.
    refused = operator.ended("devices", "supervisor", device.name, "3.2.0")
    assert refused.returncode == 3
    assert "no supervisor '3.2.0' for a raspberrypi3-64: there are" in refused.stderr
    assert "3.1.0+rev1" in refused.stderr
    operator.run("devices", "supervisor", device.name, "3.1.0")
    device.client.patch("/device/v3/state", json={device.uuid: {"supervisor_version": "3.1.0"}})
    told = f"{device.name}: runs 3.1.0, as it should\n"
    assert operator.run("devices", "supervisor", device.name) == told
    operator.run("devices", "supervisor", device.name, "3.1.0", "--any", code=2)
    operator.run("devices", "supervisor", device.name, "--any")
    assert operator.json("devices", "supervisor", device.name) == {
        "device": device.name,
        "runs": "3.1.0",
        "wanted": None,
    }
    assert "supervisor" not in device.client.get(f"/device/v3/{device.uuid}/state").text
