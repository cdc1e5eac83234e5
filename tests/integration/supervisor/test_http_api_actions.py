"""What the HTTP API does to applications, on a real engine: and what it does not while they are
locked."""

import signal
import time
from typing import Any

import httpx2
import pytest
from docker.models.containers import Container

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import FOREVER, KEYED, Api


@pytest.fixture
def api(device: Device, cloud: Cloud, registry: Registry) -> Api:
    """A device that runs release aaa1 of two services; `main` has the key and a volume."""
    image = registry.push("cat /keep/names; echo $HOSTNAME >> /keep/names; " + FOREVER)
    services: dict[str, dict[str, Any]] = {
        "main": {"image": image, "labels": KEYED, "composition": {"volumes": ["keep:/keep"]}},
        "web": {"image": registry.push(FOREVER)},
    }
    cloud.apps = device.app("aaa1", services, volumes={"keep": {}})
    device.start()
    wait_until("both run", lambda: device.service() and device.service("web"))
    api = Api(device)
    api.settled()
    return api


def service(api: Api, name: str = "main") -> Container:
    found = wait_until(f"{name} runs", lambda: api.device.service(name))
    assert isinstance(found, Container)
    return found


def names(container: Container) -> list[bytes]:
    """What is in the volume: the names of the containers that it had."""
    output = container.exec_run(["cat", "/keep/names"]).output
    assert isinstance(output, bytes)
    return output.split()


def test_a_service_is_stopped_and_stays_so_until_it_is_started(api: Api) -> None:
    main, web = service(api), service(api, "web")
    body = {"serviceName": "main"}
    answer = api.post("/v2/applications/{app}/stop-service", json=body, key=api.key_of())
    assert (answer.status_code, answer.text) == (200, "OK")
    main.reload()
    assert main.status == "exited"
    # A poll, an update, another release of the same: it was stopped, and nobody starts it.
    assert api.post("/v1/update").status_code == 204
    time.sleep(3.0)
    main.reload()
    assert main.status == "exited"
    assert service(api, "web") == web
    states = api.get("/v2/applications/state").json()["bots"]["services"]
    assert states["main"]["status"] == "exited"
    assert api.get("/v2/state/status").json()["appState"] == "applied"
    answer = api.post("/v2/applications/{app}/start-service", json=body)
    assert (answer.status_code, answer.text) == (200, "OK")
    main.reload()
    assert main.status == "running"
    # A stop does not outlive the supervisor.
    assert api.post("/v2/applications/{app}/stop-service", json=body).status_code == 200
    api.device.kill()
    wait_until("it is gone", api.device.has_ended)
    main.reload()
    assert main.status == "exited"
    api.device.start()
    wait_until("it runs again", api.device.service)


def test_a_service_is_named_by_its_image_too(api: Api, cloud: Cloud) -> None:
    services = cloud.apps[f"uuid{api.device.app_id}"]["releases"]["aaa1"]["services"]
    body = {"imageId": services["web"]["image_id"]}
    main, web = service(api), service(api, "web")
    assert api.post("/v2/applications/{app}/restart-service", json=body).status_code == 200
    assert service(api, "web") != web
    assert service(api) == main


def test_restarts_make_new_containers_and_keep_volumes(api: Api, cloud: Cloud) -> None:
    main, web = service(api), service(api, "web")
    body = {"serviceName": "main"}
    assert api.post("/v2/applications/{app}/restart-service", json=body).text == "OK"
    assert service(api) != main
    assert service(api, "web") == web
    main = service(api)
    assert api.post("/v2/applications/{app}/restart").text == "OK"
    assert service(api) != main
    assert service(api, "web") != web
    main = service(api)
    answer = api.post("/v1/restart", json={"appId": api.device.app_id}, key=api.key_of())
    assert (answer.status_code, answer.text) == (200, "OK")
    assert service(api) != main
    assert len(api.device.containers()) == 2
    assert len(names(service(api))) == 4  # each container wrote its own


def test_a_purge_leaves_empty_volumes(api: Api) -> None:
    for count, (path, how) in enumerate(
        (
            ("/v1/purge", {"json": {"appId": api.device.app_id}}),
            ("/v2/applications/{app}/purge", {}),
        )
    ):
        main, web = service(api), service(api, "web")
        assert names(main)
        answer = api.post(path, **how)
        assert answer.status_code == 200, answer.text
        assert answer.text == "OK" if count else answer.json() == {"Data": "OK", "Error": ""}
        assert service(api) != main
        assert service(api, "web") != web
        assert len(names(service(api))) == 1
        api.settled()


def test_while_locked_nothing_is_stopped_unless_forced(api: Api) -> None:
    main, web = service(api), service(api, "web")
    lock = api.lock_file("web")
    lock.write_text("")
    for path, body in (
        ("/v1/restart", {"appId": api.device.app_id}),
        ("/v1/purge", {"appId": api.device.app_id}),
        ("/v2/applications/{app}/restart", {}),
        ("/v2/applications/{app}/purge", {}),
        ("/v2/applications/{app}/restart-service", {"serviceName": "main"}),
        ("/v2/applications/{app}/stop-service", {"serviceName": "main"}),
    ):
        answer = api.post(path, json=body)
        assert answer.status_code == 423, path
        assert answer.json()["status"] == "failed"
        assert "is locked by service web since" in answer.json()["message"]
    assert (service(api), service(api, "web")) == (main, web)
    # To start needs no lock.
    answer = api.post("/v2/applications/{app}/start-service", json={"serviceName": "main"})
    assert answer.status_code == 200
    forced = {"serviceName": "main", "force": True}
    assert api.post("/v2/applications/{app}/restart-service", json=forced).status_code == 200
    assert service(api) != main
    lock.write_text("")
    assert api.post("/v2/applications/{app}/restart", json={"force": "true"}).status_code == 200
    assert service(api, "web") != web


def test_a_device_whose_variable_overrides_locks_asks_nobody(api: Api, cloud: Cloud) -> None:
    main = service(api)
    api.lock_file().write_text("")
    cloud.config = {"RESIN_SUPERVISOR_OVERRIDE_LOCK": "1"}
    wait_until("it is known", lambda: api.get("/gantry/v1/locks").json()["override"])
    assert api.post("/v2/applications/{app}/restart").status_code == 200
    assert service(api) != main


def test_a_new_key_reaches_the_containers_that_have_the_old_one(api: Api, cloud: Cloud) -> None:
    main, web = service(api), service(api, "web")
    old, all_of_it = api.key_of(), api.key
    answer = api.post("/v1/regenerate-api-key", key=old)
    assert answer.status_code == 200
    new = answer.text
    assert new != old
    assert api.get("/v1/device", key=old).status_code == 401
    assert api.get("/v1/device", key=new).status_code == 200
    wait_until("main is new", lambda: api.device.service() not in (None, main))
    environment = service(api).attrs["Config"]["Env"]
    assert f"BALENA_SUPERVISOR_API_KEY={new}" in environment
    assert service(api, "web") == web
    api.settled()
    # The key that opens everything is in no container.
    main = service(api)
    wait_until("the api has it", lambda: cloud.reported().get("api_secret") == all_of_it)
    newest = api.post("/v1/regenerate-api-key").text
    assert api.get("/v1/device", key=all_of_it).status_code == 401
    assert api.key == newest
    assert api.get("/v1/device").status_code == 200
    wait_until("the api has the new one", lambda: cloud.reported()["api_secret"] == newest)
    assert newest not in api.get("/v1/device").text
    time.sleep(2.0)
    assert service(api) == main


def test_an_update_is_asked_for(api: Api, cloud: Cloud, registry: Registry) -> None:
    cloud.streams = False
    for body in ({}, {"force": True}, {"cancel": True}, {"force": "1", "cancel": 1}):
        cloud.polls.clear()
        answer = api.post("/v1/update", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
        wait_until("it polled", lambda: cloud.polls)
    # Where the fleet does not want updates at once, only the forced one is.
    cloud.config = {"RESIN_SUPERVISOR_INSTANT_UPDATE_TRIGGER": "0"}
    assert api.post("/v1/update", json={"force": True}).status_code == 204
    wait_until("it is known", lambda: api.post("/v1/update").status_code == 202)
    assert api.post("/v1/update", json={"force": True}).status_code == 204


def test_a_forced_update_does_not_mind_a_lock(api: Api, cloud: Cloud, registry: Registry) -> None:
    main = service(api)
    api.lock_file().write_text("")
    image = registry.push(FOREVER + " # two")
    cloud.apps = api.device.app("bbb2", {"main": {"image": image, "labels": KEYED}})
    wait_until(
        "it waits for the lock",
        lambda: any("locked" in each for each in cloud.messages(isSystem=True)),
    )
    assert service(api) == main
    assert api.post("/v1/update", json={"force": True}).status_code == 204
    wait_until("the new release", lambda: api.device.service() not in (None, main))


def test_orphaned_volumes_are_removed_and_no_others(
    api: Api, cloud: Cloud, registry: Registry
) -> None:
    device = api.device
    engine = device.engine

    def labels(app_id: int) -> dict[str, str]:
        return {"io.balena.app-id": str(app_id), "io.gantry.instance": device.instance}

    orphan, others = f"{device.app_id}_old", f"{device.app_id + 1}_old"
    strange = f"strange-{device.app_id}"
    engine.volumes.create(orphan, labels=labels(device.app_id))
    engine.volumes.create(others, labels=labels(device.app_id + 1))
    engine.volumes.create(strange)

    def left() -> set[str]:
        return {str(each.name) for each in engine.volumes.list()}

    kept = f"{device.app_id}_keep"
    try:
        answer = api.get("/v2/cleanup-volumes", key=api.key_of())
        assert answer.json() == {"status": "success"}
        assert orphan not in left()
        assert {kept, others, strange} <= left()
        assert api.get("/v2/cleanup-volumes").json() == {"status": "success"}
        assert others not in left()
        assert {kept, strange} <= left()
    finally:
        engine.volumes.get(strange).remove()


def volume_names(device: Device) -> set[str]:
    return {str(each.name) for each in device.engine.volumes.list()}


def test_volumes_of_the_good_release_outlive_a_trial(
    api: Api, cloud: Cloud, registry: Registry
) -> None:
    device = api.device
    cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "0"}
    wait_until(
        "it is good",
        lambda: ((device.fact("releases") or {}).get(f"uuid{device.app_id}") or {}).get("good"),
    )
    cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "3600000"}
    cloud.apps = device.app("bbb2", {"main": {"image": registry.push(FOREVER + " # two")}})
    wait_until(
        "the new one alone",
        lambda: {each.labels["io.gantry.release"] for each in device.containers()} == {"bbb2"},
    )
    assert api.get("/v2/cleanup-volumes").json() == {"status": "success"}
    kept = f"{device.app_id}_keep"
    assert kept in volume_names(device)
    # Once the new one is good, nobody comes back to it.
    cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "0"}

    def is_gone() -> bool:
        assert api.get("/v2/cleanup-volumes").status_code == 200
        return kept not in volume_names(device)

    wait_until("the volume is gone", is_gone)


def test_volumes_of_the_fleet_outlive_local_mode(
    api: Api, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = api.device
    monkeypatch.setenv("HOST_VARIANT", "development")
    device.signal(signal.SIGTERM)
    device.start()
    cloud.config = {"BALENA_SUPERVISOR_LOCAL_MODE": "1"}
    wait_until("the fleet's containers are gone", lambda: not device.containers())
    answer = device.get("/v2/cleanup-volumes", timeout=150.0)  # without a key, as a developer may
    assert answer.json() == {"status": "success"}
    assert f"{device.app_id}_keep" in volume_names(device)
    cloud.config = {}
    wait_until("the fleet's release is back", device.service)
    assert len(names(service(api))) > 0


def test_no_volume_is_removed_before_there_is_a_target(device: Device, cloud: Cloud) -> None:
    def fall_silent() -> None:
        cloud.status = 503

    cloud.after_register = fall_silent
    device.start()
    wait_until("it asks in vain", lambda: 503 in cloud.polls)
    name = f"{device.app_id}_keep"
    labels = {"io.balena.app-id": str(device.app_id), "io.gantry.instance": device.instance}
    device.engine.volumes.create(name, labels=labels)
    answer = Api(device).get("/v2/cleanup-volumes")
    assert (answer.status_code, answer.json()["status"]) == (503, "failed")
    assert "there is no target yet" in answer.json()["message"]
    assert name in volume_names(device)


def test_tags_are_set_when_the_api_is_back(api: Api, cloud: Cloud) -> None:
    tags = {"bench": "three", "colour": "green"}
    answer = api.ask("PATCH", "/v2/device/tags", key=api.key_of(), json=tags)
    assert (answer.status_code, answer.json()) == (202, {"status": "success"})
    wait_until("they are set", lambda: cloud.tags == tags)
    expected = [
        {"id": 1, "name": "bench", "value": "three"},
        {"id": 2, "name": "colour", "value": "green"},
    ]
    assert api.get("/v2/device/tags").json() == {"status": "success", "tags": expected}
    # What is there already is not sent again.
    assert api.ask("PATCH", "/v2/device/tags", json={"bench": "three"}).status_code == 202
    cloud.stop()
    assert api.ask("PATCH", "/v2/device/tags", json={"bench": "four"}).status_code == 202
    refused = api.get("/v2/device/tags")
    assert (refused.status_code, refused.json()["status"]) == (500, "failed")
    api.device.kill()
    wait_until("it is gone", api.device.has_ended)
    api.device.start()
    cloud.start()
    wait_until("it is set", lambda: cloud.tags["bench"] == "four")
    assert cloud.tag_changes == [tags, {"bench": "four"}]


@pytest.mark.parametrize(
    "body", [[], "text", {"a b": "c"}, {"a": 1}, {"a": None}, {"": "x"}, {"a": "x" * 1001}]
)
def test_tags_that_are_none_are_refused(device: Device, cloud: Cloud, body: object) -> None:
    device.start()
    wait_until("it polled", lambda: cloud.polls)
    api = Api(device)
    answer = api.ask("PATCH", "/v2/device/tags", json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, "failed")
    time.sleep(0.5)
    assert cloud.tag_changes == []


def test_who_asks_from_within_hears_the_answer(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """As applications do: with their own variables, from their own container."""
    ask = (
        'wget -qO- --header "Authorization: Bearer $BALENA_SUPERVISOR_API_KEY" '
        '"http://127.0.0.1:$BALENA_SUPERVISOR_PORT/v2/applications/state"; '
    )
    image = registry.push(ask + FOREVER)
    composition = {"network_mode": "host"}
    services = {"main": {"image": image, "labels": KEYED, "composition": composition}}
    cloud.apps = device.app("aaa1", services)
    device.start()
    wait_until(
        "it heard", lambda: any('"bots"' in each for each in cloud.messages(serviceName="main"))
    )
    assert httpx2.get(f"http://127.0.0.1:{device.port}/ping").text == "OK"
