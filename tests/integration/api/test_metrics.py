"""What Prometheus reads: counted by templates of routes, and never by what is in a path."""

import re
import secrets
import time
from collections.abc import Callable

import psycopg

from .conftest import Api, Fleet
from .test_state import Stream

LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(api: Api) -> Figures:
    answer = api.client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        labels = frozenset(LABEL.findall(match["labels"] or ""))
        found[match["name"], labels] = float(match["value"])
    return found


def figure(api: Api, name: str, **labels: str) -> float:
    return figures(api).get((f"gantry_{name}", frozenset(labels.items())), 0.0)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_requests_are_counted_by_template_and_status(fleet: Fleet) -> None:
    device = fleet.register()
    state = {"method": "GET", "route": "/device/v3/{uuid}/state"}
    before = {
        status: figure(fleet.api, "api_requests_total", **state, status=status)
        for status in ("200", "304", "404")
    }
    url = f"/device/v3/{device.uuid}/state"
    etag = device.client.get(url).headers["ETag"]
    device.client.get(url, headers={"If-None-Match": etag})
    for _ in range(3):
        device.client.get(f"/device/v3/{secrets.token_hex(16)}/state")
    for status, more in (("200", 1), ("304", 1), ("404", 3)):
        found = figure(fleet.api, "api_requests_total", **state, status=status)
        assert found == before[status] + more, status
    assert figure(fleet.api, "api_request_seconds_count", **state) >= 5
    assert figure(fleet.api, "api_request_seconds_bucket", **state, le="+Inf") >= 5


def test_no_path_becomes_a_label(fleet: Fleet) -> None:
    secret = secrets.token_hex(8)
    user = fleet.user
    user.get(f"/v7/device(uuid='{secret}')")
    user.get(f"/v7/{secret}")
    user.get(f"/{secret}/nothing")
    user.request(f"X{secret}", "/ping")
    user.post("/supervisor/v1/" + secret, json={"uuid": secret})
    user.post("/v7/release_asset", data={"release": "1"})
    user.get("/v7/release_asset(1)/asset")
    user.get("/auth/totp/setup")
    found = figures(fleet.api)
    routes = {value for _, labels in found for name, value in labels if name == "route"}
    document = set(user.get("/openapi.json").json()["paths"])
    known = document | {"/v7/{path}", "/v6/{path}", "/openapi.json", "none"}
    known |= {"/api-key/v1", "/api-key/v2"}
    assert {route.replace(":path}", "}") for route in routes} <= known
    assert not any(secret in value for _, labels in found for _, value in labels)
    methods = {value for _, labels in found for name, value in labels if name == "method"}
    assert methods <= {"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "other"}


def test_open_streams_are_counted_while_they_are(fleet: Fleet) -> None:
    device = fleet.register()
    route = "/device/v3/{uuid}/events"
    before = figure(fleet.api, "api_streams_open", route=route)
    streams = [Stream(fleet.api, device) for _ in range(3)]
    for each in streams:
        each.wait(1)
    assert figure(fleet.api, "api_streams_open", route=route) == before + 3
    # The one that asks.
    assert figure(fleet.api, "api_requests_in_flight") == 1
    fleet.user.delete(f"/v7/device({device.id})")
    assert all(each.ended() for each in streams)
    until(lambda: figure(fleet.api, "api_streams_open", route=route) == before)


def test_announcements_and_broken_rules_are_counted(
    fleet: Fleet, make_fleet: Callable[[], Fleet]
) -> None:
    heard = figure(fleet.api, "api_notifications_total", kind="application")
    fleet.release()
    until(lambda: figure(fleet.api, "api_notifications_total", kind="application") > heard)
    stranger = make_fleet().release()
    device = fleet.register()
    before = figure(fleet.api, "api_rules_broken_total", rule="pin_fits")
    pin = {"is_pinned_on__release": stranger["release_id"]}
    refused = fleet.user.patch(f"/v7/device({device.id})", json=pin)
    assert (refused.status_code, refused.json().get("rule")) == (400, "pin_fits")
    assert figure(fleet.api, "api_rules_broken_total", rule="pin_fits") == before + 1


def test_devices_are_counted_by_state_and_class(api: Api) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    assert figure(api, "api_database_up") == 1
    first, _ = fleet.register(), fleet.register()
    first.client.get(f"/device/v3/{first.uuid}/state")
    labels = {"class": "fleet"}
    # Counted anew after a while: a scrape costs at most one query.
    until(lambda: figure(api, "devices", state="online", **labels) == 1)
    assert figure(api, "devices", state="unknown", **labels) == 1
    assert figure(api, "api_database_connections_in_use") == 0
    name = api.config["database_url"].rpartition("/")[2]
    server = api.config["database_url"].replace("+psycopg", "").rpartition("/")[0]
    with psycopg.connect(f"{server}/template1", autocommit=True) as connection:
        connection.execute(f"alter database {name} allow_connections false")
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
        )
        until(lambda: figure(api, "api_database_up") == 0)
        assert figure(api, "devices", state="online", **labels) == 0
        connection.execute(f"alter database {name} allow_connections true")
    until(lambda: figure(api, "api_database_up") == 1)
    assert figures(api)["process_resident_memory_bytes", frozenset()] > 0
