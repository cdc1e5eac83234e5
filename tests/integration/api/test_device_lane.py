"""What devices ask for takes a short way, and its answers are those of the routes; slow writes hold
up no polls."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from gantry.api.database import POOL_SIZE
from gantry.api.device_lane import REPORT_LIMIT

from .conftest import Api, Device, Fleet
from .test_state import Stream

# A query is not plain: the request takes the way of all others.
LONG_WAY = {"by": "the long way"}
WRITES = 40


@pytest.fixture
def device(fleet: Fleet) -> Device:
    fleet.release()
    return fleet.register()


def told(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that an answer says but when."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, answer.content, headers


def both(ask: Callable[[dict[str, str] | None], httpx.Response]) -> httpx.Response:
    """The answer, which is the same on both ways."""
    short = ask(None)
    assert told(short) == told(ask(LONG_WAY))
    return short


def test_polls_are_answered_alike(fleet: Fleet, device: Device) -> None:
    path = f"/device/v3/{device.uuid}/state"
    client = device.client

    def get(path: str, **how: Any) -> httpx.Response:
        return both(lambda params: client.get(path, params=params, **how))

    etag = get(path).headers["etag"]
    for known, status in ((etag, 304), (f'W/{etag}, "x"', 304), ("*", 304), ('"other"', 200)):
        assert get(path, headers={"If-None-Match": known}).status_code == status
    other = fleet.register()
    for uuid in (other.uuid, "0" * 32, device.uuid.upper(), "%00", "a b"):
        assert get(f"/device/v3/{uuid}/state").status_code in (400, 404), uuid
    for wrong in ("Bearer", "Basic eDp5", f"bearer {'0' * 32}", "Bearer \xff" * 9):
        value = wrong.encode("latin-1")
        assert get(path, headers={"Authorization": value}).status_code == 401, wrong
    # Users see devices too.
    user = fleet.user
    assert both(lambda params: user.get(path, params=params)).headers["etag"] == etag


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"UUID": {"cpu_usage": 7}}', 200),
        (b'{"UUID": {"cpu_usage": 12.6, "never heard of": [1]}}', 200),
        (b"{}", 200),
        (b'{"UUID": {"cpu_usage": "much"}}', 400),
        (b'{"00000000000000000000000000000000": {"cpu_usage": 7}}', 404),
        (b'{"UUID": {"status": "\\ud800"}}', 400),
        (b'{"UUID": ', 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b'{"UUID": {"status": "' + b"x" * REPORT_LIMIT + b'"}}', 200),
        (b'{"UUID": {"status": "' + b"x" * 600_000 + b'"}}', 413),
    ],
)
def test_reports_are_answered_alike(device: Device, content: bytes, status: int) -> None:
    body = content.replace(b"UUID", device.uuid.encode())
    headers = {"Content-Type": "application/json"}
    for sent in (lambda: body, lambda: iter([body[:9], body[9:]])):
        answer = both(
            lambda params, sent=sent: device.client.patch(  # type: ignore[misc]
                "/device/v3/state", content=sent(), params=params, headers=headers
            )
        )
        assert answer.status_code == status, answer.text


def test_a_report_of_another_type_is_refused_alike(device: Device) -> None:
    for kind in ("text/plain", "application/json; charset=utf-8", "application/problem+json"):
        both(
            lambda params, kind=kind: device.client.patch(  # type: ignore[misc]
                "/device/v3/state",
                content=b"{}",
                params=params,
                headers={"Content-Type": kind},
            )
        )


def test_a_report_is_stored(device: Device, fleet: Fleet) -> None:
    report = {device.uuid: {"cpu_usage": 42, "os_version": "of the short way"}}
    assert device.client.patch("/device/v3/state", json=report).text == "OK"
    query = f"/v7/device(uuid='{device.uuid}')?$select=cpu_usage,os_version"
    [stored] = fleet.user.get(query).json()["d"]
    assert stored == {"cpu_usage": 42, "os_version": "of the short way"}


def test_streams_open_on_both_ways(fleet: Fleet, device: Device) -> None:
    streams = [Stream(fleet.api, device), Stream(fleet.api, device, query="?by=the+long+way")]
    for stream in streams:
        stream.wait(1)
    fleet.release()
    for stream in streams:
        stream.wait(2)
    assert streams[0].etags == streams[1].etags
    other = fleet.register()
    answer = both(
        lambda params: other.client.get(f"/device/v3/{device.uuid}/events", params=params)
    )
    assert answer.status_code == 404


def test_both_ways_are_counted_as_their_route(api: Api) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    device = fleet.register()
    for params in (None, LONG_WAY):
        device.client.get(f"/device/v3/{device.uuid}/state", params=params)
    counted = 'gantry_api_requests_total{method="GET",route="/device/v3/{uuid}/state",status="200"}'
    assert f"{counted} 2.0" in api.client().get("/metrics").text


def test_polls_are_answered_while_all_writes_wait(api: Api, database_url: str) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    fleet.release()
    held, other = fleet.register(), fleet.register()
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url) as database, ThreadPoolExecutor(WRITES) as threads:
        database.execute("select from device where uuid = %s for update", (held.uuid,))
        report = {held.uuid: {"cpu_usage": 1}}
        path = "/device/v3/state"
        # Registrations and reports of one row stand for those that wait for a disk.
        waiting = [threads.submit(held.client.patch, path, json=report) for _ in range(WRITES)]
        for _ in range(3):
            assert other.client.get(f"/device/v3/{other.uuid}/state").status_code == 200
        assert not any(each.done() for each in waiting)
        database.rollback()
        assert {each.result().status_code for each in waiting} == {200}


def test_connections_stay_however_many_ask_at_once(api: Api, database_url: str) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    fleet.release()
    devices = [fleet.register() for _ in range(4)]

    def ask(number: int) -> None:
        device = devices[number % len(devices)]
        assert device.client.get(f"/device/v3/{device.uuid}/state").status_code == 200
        report = {device.uuid: {"cpu_usage": number % 100}}
        assert device.client.patch("/device/v3/state", json=report).status_code == 200

    with ThreadPoolExecutor(WRITES) as threads:
        before = connections_made(database_url)
        list(threads.map(ask, range(400)))
        made = connections_made(database_url) - before
    # One more is that which counted.
    assert made <= POOL_SIZE + 1


def connections_made(database_url: str) -> int:
    """Connections to this database so far; PostgreSQL tells of one when it has rested or ended."""
    statement = "select sessions from pg_stat_database where datname = current_database()"
    with psycopg.connect(database_url.replace("+psycopg", "")) as database:
        [count] = database.execute(statement).fetchone() or [0]
    return int(count)
