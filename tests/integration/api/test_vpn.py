"""What the VPN's servers ask and tell: logins of devices, who is connected, what ends."""

import ipaddress
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.ports import free_port

from .conftest import Api, Device, Fleet, make_config, own_database, running
from .vpn import Changes, Server, event, state


@pytest.fixture
def fleet(make_fleet: Callable[[], Fleet]) -> Fleet:
    return make_fleet()


@pytest.fixture
def server(shared_api: Api) -> Server:
    return Server(shared_api)


def sql(api: Api, statement: str, values: Any = ()) -> list[Any]:
    url = api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        found = connection.execute(statement, values)
        return found.fetchall() if found.description else []


def age(api: Api, device: Device, seconds: int) -> None:
    """As if all that happened to its connection were so long ago."""
    ago = "make_interval(secs => %s)"
    sql(
        api,
        f"update device set vpn_session_at = vpn_session_at - {ago},"  # noqa: S608 - no value
        f" last_vpn_event = last_vpn_event - {ago} where uuid = %s",
        [seconds, seconds, device.uuid],
    )


def test_a_device_logs_in_and_keeps_its_address(fleet: Fleet, server: Server) -> None:
    devices = [fleet.register() for _ in range(3)]
    answers = [server.authorize(each.uuid, each.key) for each in devices]
    assert [each.status_code for each in answers] == [200] * 3
    told = [each.json() for each in answers]
    addresses = {ipaddress.ip_address(each["address"]) for each in told}
    assert len(addresses) == 3
    network = ipaddress.ip_network("100.64.0.0/10")
    assert all(each in network and each > network[1] for each in addresses)
    assert [each["uuid"] for each in told] == [each.uuid for each in devices]
    assert [each["device_id"] for each in told] == [each.id for each in devices]
    assert all(each["seconds"] is None for each in told)
    # The second time nothing is written.
    before = sql(fleet.api, "select xmin from device where uuid = %s", [devices[0].uuid])
    assert server.authorize(devices[0].uuid, devices[0].key).json() == told[0]
    assert sql(fleet.api, "select xmin from device where uuid = %s", [devices[0].uuid]) == before


def test_many_logins_of_one_device_at_once_give_one_address(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.authorize(device.uuid, device.key), range(16)))
    assert {each.status_code for each in answers} == {200}
    assert len({each.json()["address"] for each in answers}) == 1


def test_an_address_that_is_taken_is_passed_over(fleet: Fleet, server: Server) -> None:
    one, other = fleet.register(), fleet.register()
    first = server.authorize(one.uuid, one.key).json()["address"]
    # As after all addresses have been given once.
    (last,) = sql(fleet.api, "select last_value from vpn_address")
    sql(fleet.api, "select setval('vpn_address', %s - 1)", [last[0]])
    second = server.authorize(other.uuid, other.key)
    assert second.status_code == 200, second.text
    assert second.json()["address"] != first


def test_who_does_not_log_in(fleet: Fleet, server: Server) -> None:
    device, other = fleet.register(), fleet.register()
    provisioning = fleet.provisioning_key()
    token = fleet.user.headers["authorization"].removeprefix("Bearer ")
    refused = [
        server.authorize(device.uuid, key) for key in (other.key, "", "x" * 32, provisioning, token)
    ]
    refused.append(server.authorize(secrets.token_hex(16), device.key))
    assert {each.status_code for each in refused} == {401}
    # Nothing tells an unknown uuid from a wrong key.
    assert len({each.text for each in refused}) == 1
    fleet.user.patch(f"/v7/device({device.id})", json={"is_active": False})
    assert server.authorize(device.uuid, device.key).status_code == 403


def test_a_key_s_end_is_known_at_the_login(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    made = fleet.user.post(
        f"/api-key/device/{device.id}/device-key", json={"expiryDate": "2999-01-01T00:00:00Z"}
    )
    assert made.status_code == 200, made.text
    told = server.authorize(device.uuid, made.json()).json()
    assert told["seconds"] > 1e9
    sql(
        fleet.api,
        "update api_key set expiry_date = now() - interval '1 second' where id = %s",
        [told["credential"].removeprefix("key:")],
    )
    assert server.authorize(device.uuid, made.json()).status_code == 401


def test_connected_and_disconnected(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    assert state(fleet.user, device.uuid) == (False, None)
    session = server.login(device)
    is_connected, since = state(fleet.user, device.uuid)
    assert is_connected
    assert since is not None
    # Said again it is no news.
    server.tell(event(device.uuid, "connected", session))
    assert state(fleet.user, device.uuid) == (True, since)
    server.tell(event(device.uuid, "disconnected", session))
    is_connected, later = state(fleet.user, device.uuid)
    assert not is_connected
    assert later is not None
    assert later > since
    server.tell(event(device.uuid, "disconnected", session))
    assert state(fleet.user, device.uuid) == (False, later)


def test_events_that_come_late_say_when_it_was(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    came = event(device.uuid, "connected", "one", ago=300)
    server.tell(came)
    _, since = state(fleet.user, device.uuid)
    assert since is not None
    assert since[:19] == came["at"][:19]
    # A clock that is fast makes no time that has not come yet.
    server.tell(event(device.uuid, "disconnected", "one", ago=-300))
    _, since = state(fleet.user, device.uuid)
    assert since is not None
    assert since < event(device.uuid, "connected", "x", ago=-5)["at"]


def test_the_end_of_an_old_connection_changes_nothing(
    shared_api: Api, fleet: Fleet, server: Server
) -> None:
    other = Server(shared_api)
    device = fleet.register()
    old = server.login(device)
    new = server.login(device)
    before = state(fleet.user, device.uuid)
    server.tell(event(device.uuid, "disconnected", old))
    assert state(fleet.user, device.uuid) == before
    # On another server, and the old one's news come after.
    elsewhere = other.login(device)
    server.tell(
        event(device.uuid, "connected", "late", ago=20), event(device.uuid, "disconnected", new)
    )
    assert state(fleet.user, device.uuid) == before
    server.tell(event(device.uuid, "disconnected", elsewhere))
    assert state(fleet.user, device.uuid) == before
    other.tell(event(device.uuid, "disconnected", elsewhere))
    assert not state(fleet.user, device.uuid)[0]
    # What began before that does not come back.
    server.tell(event(device.uuid, "connected", "later", ago=10))
    assert not state(fleet.user, device.uuid)[0]


def test_a_batch_is_carried_out_in_order(fleet: Fleet, server: Server) -> None:
    one, two, three = (fleet.register() for _ in range(3))
    before = server.login(two)
    server.tell(
        event(one.uuid, "connected", "a", ago=5),
        event(two.uuid, "disconnected", before, ago=4),
        event(one.uuid, "disconnected", "a", ago=4),
        event(three.uuid, "connected", "c", ago=4),
        event(one.uuid, "connected", "b", ago=3),
        event(three.uuid, "disconnected", "c", ago=2),
        event(three.uuid, "disconnected", "never", ago=1),
        event(secrets.token_hex(16), "connected", "nobody", ago=1),
    )
    states = [state(fleet.user, each.uuid)[0] for each in (one, two, three)]
    assert states == [True, False, False]


def test_a_server_that_starts_anew_has_no_devices(
    shared_api: Api, fleet: Fleet, server: Server
) -> None:
    other = Server(shared_api)
    mine, theirs = fleet.register(), fleet.register()
    server.login(mine)
    other.login(theirs)
    server.start()
    assert [state(fleet.user, each.uuid)[0] for each in (mine, theirs)] == [False, True]
    # Events of the new run that are there before its first heartbeat.
    server.boot = secrets.token_hex(4)
    server.tell(event(mine.uuid, "connected", "new"))
    server.beat(None)
    assert state(fleet.user, mine.uuid)[0]


def test_a_list_puts_right_what_was_missed(fleet: Fleet, server: Server) -> None:
    gone, there, crossed = (fleet.register() for _ in range(3))
    for each in (gone, crossed):
        server.login(each)
    session = server.login(there)
    server.tell(event(there.uuid, "disconnected", session))
    server.beat(None)
    assert [state(fleet.user, each.uuid)[0] for each in (gone, there)] == [True, False]
    # A list that is as old as the events proves nothing against them.
    server.beat([there.uuid])
    assert [state(fleet.user, each.uuid)[0] for each in (gone, there)] == [True, False]
    for each in (gone, there):
        age(fleet.api, each, 30)
    server.beat([there.uuid])
    states = [state(fleet.user, each.uuid)[0] for each in (gone, there, crossed)]
    assert states == [False, True, True]
    # Which connection that is the list does not tell: the next end of one of it is this one's.
    server.tell(event(there.uuid, "disconnected", "whichever"))
    assert not state(fleet.user, there.uuid)[0]


def test_a_device_that_is_at_another_server_stays_there(
    shared_api: Api, fleet: Fleet, server: Server
) -> None:
    other = Server(shared_api)
    device = fleet.register()
    server.login(device)
    session = other.login(device)
    age(fleet.api, device, 60)
    # It has not noticed yet that the device has left it.
    server.beat([device.uuid])
    other.tell(event(device.uuid, "disconnected", session))
    assert not state(fleet.user, device.uuid)[0]


@pytest.mark.parametrize(
    "body",
    [
        {"server": "vpn/1", "boot": "b", "events": []},
        {"server": "vpn-1", "boot": "", "events": []},
        {
            "server": "vpn-1",
            "boot": "b",
            "events": [{**event("x", "connected", "s"), "at": "soon"}],
        },
        {"server": "vpn-1", "boot": "b", "events": [{**event("x", "gone", "s")}]},
        {"server": "vpn-1", "boot": "b/c", "events": []},
        {"server": "vpn-1", "boot": "b", "events": [event("x", "connected", "s")] * 501},
    ],
)
def test_what_is_no_batch(server: Server, body: dict[str, Any]) -> None:
    answer = server.client.post("/services/vpn/events", json=body)
    assert (answer.status_code, "error" in answer.json()) == (400, True), answer.text


def test_a_silent_server_s_devices_are_not_connected(postgres: str, tmp_path: Path) -> None:
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        with running(config, tmp_path) as api:
            fleet = Fleet(api, api.login(), "admin/devbots")
            silent, telling = Server(api), Server(api)
            lost, kept = fleet.register(), fleet.register()
            silent.login(lost)
            telling.login(kept)
            sql(api, "update vpn_server set heard_at = now() - interval '2 minutes'")
            telling.beat()
            # The api has not been there for as long: it may be itself that was away.
            time.sleep(12)
            assert state(fleet.user, lost.uuid)[0]
            deadline = time.monotonic() + 90
            while state(fleet.user, lost.uuid)[0]:
                assert time.monotonic() < deadline
                telling.beat()
                time.sleep(2)
            assert state(fleet.user, kept.uuid)[0]
            # It was the network between the two: what it has is there at once.
            silent.beat([lost.uuid])
            assert state(fleet.user, lost.uuid)[0]


def test_what_ends_is_heard(shared_api: Api, fleet: Fleet, server: Server) -> None:
    changes = Changes(shared_api)
    one, two, three = (fleet.register() for _ in range(3))
    for each in (True, False):
        fleet.user.patch(f"/v7/device({one.id})", json={"is_web_accessible": each})
        changes.until({"device": one.uuid, "public_url": each})
    credential = server.authorize(one.uuid, one.key).json()["credential"]
    key = credential.removeprefix("key:")
    assert fleet.user.delete(f"/v7/api_key({key})").status_code == 200
    changes.until({"credential": credential})
    assert fleet.user.delete(f"/v7/device({two.id})").status_code == 200
    changes.until({"device": two.uuid, "gone": True})
    fleet.user.patch(f"/v7/device({three.id})", json={"is_active": False})
    changes.until({"device": three.uuid, "gone": True})
    # That it is active again, and what it is called, cuts nothing.
    fleet.user.patch(f"/v7/device({three.id})", json={"is_active": True})
    fleet.user.patch(f"/v7/device({three.id})", json={"device_name": "other"})
    fleet.user.patch(f"/v7/device({three.id})", json={"is_web_accessible": True})
    assert changes.until({"device": three.uuid, "public_url": True}) == [
        {"device": three.uuid, "public_url": True}
    ]


def test_who_listens_begins_anew_after_a_gap(shared_api: Api) -> None:
    changes = Changes(shared_api)
    sql(
        shared_api,
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'api-events' and datname = current_database()",
    )
    assert changes.ended.wait(30)


def test_a_device_of_another_fleet_is_gone_from_its_own(fleet: Fleet, shared_api: Api) -> None:
    changes = Changes(shared_api)
    device = fleet.register()
    body = {"app_name": "elsewhere", "is_for__device_type": "raspberrypi3-64"}
    other = fleet.user.post("/v7/application", json=body).json()
    moved = fleet.user.patch(
        f"/v7/device({device.id})", json={"belongs_to__application": other["id"]}
    )
    assert moved.status_code == 200, moved.text
    changes.until({"device": device.uuid, "gone": True})


def test_what_ended_while_nobody_listened_is_told_when_asked(
    shared_api: Api, fleet: Fleet, server: Server
) -> None:
    device = fleet.register()
    key = server.authorize(device.uuid, device.key).json()["credential"]
    server.login(device)
    me = fleet.user.get("/user/v1/whoami").json()["id"]
    session = server.tunnel(
        fleet.user.headers["authorization"].removeprefix("Bearer "), device.uuid
    ).json()["credential"]
    assert session.startswith(f"user:{me}:")

    def ended(*names: str) -> set[str]:
        answer = server.client.post("/services/vpn/check", json={"credentials": names})
        assert answer.status_code == 200, answer.text
        return set(answer.json()["ended"])

    assert ended(key, session, "key:0", "user:0:1", "nonsense") == {
        "key:0",
        "user:0:1",
        "nonsense",
    }
    path = f"/v7/device({device.id})"
    for is_active in (False, True):
        assert fleet.user.patch(path, json={"is_active": is_active}).status_code == 200
        assert ended(key, session) == (set() if is_active else {key})
    body = {"password": "long enough", "newPassword": "longer than that"}
    changed = fleet.user.post("/user/v1/change-password", json=body)
    assert ended(key, session) == {session}
    again = server.tunnel(changed.text, device.uuid).json()["credential"]
    sql(
        fleet.api,
        "update api_key set expiry_date = now() - interval '1 second' where id = %s",
        [key.removeprefix("key:")],
    )
    assert ended(key, again) == {key}


def test_public_urls(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    path = f"/services/vpn/public-urls/{device.uuid}"
    off, unknown = server.client.get(path), server.client.get(path[:-32] + secrets.token_hex(16))
    assert (off.status_code, off.text) == (unknown.status_code, unknown.text)
    assert off.status_code == 404
    fleet.user.patch(f"/v7/device({device.id})", json={"is_web_accessible": True})
    away = server.client.get(path)
    assert away.status_code == 409
    assert "never been connected" in away.json()["error"]
    session = server.login(device)
    address = server.authorize(device.uuid, device.key).json()["address"]
    there = server.client.get(path)
    assert there.status_code == 200
    assert there.json() == {"uuid": device.uuid, "address": address, "server": server.name}
    server.tell(event(device.uuid, "disconnected", session))
    assert "is not connected to the VPN since" in server.client.get(path).json()["error"]
    fleet.user.patch(f"/v7/device({device.id})", json={"is_active": False})
    assert server.client.get(path).status_code == 404


def test_config_json_and_the_fleet_s_parts(fleet: Fleet) -> None:
    made = fleet.user.post("/download-config", json={"appId": fleet.id}).json()
    assert (made["vpnEndpoint"], made["vpnPort"]) == ("vpn.devbots.gantry.internal", 1194)
    parts = fleet.api.client().get("/config").json()
    assert parts["vpnUrl"] == "vpn.devbots.gantry.internal"
    assert parts["tunnelUrl"] == "tunnel.devbots.gantry.internal"
    assert parts["vpnPort"] == 1194


def test_a_fleet_without_a_vpn(database_url: str, tmp_path: Path) -> None:
    config = make_config(database_url, free_port())
    del config["vpn_port"], config["service_keys"]["vpn"]
    with running(config, tmp_path) as api:
        user = api.login()
        fleet = Fleet(api, user, "admin/devbots")
        made = user.post("/download-config", json={"appId": fleet.id}).json()
        assert not {"vpnEndpoint", "vpnPort"} & made.keys()
        assert not {"vpnUrl", "vpnPort", "tunnelUrl"} & api.client().get("/config").json().keys()


def test_nothing_of_it_is_in_the_resource_model(fleet: Fleet, server: Server) -> None:
    device = fleet.register()
    server.login(device)
    (row,) = fleet.user.get(f"/v7/device({device.id})").json()["d"]
    internal = {"vpn_address", "vpn_server", "vpn_session", "vpn_session_at", "api_secret"}
    assert not internal & row.keys()
    for each in internal:
        assert fleet.user.get(f"/v7/device?$filter={each} eq null").status_code == 400
