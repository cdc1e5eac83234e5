"""A release that does not do well, on a real engine: back to the last good one, and no retry."""

import signal
from typing import Any

import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, image_names, wait_until

FOREVER = "echo begun; while true; do sleep 1; done"
QUICK = {
    "BALENA_SUPERVISOR_ROLLBACK_TIMEOUT": "6000",
    "BALENA_SUPERVISOR_ROLLBACK_SETTLE": "1500",
    "BALENA_SUPERVISOR_ROLLBACK_CRASHES": "3",
}


def app_of(cloud: Cloud, device: Device) -> dict[str, Any]:
    """What the api knows of the device's application."""
    found: dict[str, Any] = cloud.reported().get("apps", {}).get(f"uuid{device.app_id}", {})
    return found


def status_of(cloud: Cloud, device: Device, commit: str) -> str:
    release = app_of(cloud, device).get("releases", {}).get(commit, {})
    return str(release.get("update_status", ""))


def running(device: Device) -> list[str]:
    """Images of all containers that run."""
    return [each.attrs["Config"]["Image"] for each in device.containers(running=True)]


def make_good(device: Device, cloud: Cloud, image: str, commit: str = "aaa1") -> None:
    """Have this release run until it is the one to go back to."""
    cloud.apps = device.app(commit, {"main": {"image": image}})
    if device.process is None:
        device.start()
    wait_until("it runs", lambda: running(device) == [image])
    wait_until("it is good", lambda: good_commit(device) == commit)


def good_commit(device: Device) -> str:
    records = device.fact("releases") or {}
    good = (records.get(f"uuid{device.app_id}") or {}).get("good") or {}
    return next(iter(good.get("releases", {})), "")


def test_a_crash_looping_release_goes_back_and_waits_for_another_target(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    cloud.config = QUICK
    image = registry.push(FOREVER)
    make_good(device, cloud, image)
    bad = registry.push("echo crashing; exit 3")
    cloud.apps = device.app("bbb2", {"main": {"image": bad}})
    wait_until("it is rejected", lambda: status_of(cloud, device, "bbb2") == "rejected")
    wait_until("the good one runs again", lambda: running(device) == [image])
    wait_until("alone", lambda: len(device.containers()) == 1)
    wait_until("that is told", lambda: status_of(cloud, device, "aaa1") == "done")
    assert app_of(cloud, device)["release_uuid"] == "aaa1"
    told = [each for each in cloud.messages(isSystem=True) if "is rejected" in each]
    assert told == [
        "Release bbb2 is rejected: service 'main' ended 3 times, last with status 3; "
        "going back to aaa1"
    ]
    # Its image was there all the time: nothing was fetched a second time.
    assert cloud.messages(isSystem=True).count(f"Downloading image '{image}'") == 1
    wait_until("the bad image is gone", lambda: bad not in image_names(device.engine))
    # Not after a loss of power either.
    device.signal(signal.SIGKILL)
    container = device.service()
    polls = len(cloud.polls)
    device.start()
    wait_until("it polled", lambda: len(cloud.polls) > polls)
    wait_until("that is told anew", lambda: status_of(cloud, device, "bbb2") == "rejected")
    assert device.service() == container
    assert cloud.messages(isSystem=True).count(f"Downloading image '{bad}'") == 1
    better = registry.push(FOREVER + " # better")
    make_good(device, cloud, better, "ccc3")
    wait_until("that is told", lambda: app_of(cloud, device).get("release_uuid") == "ccc3")
    assert "bbb2" not in app_of(cloud, device)["releases"]
    wait_until("the old image is gone", lambda: image not in image_names(device.engine))


def test_a_failing_health_check_goes_back(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.config = QUICK
    image = registry.push(FOREVER)
    make_good(device, cloud, image)
    check = {"test": ["CMD", "false"], "interval": "1s", "retries": 2}
    second = registry.push(FOREVER + " # two")
    services = {"main": {"image": second, "composition": {"healthcheck": check}}}
    cloud.apps = device.app("bbb2", services)
    wait_until("the new one is tried", lambda: second in running(device))
    wait_until("the good one runs again", lambda: running(device) == [image])
    assert any("fails its health check" in each for each in cloud.messages(isSystem=True))
    wait_until("it is rejected", lambda: status_of(cloud, device, "bbb2") == "rejected")
    # With the switch off, it is run as it is.
    cloud.config = QUICK | {"BALENA_SUPERVISOR_ROLLBACK": "0"}
    wait_until("it is run all the same", lambda: running(device) == [second])


@pytest.mark.parametrize("victim", ["during the trial", "after the verdict"])
def test_power_lost_in_a_trial_changes_nothing_of_its_end(
    device: Device, cloud: Cloud, registry: Registry, victim: str
) -> None:
    cloud.config = QUICK
    image = registry.push(FOREVER)
    make_good(device, cloud, image)
    bad = registry.push("echo crashing; exit 3")
    cloud.apps = device.app("bbb2", {"main": {"image": bad}})
    if victim == "during the trial":
        wait_until("it crashes", lambda: bad in running(device) or "exit" in device.log())
    else:
        wait_until("the verdict", lambda: "is rejected" in device.log())
    device.signal(signal.SIGKILL)
    device.start()
    wait_until("it is rejected", lambda: status_of(cloud, device, "bbb2") == "rejected")
    wait_until("the good one runs", lambda: running(device) == [image])
