"""Actions on devices: kept, carried out in order, cancelled, expired, and what is told of them."""

import itertools
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from gantry.api.database import Database
from gantry.api.queries import actions
from tests.ports import free_port

from .conftest import Api, Device, Fleet, make_config, own_database, running
from .tunnels import Network, Reachable, network, reachable, until


@pytest.fixture(scope="module")
def apis(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Api]]:
    """Two replicas, and the network that both reach devices by."""
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        with network(config["service_keys"]["vpn"]) as net:
            config["vpn_proxy_port"] = net.port
            NETWORKS[url] = net
            folder = tmp_path_factory.mktemp("apis")
            other = {**config, "listen_port": free_port()}
            with running(config, folder) as one, running(other, folder, "other") as two:
                yield one, two


NETWORKS: dict[str, Network] = {}


@pytest.fixture(scope="module")
def api(apis: tuple[Api, Api]) -> Api:
    return apis[0]


@pytest.fixture(scope="module")
def net(api: Api) -> Network:
    return NETWORKS[api.config["database_url"].replace("+psycopg", "")]


@pytest.fixture
def fleet(api: Api) -> Fleet:
    name = f"user{secrets.token_hex(4)}"
    made = api.login().post("/v7/user", json={"username": name, "password": "long enough"})
    assert made.status_code == 201, made.text
    user = api.login(name, "long enough")
    body = {"app_name": "testing", "is_for__device_type": "raspberrypi3-64"}
    assert user.post("/v7/application", json=body).status_code == 201
    found = Fleet(api, user, f"{name}/testing")
    found.release()
    return found


@pytest.fixture
def robot(api: Api, net: Network, fleet: Fleet) -> Reachable:
    """It is not connected."""
    return reachable(api, net, fleet.register(), is_connected=False)


def sql(api: Api, statement: str, values: Any = ()) -> list[Any]:
    url = api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        found = connection.execute(statement, values)
        return found.fetchall() if found.description else []


def want(user: httpx.Client, device: Device, action: str, **more: Any) -> httpx.Response:
    body = {"device": device.id, "action": action, **more}
    return user.post("/v7/device_action", json=body)


def made(answer: httpx.Response) -> int:
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def row(user: httpx.Client, number: int) -> dict[str, Any]:
    (found,) = user.get(f"/v7/device_action({number})").json()["d"]
    assert isinstance(found, dict)
    return found


def ended(user: httpx.Client, number: int) -> dict[str, Any]:
    """The action, once it is over."""
    over = ("done", "failed", "expired", "cancelled")
    return until(lambda: found if (found := row(user, number))["status"] in over else None)


def test_an_action_is_kept_until_the_device_comes(fleet: Fleet, robot: Reachable) -> None:
    before = datetime.now(UTC)
    number = made(want(fleet.user, robot.device, "identify"))
    kept = row(fleet.user, number)
    assert kept["status"] == "pending"
    assert kept["device"] == {"__id": robot.device.id}
    assert kept["user"] == fleet.application["belongs_to__user"]
    assert (kept["started_at"], kept["ended_at"], kept["result"]) == (None, None, None)
    week = datetime.fromisoformat(kept["expires_at"]) - before
    assert timedelta(days=6, hours=23) < week < timedelta(days=7, minutes=1)
    assert robot.supervisor.heard == []
    robot.come()
    done = ended(fleet.user, number)
    assert (done["status"], done["result"]) == ("done", {"status": 200, "text": ""})
    assert done["started_at"] <= done["ended_at"]
    assert robot.supervisor.heard == ["blink"]
    # What a worker needs of it is nobody's business.
    assert not {"worker", "lease_expires_at", "sent_at", "tries", "next_try_at"} & done.keys()


def test_all_actions_in_their_order(fleet: Fleet, robot: Reachable) -> None:
    service = {"parameters": {"service": "main"}}
    forced = {"parameters": {"force": True}}
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("stop-service", service),
        ("start-service", service),
        ("restart-service", service),
        ("restart", {}),
        ("purge", forced),
        ("update", forced),
        ("update", {}),
        ("identify", {}),
        ("reboot", {}),
        ("shutdown", forced),
    ]
    numbers = [made(want(fleet.user, robot.device, name, **more)) for name, more in wanted]
    robot.come()
    rows = [ended(fleet.user, each) for each in numbers]
    assert [each["status"] for each in rows] == ["done"] * len(wanted)
    assert robot.supervisor.heard == [
        f"stop {fleet.id} main",
        f"start {fleet.id} main",
        f"restart {fleet.id} main",
        f"restart {fleet.id} main",
        f"purge {fleet.id} main",
        "update True",
        "update False",
        "blink",
        "reboot",
        "shutdown",
    ]
    # One after the other.
    for one, next_ in itertools.pairwise(rows):
        assert one["ended_at"] <= next_["started_at"]


def test_a_device_that_is_there_acts_at_once(fleet: Fleet, robot: Reachable) -> None:
    robot.come()
    number = made(want(fleet.user, robot.device, "reboot"))
    assert ended(fleet.user, number)["result"] == {
        "status": 202,
        "text": '{"Data":"OK","Error":""}',
    }


def test_what_the_device_refuses_has_failed(fleet: Fleet, robot: Reachable) -> None:
    robot.supervisor.is_locked = True
    robot.come()
    found = ended(fleet.user, made(want(fleet.user, robot.device, "restart")))
    assert (found["status"], found["result"]["status"]) == ("failed", 423)
    assert "an update lock is held" in found["result"]["text"]
    found = ended(
        fleet.user, made(want(fleet.user, robot.device, "restart", parameters={"force": True}))
    )
    assert found["status"] == "done"


def test_a_device_that_is_not_reached_is_tried_again(
    net: Network, fleet: Fleet, robot: Reachable
) -> None:
    net.refusal = 502
    try:
        robot.come()
        first = made(want(fleet.user, robot.device, "identify"))
        second = made(want(fleet.user, robot.device, "reboot"))
        tried = until(lambda: row(fleet.user, first)["result"])
        assert tried == {
            "status": None,
            "text": "the VPN's server says 502: the proxy says no",
        }
        until(lambda: row(fleet.user, first)["status"] == "pending")
        assert row(fleet.user, second)["result"] is None
    finally:
        net.refusal = 0
    # It comes back before the next try would be due.
    robot.go()
    robot.come()
    assert [ended(fleet.user, each)["status"] for each in (first, second)] == ["done"] * 2
    assert robot.supervisor.heard == ["blink", "reboot"]


def test_a_device_that_may_have_heard_is_not_asked_again(fleet: Fleet, robot: Reachable) -> None:
    robot.supervisor.is_mute = True
    robot.come()
    number = made(want(fleet.user, robot.device, "reboot"))
    found = ended(fleet.user, number)
    assert (found["status"], found["result"]["status"]) == ("failed", None)
    assert "what it has done is not known" in found["result"]["text"]


def test_cancelled(fleet: Fleet, robot: Reachable) -> None:
    first, second = (made(want(fleet.user, robot.device, "identify")) for _ in range(2))
    path = f"/v7/device_action({first})"
    assert fleet.user.patch(path, json={"status": "done"}).status_code == 400
    assert fleet.user.patch(path, json={"expires_at": None}).status_code == 400
    assert fleet.user.delete(path).status_code == 405
    assert fleet.user.patch(path, json={"status": "cancelled"}).status_code == 200
    found = row(fleet.user, first)
    assert (found["status"], found["ended_at"] is None) == ("cancelled", False)
    robot.come()
    assert ended(fleet.user, second)["status"] == "done"
    assert robot.supervisor.heard == ["blink"]
    for number, status in ((first, "cancelled"), (second, "done")):
        answer = fleet.user.patch(f"/v7/device_action({number})", json={"status": "cancelled"})
        assert answer.status_code == 409
        assert f"{number} is {status}" in answer.json()["error"]


def test_expired(api: Api, fleet: Fleet, robot: Reachable) -> None:
    number = made(want(fleet.user, robot.device, "identify"))
    later = made(want(fleet.user, robot.device, "reboot"))
    sql(
        api,
        "update device_action set created_at = now() - interval '2 days',"
        " expires_at = now() - interval '1 second' where id = %s",
        [number],
    )
    # Not even before the sweep has come.
    robot.come()
    assert ended(fleet.user, later)["status"] == "done"
    found = ended(fleet.user, number)
    assert (found["status"], found["started_at"]) == ("expired", None)
    assert robot.supervisor.heard == ["reboot"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"action": "format"}, "action"),
        ({"action": "restart-service"}, "say which service to restart-service"),
        ({"action": "restart-service", "parameters": {"service": "nine"}}, "no service 'nine'"),
        ({"action": "reboot", "parameters": {"service": "main"}}, "takes no service"),
        ({"action": "identify", "parameters": {"force": True}}, "takes no force"),
        ({"action": "reboot", "parameters": {"hard": True}}, "parameters"),
        ({"action": "reboot", "expires_at": "2020-01-01T00:00:00Z"}, "1 minute to 30 days"),
        ({"action": "reboot", "expires_at": "2999-01-01T00:00:00Z"}, "1 minute to 30 days"),
        ({"action": "reboot", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"action": "reboot", "status": "done"}, "status"),
    ],
)
def test_what_is_no_action(fleet: Fleet, robot: Reachable, body: dict[str, Any], said: str) -> None:
    answer = fleet.user.post("/v7/device_action", json={"device": robot.device.id, **body})
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_device_has_so_many_waiting(fleet: Fleet, robot: Reachable) -> None:
    with ThreadPoolExecutor(4) as pool:
        wanted = list(pool.map(lambda _: want(fleet.user, robot.device, "identify"), range(100)))
    assert {each.status_code for each in wanted} == {201}
    assert want(fleet.user, robot.device, "identify").status_code == 409
    cancelled = fleet.user.patch(
        f"/v7/device_action?$filter=device eq {robot.device.id}", json={"status": "cancelled"}
    )
    assert cancelled.status_code == 200, cancelled.text
    assert want(fleet.user, robot.device, "identify").status_code == 201


def test_who_sees_and_who_makes_actions(api: Api, fleet: Fleet, robot: Reachable) -> None:
    number = made(want(fleet.user, robot.device, "identify"))
    admin = api.login()
    assert admin.get(f"/v7/device_action({number})").json() == {"d": []}
    assert want(admin, robot.device, "identify").status_code == 404
    path = f"/v7/device_action({number})"
    assert admin.patch(path, json={"status": "cancelled"}).status_code == 404
    assert row(robot.device.client, number)["action"] == "identify"
    assert want(robot.device.client, robot.device, "identify").status_code == 403
    assert robot.device.client.patch(path, json={"status": "cancelled"}).status_code == 403
    other = fleet.register()
    assert other.client.get(path).json() == {"d": []}
    assert api.client(fleet.provisioning_key()).get(path).status_code == 403
    assert api.client().get(path).status_code == 401
    # By the device, as the family's clients would ask.
    query = f"/v7/device({robot.device.id})?$expand=device_action($select=id;$expand=user)"
    (found,) = fleet.user.get(query).json()["d"]
    assert found["device_action"][0]["id"] == number
    assert (
        found["device_action"][0]["user"][0]["username"]
        == (fleet.application["slug"].partition("/")[0])
    )


def test_who_has_left_acts_no_more(api: Api, fleet: Fleet, robot: Reachable) -> None:
    name = f"user{secrets.token_hex(4)}"
    new = {"username": name, "password": "long enough"}
    assert api.login().post("/v7/user", json=new).status_code == 201
    member = {
        "is_member_of__organization": fleet.application["organization"]["__id"],
        "username": name,
    }
    membership = made(fleet.user.post("/v7/organization_membership", json=member))
    number = made(want(api.login(name, "long enough"), robot.device, "shutdown"))
    assert fleet.user.delete(f"/v7/organization_membership({membership})").status_code == 200
    robot.come()
    found = ended(fleet.user, number)
    assert found["status"] == "cancelled"
    assert "may not reach the device any more" in found["result"]["text"]
    assert robot.supervisor.heard == []


def test_all_of_it_is_in_the_audit_log(fleet: Fleet, robot: Reachable) -> None:
    first, second = (made(want(fleet.user, robot.device, "identify")) for _ in range(2))
    fleet.user.patch(f"/v7/device_action({second})", json={"status": "cancelled"})
    robot.come()
    ended(fleet.user, first)
    me = f"user {fleet.application['slug'].partition('/')[0]}"

    def entries(number: int) -> list[tuple[str, str, str | None]]:
        query = f"/v7/audit_entry?$filter=resource eq 'device_action' and row eq {number}"
        rows = fleet.user.get(f"{query}&$orderby=id").json()["d"]
        assert {each["row_name"] for each in rows} == {"identify"}
        return [
            (each["actor_name"], each["action"], each["changes"].get("status")) for each in rows
        ]

    assert entries(first) == [(me, "create", None), ("gantry", "update", "done")]
    assert entries(second) == [(me, "create", None), (me, "update", "cancelled")]


def test_two_replicas_do_each_action_once(
    apis: tuple[Api, Api], net: Network, fleet: Fleet
) -> None:
    robots = [reachable(apis[0], net, fleet.register(), is_connected=False) for _ in range(10)]
    users = [fleet.user, apis[1].client(fleet.user.headers["authorization"].split()[1])]
    for each in robots[:5]:
        each.come()
    with ThreadPoolExecutor(8) as pool:
        numbers = list(
            pool.map(
                lambda n: made(want(users[n % 2], robots[n % 10].device, "identify")), range(60)
            )
        )
    for each in robots[5:]:
        each.come()
    assert {ended(fleet.user, each)["status"] for each in numbers} == {"done"}
    assert [each.supervisor.heard for each in robots] == [["blink"] * 6] * 10


def test_what_a_worker_leaves_behind_is_settled(postgres: str, tmp_path: Path) -> None:
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        with network(config["service_keys"]["vpn"]) as net:
            config["vpn_proxy_port"] = net.port
            with running(config, tmp_path) as api:
                fleet = Fleet(api, api.login(), "admin/devbots")
                both = [reachable(api, net, fleet.register(), is_connected=False) for _ in range(2)]
                numbers = [made(want(fleet.user, each.device, "reboot")) for each in both]
                # As a process leaves it that is killed.
                sql(
                    api,
                    "update device_action set status = 'running', worker = 'gone',"
                    " started_at = now(), lease_expires_at = now() - interval '1 second'",
                )
                sql(api, "update device_action set sent_at = now() where id = %s", [numbers[0]])
                api.stop(signal.SIGKILL)
                api.start()
                api.wait()
                user = api.login()
                found = until(
                    lambda: each if (each := row(user, numbers[0]))["status"] == "failed" else None,
                    120,
                )
                assert "whether it was done is not known" in found["result"]["text"]
                assert row(user, numbers[1])["status"] == "pending"
                for each in both:
                    each.server.client = api.service("vpn")
                    each.come()
                assert ended(user, numbers[1])["status"] == "done"
                assert [each.supervisor.heard for each in both] == [[], ["reboot"]]


def test_a_worker_s_lease_is_of_what_it_carries_out_alone(
    api: Api, net: Network, fleet: Fleet
) -> None:
    both = [reachable(api, net, fleet.register(), is_connected=False) for _ in range(2)]
    held, left = (made(want(fleet.user, each.device, "reboot")) for each in both)
    sql(
        api,
        "update device_action set status = 'running', worker = 'me', started_at = now(),"
        " lease_expires_at = now() + interval '1 hour' where id = any (%s)",
        [[held, left]],
    )
    database = Database(api.config["database_url"])
    try:
        with database.transaction() as session:
            actions.renew(session, "me", [held], timedelta(hours=3))
    finally:
        database.close()
    found = sql(
        api,
        "select id from device_action where worker = 'me'"
        " and lease_expires_at > now() + interval '2 hours'",
    )
    assert found == [(held,)]


def test_a_fleet_s_actions_go_with_it(fleet: Fleet, robot: Reachable) -> None:
    number = made(want(fleet.user, robot.device, "identify"))
    assert fleet.user.delete(f"/v7/device({robot.device.id})").status_code == 200
    assert fleet.user.get(f"/v7/device_action({number})").json() == {"d": []}


def test_figures(api: Api, fleet: Fleet, robot: Reachable) -> None:
    made(want(fleet.user, robot.device, "identify"))

    def figures() -> dict[str, float]:
        text = api.client().get("/metrics").text
        lines = (each.rpartition(" ") for each in text.splitlines() if not each.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    # The database is asked four times a minute at most.
    until(lambda: figures().get('gantry_device_actions{status="pending"}', 0) >= 1, 40)
    robot.come()
    until(lambda: figures().get('gantry_devices_connected{server="127.0.0.1"}', 0) >= 1, 40)
