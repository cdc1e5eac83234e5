"""Another supervisor that the target names: a real supervisor asks a host's real door for it. What
systemd would start is noted; how it ended is left as the host's program leaves it."""

import json
from collections.abc import Iterator

import httpx2
import pytest

from gantry import __version__
from tests.host_door import HostDoor
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import FOREVER, Api

NAME = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor"
NEW, NEWER = (f"{NAME}@sha256:{each * 64}" for each in "ab")


@pytest.fixture
def door(device: Device) -> Iterator[HostDoor]:
    one = HostDoor(device.home / "host")
    device.environment["HOST_DOOR"] = str(one.path)
    fleet = {"apiEndpoint": "https://api.devbots.gantry.internal:8443"}
    (one.boot / "config.json").write_text(json.dumps(fleet))
    (one.home / "supervisor.json").write_text('{"architecture": "aarch64"}')
    yield one
    one.close()


def test_it_is_asked_for_when_all_is_at_rest_and_its_end_is_told_once(
    device: Device, door: HostDoor, cloud: Cloud, registry: Registry
) -> None:
    api = Api(device)

    def state() -> dict[str, object]:
        try:
            answer = api.get("/gantry/v1/supervisor")
        except httpx2.TransportError:
            return {}
        # For a moment after its start it does not answer, and then not yet as a device.
        found: dict[str, object] = answer.json() if answer.status_code == 200 else {}
        return found

    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("the service runs", device.service)
    wait_until("nothing is wanted", lambda: state().get("state") == "none")
    api.lock_file().write_text("")
    cloud.supervisor = {"version": "99.0.0", "image": NEW}
    wait_until(
        "it waits for the lock",
        lambda: any(
            each.startswith("Supervisor 99.0.0: it waits") for each in cloud.messages(isSystem=True)
        ),
    )
    assert door.runs == []
    api.lock_file().unlink()
    wait_until("the host is asked", lambda: door.runs)
    assert door.runs[0].endswith(f"/usr/local/sbin/gantry-supervisor-update {NEW}")
    assert state() == {
        "status": "success",
        "version": __version__,
        "wanted": {"version": "99.0.0", "image": NEW},
        "state": "updating",
        "message": "",
    }
    # It is ended by what it asked for, and comes back.
    device.kill()
    wait_until("it is gone", device.has_ended)
    door.ended(NEW, "returned", "it ended with status 1")
    device.start()
    told = (
        "Supervisor 99.0.0 was tried, and the old one is back: it ended with status 1. It is tried "
        "again in 24 h, or when the target changes"
    )
    wait_until("it is told", lambda: told in cloud.messages(isSystem=True))
    wait_until("it is known", lambda: state().get("state") == "returned")
    # Not that one again, over restarts as well, but another one.
    device.kill()
    wait_until("it is gone", device.has_ended)
    device.start()
    wait_until("it is known still", lambda: state().get("state") == "returned")
    assert len(door.runs) == 1
    cloud.supervisor = {"version": "99.0.1", "image": NEWER}
    wait_until("the host is asked", lambda: len(door.runs) == 2)
    assert door.runs[1].endswith(NEWER)
    assert device.service() is not None
