"""`POST /supervisor/<path>`: passed on to real supervisors through an HTTP CONNECT proxy."""

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from tests.ports import free_port

from .conftest import Api, Fleet, make_config, own_database, running
from .tunnels import Network, Reachable, network, reachable, until
from .vpn import Server, audited


@pytest.fixture(scope="module")
def net_and_api(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Network, Api]]:
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        with network(config["service_keys"]["vpn"]) as net:
            config["vpn_proxy_port"] = net.port
            with running(config, tmp_path_factory.mktemp("api")) as api:
                yield net, api


@pytest.fixture(scope="module")
def net(net_and_api: tuple[Network, Api]) -> Network:
    return net_and_api[0]


@pytest.fixture(scope="module")
def api(net_and_api: tuple[Network, Api]) -> Api:
    return net_and_api[1]


@pytest.fixture
def fleet(api: Api) -> Fleet:
    admin, name = api.login(), f"user{secrets.token_hex(4)}"
    made = admin.post("/v7/user", json={"username": name, "password": "long enough"})
    assert made.status_code == 201, made.text
    user = api.login(name, "long enough")
    body = {"app_name": "testing", "is_for__device_type": "raspberrypi3-64"}
    assert user.post("/v7/application", json=body).status_code == 201
    return Fleet(api, user, f"{name}/testing")


@pytest.fixture
def robot(api: Api, net: Network, fleet: Fleet) -> Reachable:
    return reachable(api, net, fleet.register())


def ask(fleet: Fleet, path: str, **body: Any) -> httpx.Response:
    return fleet.user.post(f"/supervisor/{path}", json=body)


def test_what_the_supervisor_says_comes_back(fleet: Fleet, robot: Reachable) -> None:
    uuid = robot.device.uuid
    ping = ask(fleet, "ping", uuid=uuid, method="GET")
    assert (ping.status_code, ping.text) == (200, "OK")
    name = ask(fleet, "v2/device/name", deviceId=robot.device.id, appId=fleet.id, method="GET")
    assert name.json() == {"status": "success", "deviceName": "robot"}
    assert name.headers["content-type"].startswith("application/json")
    reboot = ask(fleet, "v1/reboot", uuid=uuid, data={"force": False})
    assert (reboot.status_code, reboot.json()) == (202, {"Data": "OK", "Error": ""})
    body = {"appId": fleet.id, "serviceName": "main"}
    path = f"v2/applications/{fleet.id}/restart-service"
    assert ask(fleet, path, deviceId=robot.device.id, data=body).text == "OK"
    assert robot.supervisor.heard == ["reboot", f"restart {fleet.id} main"]
    # 204 has no body, 404 and 423 are the device's own.
    assert ask(fleet, "v1/update", uuid=uuid, method="post").status_code == 204
    assert ask(fleet, "v1/nothing", uuid=uuid).status_code == 404
    robot.supervisor.is_locked = True
    locked = ask(fleet, "v1/shutdown", uuid=uuid)
    assert (locked.status_code, locked.json()["Error"]) == (423, "an update lock is held")
    assert ask(fleet, "v1/shutdown", uuid=uuid, data={"force": True}).status_code == 202


def test_who_asks_is_in_the_audit_log(fleet: Fleet, robot: Reachable) -> None:
    ask(fleet, "v1/blink", uuid=robot.device.uuid)
    ask(fleet, "v2/version", uuid=robot.device.uuid, method="GET")
    (entry,) = audited(fleet.user, robot.device, "ask supervisor")
    assert entry["changes"] == {"path": "/v1/blink", "method": "POST"}
    assert entry["actor_name"] == f"user {fleet.application['slug'].partition('/')[0]}"


def test_all_devices_of_a_fleet(api: Api, net: Network, fleet: Fleet) -> None:
    there = [reachable(api, net, fleet.register()) for _ in range(3)]
    away = reachable(api, net, fleet.register(), is_connected=False)
    there[1].supervisor.is_locked = True
    answer = ask(fleet, "v1/restart", appId=fleet.id, data={"appId": fleet.id})
    assert answer.status_code == 207, answer.text
    said = {each["uuid"]: (each["status"], each["body"]) for each in answer.json()}
    locked = {"status": "failed", "message": "an update lock is held"}
    assert said == {
        there[0].device.uuid: (200, "OK"),
        there[1].device.uuid: (423, locked),
        there[2].device.uuid: (200, "OK"),
    }
    assert [each.supervisor.heard for each in there] == [
        [f"restart {fleet.id} main"],
        [],
        [f"restart {fleet.id} main"],
    ]
    assert away.supervisor.heard == []


def test_devices_that_cannot_be_asked(
    api: Api, net: Network, fleet: Fleet, robot: Reachable
) -> None:
    never = fleet.register()
    answer = ask(fleet, "v1/blink", uuid=never.uuid)
    said = {"error": f"device {never.uuid[:7]} has never been connected to the VPN"}
    assert (answer.status_code, answer.json()) == (503, said)
    net.server(api).login(never)
    answer = ask(fleet, "v1/blink", uuid=never.uuid)
    assert (answer.status_code, "has not told the key" in answer.text) == (503, True)
    robot.go()
    answer = ask(fleet, "v1/blink", uuid=robot.device.uuid)
    assert (answer.status_code, "is not connected to the VPN since" in answer.text) == (503, True)
    robot.come()
    net.refusal = 502
    try:
        answer = ask(fleet, "v1/blink", uuid=robot.device.uuid)
    finally:
        net.refusal = 0
    assert answer.status_code == 503
    assert answer.json()["error"].endswith("the VPN's server says 502: the proxy says no")
    robot.supervisor.is_mute = True
    answer = ask(fleet, "v1/blink", uuid=robot.device.uuid)
    assert (answer.status_code, "what it has done is not known" in answer.text) == (504, True)
    robot.supervisor.is_mute = False
    fleet.user.patch(f"/v7/device({robot.device.id})", json={"is_active": False})
    assert ask(fleet, "v1/blink", uuid=robot.device.uuid).status_code == 403
    assert robot.supervisor.heard == []
    for body in ({}, {"uuid": robot.device.uuid, "method": "CONNECT"}, {"deviceId": "x"}):
        assert ask(fleet, "v1/blink", **body).status_code == 400
    assert ask(fleet, "v1/blink", deviceId=999_999).status_code == 404


def test_a_server_that_is_not_there(api: Api, net: Network, fleet: Fleet) -> None:
    robot = reachable(api, net, fleet.register(), is_connected=False)
    robot.server = Server(api, "no-such-server.invalid")
    robot.come()
    answer = ask(fleet, "v1/blink", uuid=robot.device.uuid)
    assert answer.status_code == 503
    assert "the VPN's server no-such-server.invalid is not there" in answer.json()["error"]


def test_paths_are_sent_as_they_were_asked(fleet: Fleet, robot: Reachable) -> None:
    for path in ("v1/apps/%2e%2e/x", "v2/a%20b", "v2/a%0d%0aHost:x", "v2/ä"):
        answer = ask(fleet, path, uuid=robot.device.uuid, method="GET")
        assert answer.status_code == 404, path
    assert robot.supervisor.heard == []


def test_the_key_is_stored_encrypted_and_told_to_nobody(
    api: Api, fleet: Fleet, robot: Reachable
) -> None:
    key = robot.supervisor.key
    url = api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        query = "select * from device where uuid = %s"
        row = connection.execute(query, [robot.device.uuid]).fetchone()
    assert key not in str(row)
    (seen,) = fleet.user.get(f"/v7/device({robot.device.id})").json()["d"]
    assert key not in str(seen)
    assert key not in api.log.read_text()
    # Another one, by the older way of reporting.
    robot.supervisor.key = secrets.token_hex(16)
    assert ask(fleet, "v1/blink", uuid=robot.device.uuid).status_code == 401
    body = {"local": {"api_secret": robot.supervisor.key}}
    path = f"/device/v2/{robot.device.uuid}/state"
    assert robot.device.client.patch(path, json=body).status_code == 200
    assert ask(fleet, "v1/blink", uuid=robot.device.uuid).status_code == 200


@pytest.mark.parametrize("key", ["s3cret\r\nX-More: yes", "two words", "schlüssel", ""])
def test_what_a_device_tells_as_its_key_and_is_none(
    fleet: Fleet, robot: Reachable, key: str
) -> None:
    body = {robot.device.uuid: {"api_secret": key}}
    assert robot.device.client.patch("/device/v3/state", json=body).status_code == 200
    answer = ask(fleet, "v1/blink", uuid=robot.device.uuid)
    assert (answer.status_code, "has told is no key" in answer.text) == (503, True)
    assert robot.supervisor.heard == []


class Journal:
    """A journal that is followed, read by a thread."""

    def __init__(self, user: httpx.Client, uuid: str) -> None:
        self.lines: list[str] = []
        self.status = 0
        self._user, self._uuid = user, uuid
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        body = {"uuid": self._uuid, "data": {"follow": True}}
        with self._user.stream("POST", "/supervisor/v2/journal-logs", json=body) as answer:
            self.status = answer.status_code
            self.lines += answer.iter_lines()


def lines_of(answer: httpx.Response) -> list[str]:
    """A few lines as they come."""
    found = []
    for line in answer.iter_lines():
        found.append(line)
        if len(found) == 5:
            break
    return found


def test_a_journal_is_read_as_it_is_written(fleet: Fleet, robot: Reachable) -> None:
    body = {"uuid": robot.device.uuid, "data": {"follow": True}}
    begun = time.monotonic()
    with fleet.user.stream("POST", "/supervisor/v2/journal-logs", json=body) as answer:
        assert answer.status_code == 200
        assert lines_of(answer) == [f"line {each}" for each in range(1, 6)]
    # It has not waited for an end that does not come.
    assert time.monotonic() - begun < 15
    # Nor is it read on: the supervisor has four places for readers.
    for _ in range(6):
        with fleet.user.stream("POST", "/supervisor/v2/journal-logs", json=body) as answer:
            assert answer.status_code == 200
            lines_of(answer)
        time.sleep(0.3)


@pytest.mark.parametrize("how", ["key", "password", "device", "member"])
def test_a_journal_ends_with_what_it_was_opened_by(
    api: Api, fleet: Fleet, robot: Reachable, how: str
) -> None:
    user = fleet.user
    if how == "key":
        made = user.post("/api-key/user/full", json={"name": "journal"}).json()
        user = api.client(made)
    if how == "member":
        name = f"user{secrets.token_hex(4)}"
        new = {"username": name, "password": "long enough"}
        assert api.login().post("/v7/user", json=new).status_code == 201
        member = {
            "is_member_of__organization": fleet.application["organization"]["__id"],
            "username": name,
        }
        row = fleet.user.post("/v7/organization_membership", json=member).json()["id"]
        user = api.login(name, "long enough")
    journal = Journal(user, robot.device.uuid)
    until(lambda: journal.status == 200)
    time.sleep(0.5)
    assert journal.thread.is_alive()
    if how == "key":
        fleet.user.delete("/v7/api_key?$filter=name eq 'journal'")
    elif how == "password":
        body = {"password": "long enough", "newPassword": "longer than that"}
        assert user.post("/user/v1/change-password", json=body).status_code == 200
    elif how == "device":
        user.patch(f"/v7/device({robot.device.id})", json={"is_active": False})
    else:
        assert fleet.user.delete(f"/v7/organization_membership({row})").status_code == 200
    journal.thread.join(20)
    assert not journal.thread.is_alive()
    assert journal.lines


def test_a_journal_that_begins_late_ends_with_what_ended_before(
    api: Api, net: Network, fleet: Fleet, robot: Reachable
) -> None:
    made = fleet.user.post("/api-key/user/full", json={"name": "journal"}).json()
    robot.supervisor.delay = 5
    journal = Journal(api.client(made), robot.device.uuid)
    until(lambda: any(each.startswith(robot.device.uuid) for each in net.asked))
    assert fleet.user.delete("/v7/api_key?$filter=name eq 'journal'").status_code == 200
    assert journal.status == 0
    journal.thread.join(20)
    assert not journal.thread.is_alive()
    assert journal.status == 200


def test_without_a_vpn(database_url: str, tmp_path: Path) -> None:
    config = make_config(database_url, free_port())
    del config["vpn_port"], config["service_keys"]["vpn"]
    with running(config, tmp_path) as api:
        fleet = Fleet(api, api.login(), "admin/devbots")
        answer = ask(fleet, "v1/blink", uuid=fleet.register().uuid)
        assert answer.status_code == 503
        assert "never been connected" in answer.json()["error"]


def test_many_ask_at_once(api: Api, net: Network, fleet: Fleet) -> None:
    robots = [reachable(api, net, fleet.register()) for _ in range(5)]

    def version(number: int) -> int:
        uuid = robots[number % 5].device.uuid
        return ask(fleet, "v2/version", uuid=uuid, method="GET").status_code

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(version, range(100))) == [200] * 100
