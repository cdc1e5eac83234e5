"""Locks over HTTP, the event stream and the figures, of a real supervisor."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import FOREVER, KEYED, Api

LOCK = "/gantry/v1/applications/{app}/lock"


@pytest.fixture
def api(device: Device, cloud: Cloud, registry: Registry) -> Api:
    """A device that runs release aaa1 of one service."""
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER), "labels": KEYED}})
    device.start()
    wait_until("it runs", device.service)
    api = Api(device)
    api.settled()
    return api


def test_a_lease_keeps_an_application_until_it_ends(api: Api) -> None:
    main = api.device.service()
    free = api.get(LOCK, key=api.key_of())
    assert free.json() == {"status": "success", "locked": False, "locks": []}
    answer = api.post(LOCK, json={"seconds": 600, "holder": "protocol 12"}, key=api.key_of())
    assert answer.status_code == 201
    lease = answer.json()["lease"]
    assert (lease["holder"], lease["kind"]) == ("protocol 12", "lease")
    assert lease["appId"] == api.device.app_id
    held = api.get(LOCK).json()
    assert (held["locked"], held["locks"]) == (True, [lease])
    assert api.get("/gantry/v1/locks").json()["locks"] == [lease]
    refused = api.post("/v2/applications/{app}/restart")
    assert refused.status_code == 423
    assert "locked by protocol 12 since" in refused.json()["message"]
    # It is kept over a supervisor that loses its power.
    api.device.kill()
    wait_until("it is gone", api.device.has_ended)
    api.device.start()
    wait_until("it answers", lambda: api.device.log().count("listening on") == 2)

    def known() -> bool:
        answer = api.get(LOCK)
        return answer.status_code == 200 and bool(answer.json()["locked"])

    wait_until("it is known", known)
    longer = api.post(LOCK, json={"seconds": 700, "lease": lease["lease"]})
    assert longer.status_code == 200
    assert longer.json()["lease"]["expires"] > lease["expires"]
    assert api.ask("DELETE", LOCK, params={"lease": lease["lease"]}).status_code == 204
    assert api.ask("DELETE", LOCK, params={"lease": lease["lease"]}).status_code == 404
    assert not api.get(LOCK).json()["locked"]
    assert api.device.service() == main


def test_a_short_lease_ends_by_itself(api: Api) -> None:
    main = api.device.service()
    answer = api.post(LOCK, json={"seconds": 2, "holder": "a moment"})
    assert answer.status_code == 201
    assert api.post("/v2/applications/{app}/restart").status_code == 423
    wait_until("it ended", lambda: not api.get(LOCK).json()["locked"])
    assert api.post("/v2/applications/{app}/restart").status_code == 200
    assert api.device.service() not in (None, main)
    ended = api.post(LOCK, json={"seconds": 2, "lease": answer.json()["lease"]["lease"]})
    assert ended.status_code == 404


def test_who_holds_a_lock_file_since_when_is_told(api: Api) -> None:
    api.lock_file().write_text("")
    found = api.get(LOCK, key=api.key_of()).json()["locks"]
    assert [(each["kind"], each["service"], each["expires"]) for each in found] == [
        ("file", "main", None)
    ]
    since = time.strptime(found[0]["since"], "%Y-%m-%dT%H:%M:%S.000Z")
    assert abs(time.mktime(since) - time.timezone - time.time()) < 3600
    api.lock_file().unlink()
    assert not api.get(LOCK).json()["locked"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "seconds is None"),
        ({"seconds": "60", "holder": "x"}, "seconds is '60'"),
        ({"seconds": True, "holder": "x"}, "seconds is True"),
        ({"seconds": 0, "holder": "x"}, "more than 0"),
        ({"seconds": 1e9, "holder": "x"}, "at most 86400"),
        ({"seconds": 60}, "say in a word"),
        ({"seconds": 60, "holder": " "}, "say in a word"),
        ({"seconds": 60, "holder": "x" * 101}, "100 at most"),
    ],
)
def test_leases_that_are_none_are_refused(
    device: Device, cloud: Cloud, body: dict[str, Any], says: str
) -> None:
    device.start()
    wait_until("it polled", lambda: cloud.polls)
    api = Api(device)
    answer = api.post(LOCK, json=body)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert api.ask("DELETE", LOCK).status_code == 400
    assert api.get("/gantry/v1/locks").json()["locks"] == []


class Events:
    """What an event stream has told so far."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.iter_lines()

    def until(self, kind: str, what: str, check: Any) -> dict[str, Any]:
        """The first event of this kind whose data is as it should be."""
        event = ""
        end = time.monotonic() + 90
        for line in self._lines:
            if line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:") and event == kind:
                data: dict[str, Any] = json.loads(line[5:])
                if check(data):
                    return data
            assert time.monotonic() < end, what
        raise AssertionError(f"the stream ended before {what}")


@contextmanager
def events(api: Api, key: str) -> Iterator[Events]:
    url = f"http://127.0.0.1:{api.device.port}/gantry/v1/events"
    timeout = httpx2.Timeout(60.0)
    with httpx2.stream("GET", url, params={"apikey": key}, timeout=timeout) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Events(answer)


def test_an_update_is_followed_from_download_to_its_end(
    api: Api, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(FOREVER, ballast=3_000_000)
    with events(api, api.key_of()) as stream:
        first = stream.until("state", "the state as it is", lambda data: True)
        assert (first["commit"], first["updateStatus"]) == ("aaa1", "done")
        assert first["services"]["main"]["status"] == "Running"
        assert stream.until("locks", "no locks", lambda data: True) == {"locks": []}
        cloud.apps = api.device.app("bbb2", {"main": {"image": image, "labels": KEYED}})
        told = stream.until("progress", "progress", lambda data: data["image"] == image)
        family = {"appId", "appName", "serviceName", "image", "downloadProgress"}
        assert set(told) == family | {"way", "downloadedBytes", "totalBytes"}
        assert 0 <= told["downloadProgress"] <= 100
        told = stream.until("progress", "bytes", lambda data: data["downloadedBytes"])
        assert told["way"] == "pull"
        assert 0 < told["downloadedBytes"] <= told["totalBytes"]
        stream.until(
            "state",
            "the new release",
            lambda data: (data["commit"], data["updateStatus"]) == ("bbb2", "done"),
        )
        api.lock_file().write_text("")
        locked = stream.until("locks", "the lock", lambda data: data["locks"])
        assert locked["locks"][0]["service"] == "main"
        answer = api.post(LOCK, json={"seconds": 60, "holder": "x"})
        assert answer.status_code == 201
        stream.until("locks", "the lease", lambda data: len(data["locks"]) == 2)


def test_event_streams_are_few_and_end_with_their_reader(api: Api) -> None:
    key = api.key
    url = f"http://127.0.0.1:{api.device.port}/gantry/v1/events"

    def status() -> int:
        with httpx2.stream("GET", url, params={"apikey": key}) as answer:
            return answer.status_code

    with ExitStack() as held:
        streams = [held.enter_context(events(api, key)) for _ in range(8)]
        for each in streams:
            each.until("state", "the state", lambda data: True)
        assert status() == 503
        assert api.device.get("/ping").text == "OK"
    wait_until("streams are free again", lambda: status() == 200)


def test_figures_for_prometheus(api: Api) -> None:
    api.lock_file().write_text("")
    answer = api.get("/metrics", key=api.key_of())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name] = float(value)
    labels = f'app_id="{api.device.app_id}",app="bots"'
    assert values[f"gantry_application_settled{{{labels}}}"] == 1
    assert values[f"gantry_application_locks{{{labels}}}"] == 1
    assert values[f'gantry_service_up{{{labels},service="main"}}'] == 1
    assert 10 * 1024**2 < values["process_resident_memory_bytes"] < 200 * 1024**2
    assert values["process_cpu_seconds_total"] > 0
    assert values["gantry_device_memory_total_bytes"] > 2**27
    assert values["gantry_supervisor_poll_failures"] == 0
    assert api.device.get("/metrics").status_code == 401
