"""What a device should run: its target, the ETag over it, and the announcements."""

import contextlib
import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import psycopg

from tests.ports import free_port

from .conftest import Api, Device, Fleet


def target(fleet: Fleet, device: Device) -> dict[str, Any]:
    answer = device.client.get(f"/device/v3/{device.uuid}/state")
    assert answer.status_code == 200, answer.text
    app: dict[str, Any] = answer.json()[device.uuid]["apps"][fleet.uuid]
    return app


def test_a_device_without_release_has_nothing_to_run(fleet: Fleet) -> None:
    device = fleet.register(device_name="my robot")
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    assert state["name"] == "my robot"
    assert state["config"] == {}
    assert state["apps"][fleet.uuid]["releases"] == {}
    assert state["apps"][fleet.uuid]["class"] == "fleet"


def test_a_success_becomes_the_target_with_its_composition(fleet: Fleet) -> None:
    device = fleet.register()
    composition = {
        "services": {
            "main": {
                "build": ".",
                "privileged": True,
                "environment": ["LEVEL=from-compose", "ONLY=here"],
                "labels": {"own": "yes"},
            },
        },
        "volumes": {"data": {}},
        "networks": {"default": {}},
    }
    made = fleet.release(composition=composition)
    variable = {"application": fleet.id, "name": "LEVEL", "value": "from-fleet"}
    assert fleet.user.post("/v7/application_environment_variable", json=variable).is_success
    app = target(fleet, device)
    release = app["releases"][made["commit"]]
    assert release["id"] == made["release_id"]
    assert release["volumes"] == {"data": {}}
    service = release["services"]["main"]
    assert service["environment"] == {"LEVEL": "from-fleet", "ONLY": "here"}
    assert service["labels"] == {"io.balena.features.dbus": "1", "own": "yes"}
    assert service["composition"].keys() == {"privileged", "environment", "labels"}
    repository = made["images"][0]["repository"]
    assert service["image"].startswith(
        f"registry.devbots.gantry.internal:8443/{repository}@sha256:"
    )


def test_a_contract_reaches_devices(fleet: Fleet) -> None:
    device = fleet.register()
    made = fleet.start_release()
    contract = {"type": "sw.container", "requires": [{"type": "sw.os", "slug": "debian"}]}
    assert fleet.finish_release(made, contract=contract).status_code == 200
    assert target(fleet, device)["releases"][made["commit"]]["services"]["main"]["contract"] == (
        contract
    )
    answer = device.client.get(f"/device/v2/{device.uuid}/state").json()
    [service] = answer["local"]["apps"][str(fleet.id)]["services"].values()
    assert service["contract"] == contract


def test_a_failed_release_changes_nothing(fleet: Fleet) -> None:
    device = fleet.register()
    good = fleet.release()
    before = device.client.get(f"/device/v3/{device.uuid}/state").headers["ETag"]
    assert fleet.finish_release(fleet.start_release(), "failed").status_code == 200
    answer = device.client.get(f"/device/v3/{device.uuid}/state", headers={"If-None-Match": before})
    assert answer.status_code == 304
    assert answer.headers["ETag"] == before
    assert list(target(fleet, device)["releases"]) == [good["commit"]]


def test_the_etag_changes_with_the_target_and_only_with_it(fleet: Fleet) -> None:
    device = fleet.register()
    fleet.release()
    url = f"/device/v3/{device.uuid}/state"
    first = device.client.get(url).headers["ETag"]
    assert first.startswith('"')
    device.client.patch("/device/v3/state", json={device.uuid: {"cpu_usage": 12}})
    assert device.client.get(url).headers["ETag"] == first
    variable = {"device": device.id, "name": "OT_SMOOTHIE_ID", "value": "FTDI"}
    made = fleet.user.post("/v7/device_environment_variable", json=variable).json()
    second = device.client.get(url).headers["ETag"]
    assert second != first
    fleet.user.delete(f"/v7/device_environment_variable({made['id']})")
    assert device.client.get(url).headers["ETag"] == first


def test_configuration_goes_to_config_and_the_device_goes_before_its_fleet(fleet: Fleet) -> None:
    device = fleet.register()
    for resource, owner, value in (
        ("application_environment_variable", {"application": fleet.id}, "fleet"),
        ("device_environment_variable", {"device": device.id}, "device"),
    ):
        for name in ("RESIN_HOST_CONFIG_gpu_mem", "BALENA_SUPERVISOR_POLL_INTERVAL", "PLAIN"):
            body = {**owner, "name": name, "value": value}
            assert fleet.user.post(f"/v7/{resource}", json=body).status_code == 201
    fleet.release()
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    assert state["config"] == {
        "RESIN_HOST_CONFIG_gpu_mem": "device",
        "BALENA_SUPERVISOR_POLL_INTERVAL": "device",
    }
    (release,) = state["apps"][fleet.uuid]["releases"].values()
    assert release["services"]["main"]["environment"] == {"PLAIN": "device"}


def test_a_pinned_device_stays(fleet: Fleet) -> None:
    device = fleet.register()
    first = fleet.release()
    pin = {"is_pinned_on__release": first["release_id"]}
    assert fleet.user.patch(f"/v7/device(uuid='{device.uuid}')", json=pin).status_code == 200
    second = fleet.release()
    assert list(target(fleet, device)["releases"]) == [first["commit"]]
    fleet.user.patch(f"/v7/device({device.id})", json={"is_pinned_on__release": None})
    assert list(target(fleet, device)["releases"]) == [second["commit"]]


def test_reports_are_kept(fleet: Fleet) -> None:
    device = fleet.register()
    made = fleet.release()
    service = target(fleet, device)["releases"][made["commit"]]["services"]["main"]
    report: dict[str, Any] = {
        "status": "Idle",
        "os_version": "Debian 12",
        "ip_address": "192.0.2.7",
        "memory_usage": 120.4,
        "unheard_of": 1,
        "apps": {
            fleet.uuid: {
                "releases": {
                    made["commit"]: {
                        "update_status": "downloading",
                        "services": {
                            "main": {
                                "image": service["image"],
                                "status": "Downloading",
                                "download_progress": 40,
                            }
                        },
                    }
                }
            }
        },
    }
    answer = device.client.patch("/device/v3/state", json={device.uuid: report})
    assert answer.status_code == 200, answer.text
    url = f"/v7/device({device.id})?$expand=image_install,is_running__release($select=commit)"
    row = fleet.user.get(url).json()["d"][0]
    assert (row["overall_status"], row["overall_progress"]) == ("updating", 40)
    assert row["memory_usage"] == 120
    assert row["image_install"][0]["status"] == "Downloading"
    app = report["apps"][fleet.uuid]
    app["release_uuid"] = made["commit"]
    app["releases"][made["commit"]]["update_status"] = "done"
    app["releases"][made["commit"]]["services"]["main"] = {
        "image": service["image"],
        "status": "Running",
    }
    device.client.patch("/device/v3/state", json={device.uuid: report})
    row = fleet.user.get(url).json()["d"][0]
    assert row["is_running__release"] == [{"commit": made["commit"]}]
    assert (row["overall_status"], row["is_online"]) == ("operational", True)
    assert row["image_install"][0]["status"] == "Running"
    # A device that went back to this release from another one.
    app["releases"]["b" * 40] = {"update_status": "rejected", "services": {}}
    device.client.patch("/device/v3/state", json={device.uuid: report})
    key = f"/v7/device(uuid='{device.uuid}')"
    [row] = fleet.user.get(f"{key}?$select=update_status,overall_status").json()["d"]
    assert (row["update_status"], row["overall_status"]) == ("rejected", "operational")


class Stream:
    """A device's stream of events, read in a thread until the server ends it."""

    def __init__(self, api: Api, device: Device, key: str | None = None, query: str = "") -> None:
        self.etags: list[str] = []
        arguments = (api, device, key or device.key, query)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def _run(self, api: Api, device: Device, key: str, query: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{api.url}/device/v3/{device.uuid}/events{query}"
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.Client(timeout=30, headers=headers) as client,
            client.stream("GET", url) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.etags.append(json.loads(line[6:])["etag"])

    def wait(self, count: int, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.etags) < count:
            assert time.monotonic() < deadline, f"{len(self.etags)} events, not {count}"
            time.sleep(0.02)

    def ended(self, seconds: float = 10.0) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def test_a_stream_hears_of_every_change_at_once(fleet: Fleet) -> None:
    device = fleet.register()
    stream = Stream(fleet.api, device)
    stream.wait(1)
    url = f"/device/v3/{device.uuid}/state"
    assert stream.etags[0] == device.client.get(url).headers["ETag"]
    first = fleet.release()
    stream.wait(2)
    variable = {"application": fleet.id, "name": "A", "value": "1"}
    fleet.user.post("/v7/application_environment_variable", json=variable)
    stream.wait(3)
    fleet.user.patch(f"/v7/device({device.id})", json={"device_name": "renamed"})
    stream.wait(4)
    fleet.user.patch(f"/v7/device({device.id})", json={"is_pinned_on__release": None})
    other = {"app_name": "elsewhere", "is_for__device_type": "raspberrypi3-64"}
    moved = fleet.user.post("/v7/application", json=other).json()
    move = {"belongs_to__application": moved["id"]}
    assert fleet.user.patch(f"/v7/device({device.id})", json=move).status_code == 200
    stream.wait(5)
    # The old fleet's news are no longer this device's, the new one's are.
    fleet.release()
    body = {"application": moved["id"], "name": "B", "value": "2"}
    fleet.user.post("/v7/application_environment_variable", json=body)
    time.sleep(0.3)
    assert stream.etags[-1] == device.client.get(url).headers["ETag"]
    assert first["commit"] not in device.client.get(url).text
    fleet.user.delete(f"/v7/device({device.id})")
    assert stream.ended()


def test_an_open_stream_is_being_online(fleet: Fleet) -> None:
    device = fleet.register()

    def row() -> dict[str, Any]:
        found: dict[str, Any] = fleet.user.get(f"/v7/device({device.id})").json()["d"][0]
        return found

    assert (row()["is_online"], row()["overall_status"]) == (False, "configuring")
    stream = Stream(fleet.api, device)
    stream.wait(1)
    assert (row()["is_online"], row()["api_heartbeat_state"]) == (True, "online")


def test_two_replicas_announce_to_each_other_and_survive_a_kill(api: Api) -> None:
    """The second starts on the same database; what the one does, streams at the other hear."""
    second = Api(
        {**api.config, "listen_port": free_port()},
        api.file.with_name("second.json"),
        api.log.with_name("second.log"),
    )
    second.start()
    try:
        second.wait()
        fleet = Fleet(api, api.login(), "admin/devbots")
        device = fleet.register()
        stream = Stream(second, device)
        stream.wait(1)
        fleet.release()
        stream.wait(2)
        api.stop(9)
        survivor = Fleet(second, second.login(), "admin/devbots")
        survivor.release()
        stream.wait(3)
    finally:
        second.stop()
    assert stream.ended()
    assert "internal error" not in second.log.read_text()


def test_many_streams_are_served_by_one_process(fleet: Fleet) -> None:
    """Streams hold neither a thread nor a connection of the database: more of them than both."""
    devices = [fleet.register() for _ in range(5)]
    streams = [Stream(fleet.api, devices[each % 5]) for each in range(80)]
    for stream in streams:
        stream.wait(1, 20)
    assert fleet.user.get("/v7/device?$select=id").status_code == 200
    fleet.release()
    for stream in streams:
        stream.wait(2, 20)
    for device in devices:
        fleet.user.delete(f"/v7/device({device.id})")
    assert all(stream.ended() for stream in streams)


def test_one_device_does_not_take_all_streams(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    held = [Stream(fleet.api, device) for _ in range(32)]
    for stream in held:
        stream.wait(1, 20)
    answer = device.client.get(f"/device/v3/{device.uuid}/events")
    assert answer.status_code == 429
    assert "too many event streams" in answer.json()["error"]
    Stream(fleet.api, other).wait(1)
    for each in (device, other):
        fleet.user.delete(f"/v7/device({each.id})")
    assert all(stream.ended() for stream in held)


def test_the_same_registration_many_times_at_once_is_one_device(fleet: Fleet) -> None:
    key = fleet.provisioning_key()
    body = {
        "application": str(fleet.id),
        "uuid": secrets.token_hex(16),
        "api_key": secrets.token_hex(16),
        "device_type": "raspberrypi3-64",
    }

    def send(_: int) -> httpx.Response:
        return fleet.api.client(key).post("/device/register", json=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert sorted(each.status_code for each in answers) == [200] * 7 + [201]
    assert len({each.text for each in answers}) == 1
    assert fleet.user.get("/v7/device/$count").json() == {"d": 1}
    again = {**body, "api_key": secrets.token_hex(16)}
    refused = fleet.api.client(key).post("/device/register", json=again)
    assert refused.status_code == 409
    assert "registered already" in refused.json()["error"]


def test_devices_that_are_not_heard_of_become_timeout_and_offline(fleet: Fleet) -> None:
    device = fleet.register()
    device.client.get(f"/device/v3/{device.uuid}/state")
    url = fleet.api.config["database_url"].replace("+psycopg", "")

    def silent_for(seconds: int) -> None:
        """As if the device's time had been over for so long."""
        with psycopg.connect(url) as connection:
            connection.execute(
                "update device set heartbeat_expires_at = now() - make_interval(secs => %s)"
                " where id = %s",
                [seconds, device.id],
            )

    def wait_for(state: str, online: bool) -> None:
        deadline = time.monotonic() + 60
        while True:
            row = fleet.user.get(f"/v7/device({device.id})").json()["d"][0]
            if (row["api_heartbeat_state"], row["is_online"]) == (state, online):
                return
            assert time.monotonic() < deadline, row
            time.sleep(0.2)

    wait_for("online", True)
    silent_for(1)
    wait_for("timeout", True)
    silent_for(20)
    wait_for("offline", False)
    device.client.patch("/device/v3/state", json={device.uuid: {"status": "Idle"}})
    wait_for("online", True)
