"""Two processes of the api on one database: what is done at the one holds at the other."""

import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from tests.ports import free_port

from .conftest import Api, Fleet, running
from .test_keys import actor_of
from .test_second_factor import Person
from .test_state import Stream


@pytest.fixture(scope="module")
def other(shared_api: Api) -> Iterator[Api]:
    """A second process on the database of `shared_api`."""
    config = {**shared_api.config, "listen_port": free_port()}
    with running(config, shared_api.file.parent, "other") as started:
        yield started


def at(api: Api, client: httpx.Client) -> httpx.Client:
    """The same caller, at another process."""
    return api.client(client.headers["Authorization"].split()[1])


def test_a_change_at_the_one_is_announced_at_the_other(fleet: Fleet, other: Api) -> None:
    device = fleet.register()
    fleet.release()
    streams = [Stream(api, device) for api in (fleet.api, other)]
    for each in streams:
        each.wait(1)
    for count, (client, name) in enumerate(((fleet.user, "A"), (at(other, fleet.user), "B")), 2):
        body = {"application": fleet.id, "name": name, "value": "1"}
        made = client.post("/v7/application_environment_variable", json=body)
        assert made.status_code == 201
        for each in streams:
            each.wait(count, 10)
    assert streams[0].etags == streams[1].etags
    url = f"/device/v3/{device.uuid}/state"
    etag = at(other, device.client).get(url).headers["ETag"]
    assert etag == streams[0].etags[-1]
    same = {"If-None-Match": etag}
    assert device.client.get(url, headers=same).status_code == 304
    fleet.user.delete(f"/v7/device({device.id})")
    assert all(each.ended() for each in streams)


def test_a_key_of_the_one_holds_and_ends_at_both(fleet: Fleet, other: Api) -> None:
    key = fleet.user.post("/api-key/user/full", json={"name": "both"}).json()
    clients = [fleet.api.client(key), other.client(key)]
    assert [each.get("/user/v1/whoami").status_code for each in clients] == [200, 200]
    (row,) = clients[1].get("/v7/api_key?$filter=name eq 'both'").json()["d"]
    assert fleet.user.delete(f"/v7/api_key({row['id']})").status_code == 200
    assert [each.get("/user/v1/whoami").status_code for each in clients] == [401, 401]


def test_a_device_s_key_that_ends_at_the_one_ends_streams_at_both(fleet: Fleet, other: Api) -> None:
    device = fleet.register()
    streams = [Stream(api, device) for api in (fleet.api, other)]
    for each in streams:
        each.wait(1)
    url = f"/v7/api_key?$filter=is_of__actor eq {actor_of(device)}"
    (row,) = fleet.user.get(url).json()["d"]
    assert at(other, fleet.user).delete(f"/v7/api_key({row['id']})").status_code == 200
    assert all(each.ended() for each in streams)
    assert device.client.get(f"/device/v3/{device.uuid}/state").status_code == 401


def test_sessions_end_at_both_and_the_logs_hear_of_it_at_both(
    make_fleet: Callable[[], Fleet], other: Api
) -> None:
    fleet = make_fleet()
    me = fleet.user.get("/user/v1/whoami").json()
    heard: queue.Queue[str] = queue.Queue()
    for api in (fleet.api, other):
        threading.Thread(target=_listen, args=(api, heard), daemon=True).start()
        assert heard.get(timeout=20) == "open"
    session = at(other, fleet.user)
    assert session.get("/user/v1/whoami").status_code == 200
    body = {"password": "long enough", "newPassword": "longer than that"}
    changed = session.post("/user/v1/change-password", json=body)
    assert changed.status_code == 200, changed.text
    for client in (fleet.user, session):
        assert client.get("/user/v1/whoami").status_code == 401
    for api in (fleet.api, other):
        assert api.client(changed.text).get("/user/v1/whoami").json() == me
    assert [heard.get(timeout=20) for _ in range(2)] == [f"user:{me['id']}:1"] * 2


def _listen(api: Api, heard: queue.Queue[str]) -> None:
    with api.service("logs").stream("GET", "/services/logs/revocations") as answer:
        heard.put("open")
        for line in answer.iter_lines():
            if line.strip():
                heard.put(json.loads(line)["credential"])


def test_tries_at_both_are_counted_together(fleet: Fleet, other: Api) -> None:
    wrong = {"username": f"nobody-{secrets.token_hex(3)}", "password": "wrong"}
    here = {"X-Forwarded-For": "192.0.2.180"}
    clients = [fleet.api.client(), other.client()]
    tried = [clients[each % 2].post("/login_", json=wrong, headers=here) for each in range(10)]
    assert {each.status_code for each in tried} == {401}
    for each in clients:
        assert each.post("/login_", json=wrong, headers=here).status_code == 429


def test_one_device_registers_once_whoever_is_asked(fleet: Fleet, other: Api) -> None:
    key = fleet.provisioning_key()
    identity = {"uuid": secrets.token_hex(16), "api_key": secrets.token_hex(16)}
    body: dict[str, Any] = {"application": fleet.id, **identity}
    clients = [api.client(key) for api in (fleet.api, other) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: each.post("/device/register", json=body), clients))
    assert sorted(each.status_code for each in answers) == [200] * 7 + [201]
    assert len({each.text for each in answers}) == 1


def test_a_code_is_taken_at_one_of_them(make_fleet: Callable[[], Fleet], other: Api) -> None:
    fleet = make_fleet()
    person = Person(fleet, fleet.application["slug"].partition("/")[0])
    person.set_up(fleet.user)
    body = {"code": person.code()}
    clients = [fleet.user, at(other, fleet.user)] * 3
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda each: each.post("/auth/totp/verify", json=body), clients))
    assert [each.status_code for each in answers].count(200) == 1
    assert {each.status_code for each in answers} <= {200, 401, 409}


def test_a_device_stays_online_when_its_stream_moves(fleet: Fleet, other: Api) -> None:
    device = fleet.register()

    def online() -> tuple[bool, str]:
        row = fleet.user.get(f"/v7/device({device.id})").json()["d"][0]
        return row["is_online"], row["api_heartbeat_state"]

    Stream(fleet.api, device).wait(1)
    Stream(other, device).wait(1)
    assert online() == (True, "online")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert online() == (True, "online")
        time.sleep(0.5)
