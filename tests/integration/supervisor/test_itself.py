"""The supervisor outlives what happens to itself: a lost database, another key, another fleet."""

import signal
import time
from pathlib import Path

import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until

FOREVER = "echo begun; while true; do sleep 1; done"
IDENTITY = ("uuid", "deviceApiKey", "deviceId", "registered_at")


def resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_lost_database_disturbs_no_application(
    device: Device, cloud: Cloud, registry: Registry, damage: str
) -> None:
    labels = {"io.balena.features.supervisor-api": "1"}
    services = {"main": {"image": registry.push(FOREVER), "labels": labels}}
    cloud.apps = device.app("aaa1", services)
    device.start()
    container = wait_until("it runs", device.service)
    app = f"uuid{device.app_id}"
    wait_until(
        "that is told", lambda: cloud.reported().get("apps", {}).get(app, {}).get("release_uuid")
    )
    identity = {key: device.config[key] for key in IDENTITY}
    # Its first name is in its containers, and must not change with its name.
    cloud.name = "renamed-robot"
    device.signal(signal.SIGKILL)
    database = device.home / "data" / "database.sqlite"
    for each in database.parent.iterdir():
        each.unlink()
    if damage == "garbage":
        database.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    reports = len(cloud.reports)
    device.start()
    wait_until(
        "all is told anew",
        lambda: any("apps" in next(iter(each.values())) for each in cloud.reports[reports:]),
    )
    wait_until(
        "the target is known", lambda: device.fact("running") == {str(device.app_id): "aaa1"}
    )
    assert [each.id for each in device.containers()] == [container.id]
    assert device.fact("name_at_init") == "quiet-robot"
    assert {key: device.config[key] for key in IDENTITY} == identity
    assert len(cloud.registrations) == 1
    # It still does what it is told.
    services["main"]["environment"] = {"NAME": "b"}
    cloud.apps = device.app("bbb2", services)
    wait_until("the next release", lambda: device.service() and device.service() != container)


def test_a_rotated_key_is_taken_up_from_config_json(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    cloud.config = {"BALENA_SUPERVISOR_POLL_INTERVAL": "1000"}
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    container = wait_until("it runs", device.service)
    cloud.devices[device.config["uuid"]] = "another key"
    wait_until("it is told what to do", lambda: "the right deviceApiKey" in device.log())
    assert 401 in cloud.polls
    assert device.service() == container
    assert device.get("/v1/healthy").status_code == 200
    device.write_config(device.config | {"deviceApiKey": "another key"})
    wait_until("it begins anew", lambda: "another deviceApiKey: beginning anew" in device.log())
    polls = len(cloud.polls)
    wait_until("it polls", lambda: {200, 304} & set(cloud.polls[polls:]))
    wait_until("it answers", lambda: device.log().count("listening on") == 2)
    assert device.service() == container
    assert len(cloud.registrations) == 1


def test_a_device_moves_to_another_gantry(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    old = wait_until("it runs", device.service)
    there = Cloud()
    there.start()
    try:
        first, home = device.app_id, device.config
        device.app_id += 1
        there.apps = device.app("bbb2", {"main": {"image": registry.push(FOREVER + " # two")}})
        kept = {key: value for key, value in home.items() if key not in IDENTITY}
        moved = {
            "apiEndpoint": there.url,
            "applicationId": device.app_id,
            "apiKey": there.provisioning_key,
        }
        device.write_config(kept | moved)
        wait_until("it registers there", lambda: there.registrations)
        assert there.registrations[0]["application"] == device.app_id
        wait_until("the new application alone", lambda: _apps(device) == {device.app_id})
        assert device.service() != old
        assert device.config["uuid"] != home["uuid"]
        assert device.config["somethingNew"] == {"kept": True}
        # And back, as the device that it was.
        device.write_config(home)
        wait_until("the old application alone", lambda: _apps(device) == {first})
        assert len(cloud.registrations) == 1
    finally:
        there.stop()


def _apps(device: Device) -> set[int]:
    return {int(each.labels["io.balena.app-id"]) for each in device.containers()}


def test_an_api_that_is_away_costs_no_memory_and_no_disk(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    talk = "i=0; while true; do seq $i $((i+500)); i=$((i+500)); sleep 0.05; done"
    cloud.config = {"BALENA_SUPERVISOR_POLL_INTERVAL": "1000"}
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(talk)}})
    device.start()
    wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > 5000)
    assert device.process is not None
    cloud.stop()
    seen, gone = device.log().count("no target"), time.monotonic()
    before = resident_mb(device.process.pid)
    data = device.home / "data"
    wait_until("it has failed often", lambda: device.log().count("no target") > seen + 1, 120)
    # So long that more was said than is held back.
    wait_until("lines are lost", lambda: time.monotonic() - gone > 15)
    assert resident_mb(device.process.pid) < before + 8.0
    assert sum(each.stat().st_size for each in data.iterdir()) < 4_000_000
    assert device.get("/v1/healthy").status_code == 200
    better = registry.push(FOREVER)
    cloud.apps = device.app("bbb2", {"main": {"image": better}})
    cloud.start()
    wait_until(
        "it catches up",
        lambda: [each.attrs["Config"]["Image"] for each in device.containers(True)] == [better],
        180,
    )
    # The pause between two tries has grown meanwhile.
    wait_until(
        "what was lost is told", lambda: any("dropped" in each for each in cloud.messages()), 150
    )
