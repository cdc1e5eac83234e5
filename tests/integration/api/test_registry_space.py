"""The registry's space as the api has it: who may look, what a collection condemns, and the leases
that pushes hold."""

import base64
import concurrent.futures
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import jwt
import psycopg
import pytest

from tests.ports import free_port

from .conftest import Api, Fleet, make_config, own_database, running

EPOCH = "2026-01-01T00:00:00+00:00"
REPOSITORY = f"v2/{'1' * 32}"
SERVICE = "registry.devbots.gantry.internal:8443"
DELTA = "delta.devbots.gantry.internal:8443"


@pytest.fixture(scope="module")
def space_api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An api with a collector, where nothing is kept for its age."""
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        config["registry_space"] = {"keep_releases": 1, "keep_days": 0, "linger_seconds": 0}
        with running(config, tmp_path_factory.mktemp("space")) as started:
            yield started


@pytest.fixture
def fleet(space_api: Api) -> Fleet:
    """A new application of the administrator."""
    admin = space_api.login()
    name = f"bots{secrets.token_hex(4)}"
    body = {"app_name": name, "is_for__device_type": "raspberrypi3-64"}
    assert admin.post("/v7/application", json=body).status_code == 201
    return Fleet(space_api, admin, f"admin/{name}")


class Collector:
    """The collector's part of the conversation."""

    def __init__(self, api: Api) -> None:
        self.http = api.service("collector")
        self.http.post("/services/collector/recover")
        self._admin = api.login()
        self.id = 0

    def begin(self, kind: str = "collect") -> dict[str, Any]:
        made = self._admin.post("/registry/run", json={"kind": kind})
        assert made.status_code == 201, made.text
        taken = self.http.post("/services/collector/next").json()
        assert taken["run"] == made.json()["id"]
        self.id = taken["run"]
        return dict(taken)

    def say(self, what: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self.http.post(f"/services/collector/runs/{self.id}/{what}", json=body or {})

    def images(self) -> dict[str, list[str]]:
        answer = self.say("images")
        assert answer.status_code == 200, answer.text
        return {each["digest"]: each["reasons"] for each in answer.json()["images"]}

    def holds(self, since: str = EPOCH) -> list[str] | None:
        answer = self.say("sweep", {"since": since})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["repositories"]) if answer.json()["granted"] else None

    def release(self) -> None:
        answer = self.http.delete(f"/services/collector/runs/{self.id}/sweep")
        assert answer.status_code == 204

    def end(self, **report: int) -> None:
        assert self.say("end", {"report": report or None}).status_code == 204


@pytest.fixture
def collector(space_api: Api) -> Iterator[Collector]:
    made = Collector(space_api)
    yield made
    made.http.post("/services/collector/recover")


def digest_of(fleet: Fleet, release: int) -> str:
    expand = {
        "$expand": "image($select=content_hash)",
        "$filter": f"is_part_of__release eq {release}",
    }
    (row,) = fleet.user.get("/v7/release_image", params=expand).json()["d"]
    digest: str = row["image"][0]["content_hash"]
    return digest


def removed(fleet: Fleet, release: int) -> bool:
    row = fleet.user.get(f"/v7/release({release})").json()["d"][0]
    return row["images_removed_timestamp"] is not None


def test_only_administrators_and_the_collector_may(space_api: Api, fleet: Fleet) -> None:
    admin = space_api.login()
    body = {"username": "somebody", "password": "long enough"}
    assert admin.post("/v7/user", json=body).status_code == 201
    other = space_api.login("somebody", "long enough")
    assert other.get("/registry/space").status_code == 403
    assert other.get("/registry/run/1").status_code == 403
    refused = other.post("/registry/run", json={"kind": "collect"})
    assert (refused.status_code, "administrators" in refused.json()["error"]) == (403, True)
    device = fleet.register()
    assert device.client.post("/registry/run", json={"kind": "collect"}).status_code == 403
    builder = space_api.service("builder")
    assert builder.post("/services/collector/next").status_code == 403
    collecting = space_api.service("collector")
    pushing = {"builder": "x", "repository": REPOSITORY}
    assert collecting.post("/services/builder/pushes", json=pushing).status_code == 403
    assert admin.get("/registry/run/999999").status_code == 404
    settings = admin.get("/registry/space").json()["settings"]
    assert settings == {
        "releases": 1, "days": 0, "every_hours": 0, "grace_seconds": 86400, "linger_seconds": 0,
    }  # fmt: skip


def test_what_is_needed_is_never_condemned(fleet: Fleet, collector: Collector) -> None:
    pinned, running_, kept, tagged, gone, deleted, last = (fleet.release() for _ in range(7))
    names = (pinned, running_, kept, tagged, gone, deleted, last)
    ids = [each["release_id"] for each in names]
    device, other = fleet.register(), fleet.register()
    pin = {"is_pinned_on__release": ids[0]}
    assert fleet.user.patch(f"/v7/device({device.id})", json=pin).status_code == 200
    app = {fleet.uuid: {"release_uuid": running_["commit"], "releases": {}}}
    said = other.client.patch("/device/v3/state", json={other.uuid: {"apps": app}})
    assert said.status_code == 200, said.text
    keep = {"release": ids[3], "tag_key": "keep", "value": ""}
    assert fleet.user.post("/v7/release_tag", json=keep).status_code == 201
    digests = [digest_of(fleet, each) for each in ids]
    assert fleet.user.delete(f"/v7/release({ids[5]})").status_code == 200

    collector.begin("survey")
    looked = collector.images()
    assert [looked[each] for each in digests] == [
        ["a device is pinned on it"],
        ["a device runs it"],
        [],
        ["its release has the tag `keep`"],
        [],
        [],
        ["a fleet should be running it", "it is one of the application's last releases"],
    ]
    assert not any(removed(fleet, each) for each in (*ids[:5], ids[6]))
    collector.end()
    collector.begin()
    assert collector.images() == looked
    collector.end()
    assert [removed(fleet, each) for each in (*ids[:5], ids[6])] == [
        False, False, True, False, True, False,
    ]  # fmt: skip
    for change in (
        (f"/v7/device({other.id})", {"is_pinned_on__release": ids[2]}),
        (f"/v7/application({fleet.id})", {"should_be_running__release": ids[2]}),
    ):
        refused = fleet.user.patch(change[0], json=change[1])
        assert (refused.status_code, refused.json()["rule"][-4:]) == (400, "fits")
    # Its commit is built again, and is what devices that report it run.
    again = fleet.release(kept["commit"])
    assert again["release_id"] not in ids
    app[fleet.uuid]["release_uuid"] = kept["commit"]
    assert (
        other.client.patch("/device/v3/state", json={other.uuid: {"apps": app}}).status_code == 200
    )
    row = fleet.user.get(f"/v7/device({other.id})").json()["d"][0]
    assert row["is_running__release"]["__id"] == again["release_id"]


def test_one_run_at_a_time_and_its_end(space_api: Api, collector: Collector) -> None:
    admin = space_api.login()
    run = collector.begin()
    refused = admin.post("/registry/run", json={"kind": "survey"})
    assert (refused.status_code, "is running" in refused.json()["error"]) == (409, True)
    assert collector.http.post("/services/collector/next").json() is None
    assert collector.say("progress", {"text": "half"}).status_code == 204
    assert admin.get(f"/registry/run/{run['run']}").json()["progress"] == "half"
    collector.end(size=10, frees=3, waits=0, freed=5, removed=2)
    found = admin.get(f"/registry/run/{run['run']}").json()
    assert (found["status"], found["report"]["freed"]) == ("done", 5)
    assert collector.say("progress", {"text": "more"}).status_code == 409
    assert collector.say("sweep", {"since": EPOCH}).status_code == 409
    assert collector.say("end", {"error": "x"}).status_code == 409
    figures = space_api.client().get("/metrics").text
    assert 'gantry_registry_bytes{of="all"}' in figures
    where = {"$filter": f"resource eq 'registry_run' and row eq {run['run']}"}
    (note,) = admin.get("/v7/audit_entry", params=where).json()["d"]
    assert (note["actor_name"], note["action"]) == ("user admin", "create")
    assert note["changes"] == {"kind": "collect"}


def test_what_waits_is_freed_without_an_order(space_api: Api, collector: Collector) -> None:
    collector.begin()
    collector.end(waits=7, frees=0, size=7)
    following = collector.http.post("/services/collector/next").json()
    assert following["kind"] == "free"
    collector.id = following["run"]
    collector.end(waits=0, frees=0, size=0)
    assert collector.http.post("/services/collector/next").json() is None


def test_a_silent_run_is_given_up_and_a_restart_ends_one(
    space_api: Api, collector: Collector
) -> None:
    admin = space_api.login()
    run = collector.begin()
    database = space_api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(database) as connection:
        connection.execute(
            "update registry_run set seen_at = now() - interval '11 minutes' where id = %s",
            [run["run"]],
        )
    assert collector.http.post("/services/collector/next").json() is None
    found = admin.get(f"/registry/run/{run['run']}").json()
    assert (found["status"], "no sign of life" in found["error"]) == ("failed", True)
    run = collector.begin()
    assert collector.holds() is not None
    assert collector.http.post("/services/collector/recover").status_code == 204
    assert admin.get(f"/registry/run/{run['run']}").json()["status"] == "failed"
    with lease(space_api):
        pass


class lease:  # noqa: N801 - read as a word
    """A push's lease, as a builder holds it."""

    def __init__(self, api: Api, repository: str = REPOSITORY) -> None:
        self.builder = api.service("builder")
        self.body = {"builder": "one", "repository": repository}

    def begin(self) -> httpx.Response:
        return self.builder.post("/services/builder/pushes", json=self.body)

    def __enter__(self) -> "lease":
        answer = self.begin()
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["push"]
        assert answer.json()["seconds"] == 120
        return self

    def renew(self) -> int:
        return self.builder.put(f"/services/builder/pushes/{self.id}").status_code

    def __exit__(self, *_: object) -> None:
        assert self.builder.delete(f"/services/builder/pushes/{self.id}").status_code == 204


def test_pushes_and_removals_exclude_each_other(space_api: Api, collector: Collector) -> None:
    moment = collector.begin()["moment"]
    with lease(space_api) as push:
        assert collector.holds(moment) is None
        # Until those that go on have ended, no other begins.
        waiting = lease(space_api, f"v2/{'2' * 32}").begin()
        assert (waiting.status_code, waiting.headers["Retry-After"]) == (503, "1")
        assert push.renew() == 204
    assert push.renew() == 404
    assert collector.holds(moment) == [REPOSITORY]
    assert lease(space_api).begin().status_code == 503
    refused = space_api.client().get("/auth/v1/token", params=asked(), headers=basic(space_api))
    assert refused.status_code == 503
    collector.release()
    later = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert collector.holds(later) == []
    collector.end()
    with lease(space_api):
        pass


def test_pushes_are_not_held_back_for_long_by_one_that_lasts(
    space_api: Api, collector: Collector
) -> None:
    run = collector.begin()
    database = space_api.config["database_url"].replace("+psycopg", "")
    with lease(space_api):
        assert collector.holds() is None
        with psycopg.connect(database, autocommit=True) as connection:
            age = "update registry_run set {0} = now() - interval '1 second' where id = %s"
            connection.execute(age.format("waits_until"), [run["run"]])
            assert collector.holds() is None
            with lease(space_api, f"v2/{'2' * 32}"):
                assert collector.holds() is None
            connection.execute(age.format("hold_rests_until"), [run["run"]])
            assert collector.holds() is None
            assert lease(space_api).begin().status_code == 503


def asked(actions: str = "pull,push") -> dict[str, str]:
    return {"service": SERVICE, "scope": f"repository:{REPOSITORY}:{actions}"}


def basic(api: Api, name: str = "builder") -> dict[str, str]:
    told = f"{name}:{api.config['service_keys'][name]}".encode()
    return {"Authorization": f"Basic {base64.b64encode(told).decode()}"}


def test_a_token_to_push_without_a_lease_is_one(space_api: Api, collector: Collector) -> None:
    http = space_api.client()
    with lease(space_api):
        held = http.get("/auth/v1/token", params=asked(), headers=basic(space_api)).json()
    assert held["expires_in"] == 4 * 3600
    collector.begin()
    assert collector.holds() is not None
    collector.release()
    free = http.get("/auth/v1/token", params=asked(), headers=basic(space_api)).json()
    assert free["expires_in"] == 15 * 60
    claims = jwt.decode(free["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert collector.holds() is None
    database = space_api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(database) as connection:
        connection.execute("update registry_push set expires_at = now() where ended_at is null")
    assert collector.holds() is not None


def test_the_collector_s_tokens_delete_and_nobody_else_s(space_api: Api, fleet: Fleet) -> None:
    def actions(name: str, service: str = SERVICE) -> list[str]:
        wanted = asked("pull,push,delete") | {"service": service}
        answer = space_api.client().get(
            "/auth/v1/token", params=wanted, headers=basic(space_api, name)
        )
        claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
        return [each for one in claims["access"] for each in one["actions"]]

    assert actions("collector") == actions("collector", DELTA) == ["pull", "delete"]
    assert actions("builder", DELTA) == actions("deltas", DELTA) == ["pull"]
    database = space_api.config["database_url"].replace("+psycopg", "")
    assert actions("builder") == ["pull", "push"]
    with psycopg.connect(database) as connection:
        connection.execute("delete from registry_push")


def test_many_builders_and_a_collector_at_once(space_api: Api, collector: Collector) -> None:
    """What they hold are stretches of time: those of pushes and of removals never meet."""
    collector.begin()
    pushed: list[tuple[float, float]] = []
    removing: list[tuple[float, float]] = []

    def pushes(number: int) -> None:
        for _ in range(12):
            one = lease(space_api, f"v2/{number:032x}")
            answer = one.begin()
            if answer.status_code == 201:
                begun = time.monotonic()
                one.id = answer.json()["push"]
                time.sleep(0.005)
                pushed.append((begun, time.monotonic()))
                one.__exit__()
            time.sleep(0.02)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        working = [pool.submit(pushes, each) for each in range(3)]
        while not all(each.done() for each in working):
            if collector.holds() is not None:
                begun = time.monotonic()
                time.sleep(0.005)
                removing.append((begun, time.monotonic()))
                collector.release()
    for each in working:
        each.result()
    assert pushed
    assert removing
    for begun, ended in removing:
        assert all(last < begun or ended < first for first, last in pushed)
