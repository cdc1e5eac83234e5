"""What the HTTP API asks of the host, whose real program is behind its door."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.host_door import HostDoor
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import FOREVER, KEYED, Api

# Stands for the host's journal, of which there is none without systemd.
JOURNALCTL = """#!/bin/sh
echo "asked: $@"
case "$*" in *follow*) echo more; exec sleep 600;; esac
"""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[HostDoor]:
    one = HostDoor(tmp_path / "host")
    one.program("journalctl", JOURNALCTL)
    yield one
    one.close()


@pytest.fixture
def api(device: Device, cloud: Cloud, door: HostDoor) -> Api:
    """A device without applications, whose host's door is open."""
    device.environment["HOST_DOOR"] = str(door.path)
    device.start()
    wait_until("it polled", lambda: cloud.polls)
    return Api(device)


@pytest.mark.parametrize(("path", "verb"), [("reboot", "reboot"), ("shutdown", "poweroff")])
def test_the_host_is_restarted_or_switched_off(
    api: Api, door: HostDoor, path: str, verb: str
) -> None:
    answer = api.post(f"/v1/{path}")
    assert (answer.status_code, answer.json()) == (202, {"Data": "OK", "Error": ""})
    assert door.calls == [f"--no-block {verb}"]


def test_a_locked_application_keeps_the_host_on(
    api: Api, door: HostDoor, cloud: Cloud, registry: Registry
) -> None:
    device = api.device
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER), "labels": KEYED}})
    wait_until("it runs", device.service)
    api.settled()
    api.lock_file().write_text("")
    for path in ("/v1/reboot", "/v1/shutdown"):
        answer = api.post(path, key=api.key_of())
        assert answer.status_code == 423
        assert answer.json()["Data"] == ""
        assert "locked by service main" in answer.json()["Error"]
    refused = api.ask("PATCH", "/v1/device/host-config", json={"network": {"hostname": "bench"}})
    assert refused.status_code == 423
    assert "locked by service main" in refused.text
    assert door.calls == []
    assert "hostname" not in device.config
    assert api.post("/v1/reboot", json={"force": True}).status_code == 202
    assert door.calls == ["--no-block reboot"]
    api.lock_file().write_text("")
    body = {"network": {"hostname": "bench"}, "force": True}
    assert api.ask("PATCH", "/v1/device/host-config", json=body).text == "OK"
    assert device.config["hostname"] == "bench"


def test_the_led_blinks(api: Api, door: HostDoor) -> None:
    led = door.led()
    answer = api.post("/v1/blink")
    assert (answer.status_code, answer.content) == (200, b"")
    wait_until("it blinks", lambda: (led / "trigger").read_text().strip() != "none mmc0 [actpwr]")


def test_host_name_and_proxy(api: Api) -> None:
    assert api.get("/v1/device/host-config").json() == {"network": {"hostname": "quiet-robot"}}
    proxy = {"type": "http-connect", "ip": "proxy.example", "port": 8123, "noProxy": ["10.0.0.1"]}
    body = {"network": {"proxy": proxy, "hostname": "bench-3"}}
    answer = api.ask("PATCH", "/v1/device/host-config", json=body)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert api.device.config["hostname"] == "bench-3"
    found = api.get("/v1/device/host-config").json()["network"]["proxy"]
    assert (found["ip"], found["type"], found["noProxy"]) == (
        "proxy.example",
        "http-connect",
        ["10.0.0.1"],
    )
    wrong = api.ask("PATCH", "/v1/device/host-config", json={"network": {"hostname": "not a name"}})
    assert wrong.status_code == 400
    assert "not a name" in wrong.text
    assert api.device.config["hostname"] == "bench-3"


def test_the_tunnel(api: Api, door: HostDoor) -> None:
    off = {"status": "success", "vpn": {"enabled": False, "connected": False}}
    assert api.get("/v2/device/vpn").json() == off
    door.state("gantry-vpn.service", "active")
    assert api.get("/v2/device/vpn").json()["vpn"]["enabled"] is True


def test_the_hosts_journal(api: Api) -> None:
    answer = api.post("/v2/journal-logs", json={"count": 3, "unit": "docker", "all": True})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    asked = answer.text
    assert "docker" in asked
    assert "3" in asked
    for body in ({"count": 0}, {"count": "many"}, {"unit": ["a"]}, {"since": "a\nb"}):
        refused = api.post("/v2/journal-logs", json=body)
        assert (refused.status_code, refused.json()["status"]) == (400, "failed")


def test_followed_journals_are_few_and_end_with_their_reader(api: Api, door: HostDoor) -> None:
    url = f"http://127.0.0.1:{api.device.port}/v2/journal-logs"
    headers = {"Authorization": f"Bearer {api.key}"}
    wait_until("nothing else is asked of the host", lambda: door.busy == 0)
    readers = []  # what nobody holds is closed
    with ExitStack() as held:
        for _ in range(4):
            stream = httpx2.stream("POST", url, headers=headers, json={"follow": True})
            pieces = held.enter_context(stream).iter_lines()
            readers.append(pieces)
            assert next(pieces).startswith("asked:")
            assert next(pieces) == "more"
        assert door.busy >= 4
        refused = api.post("/v2/journal-logs", json={"count": 1})
        assert (refused.status_code, refused.json()["status"]) == (503, "failed")
    wait_until("nobody reads the journal any more", lambda: door.busy == 0)
    assert api.post("/v2/journal-logs", json={"count": 1}).status_code == 200


def test_a_host_without_a_door_is_said(device: Device, cloud: Cloud, tmp_path: Path) -> None:
    device.environment["HOST_DOOR"] = str(tmp_path / "none.sock")
    device.start()
    wait_until("it polled", lambda: cloud.polls)
    api = Api(device)
    for path in ("/v1/reboot", "/v1/shutdown"):
        answer = api.post(path)
        assert (answer.status_code, answer.json()["Data"]) == (500, "")
        assert "door" in answer.json()["Error"]
    for method, path in (
        ("POST", "/v1/blink"),
        ("GET", "/v1/device/host-config"),
        ("GET", "/v2/device/vpn"),
        ("POST", "/v2/journal-logs"),
    ):
        answer = api.ask(method, path)
        assert (answer.status_code, answer.json()["status"]) == (503, "failed"), path
        assert "door" in answer.json()["message"]
