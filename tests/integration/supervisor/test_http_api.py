"""What the HTTP API tells of a device: the family's bodies, against what the engine says."""

import re
from typing import Any

import pytest

from gantry.supervisor import VERSION
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import FOREVER, KEYED, Api

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def api(device: Device, cloud: Cloud, registry: Registry) -> Api:
    """A device that runs release aaa1 of two services; `main` has the key of the application."""
    image = registry.push(FOREVER)
    services: dict[str, dict[str, Any]] = {
        "main": {"image": image, "labels": KEYED},
        "web": {"image": image},
    }
    cloud.apps = device.app("aaa1", services, volumes={"keep": {}})
    device.start()
    wait_until("it has keys", lambda: device.service() and device.service("web"))
    api = Api(device)
    api.settled()
    return api


def test_the_state_of_applications(api: Api, cloud: Cloud) -> None:
    device = api.device
    main, web = device.service("main"), device.service("web")
    assert main is not None
    assert web is not None
    release = cloud.apps[f"uuid{device.app_id}"]["releases"]["aaa1"]
    wanted = release["services"]["main"]

    body = api.get("/v2/applications/state").json()
    assert list(body) == ["bots"]
    assert body["bots"] == {
        "appId": device.app_id,
        "appUuid": f"uuid{device.app_id}",
        "commit": "aaa1",
        "updateStatus": "done",
        "services": {
            name: {
                "status": "Running",
                "image": wanted["image"],
                "downloadProgress": None,
                "releaseId": release["id"],
            }
            for name in ("main", "web")
        },
    }
    assert api.get("/v2/applications/state", key=api.key_of()).json() == body

    one = {"status": "Running", "releaseId": release["id"], "download_progress": None}
    images = {str(each["image_id"]): one for each in release["services"].values()}
    expected = {"local": {str(device.app_id): {"services": images}}, "commit": "aaa1"}
    assert api.get("/v2/applications/{app}/state").json() == expected
    assert api.get("/v2/applications/{app}/state", key=api.key_of()).json() == expected

    body = api.settled()
    assert set(body) == {
        "status",
        "appState",
        "overallDownloadProgress",
        "containers",
        "images",
        "release",
    }
    assert (body["status"], body["overallDownloadProgress"]) == ("success", None)
    assert body["release"] == "aaa1"
    container = next(each for each in body["containers"] if each["serviceName"] == "main")
    assert TIME.fullmatch(container.pop("createdAt"))
    assert container == {
        "status": "Running",
        "serviceName": "main",
        "appId": device.app_id,
        "imageId": wanted["image_id"],
        "serviceId": wanted["id"],
        "containerId": main.id,
    }
    image = next(each for each in body["images"] if each["serviceName"] == "main")
    assert image == {
        "name": wanted["image"],
        "appId": device.app_id,
        "serviceName": "main",
        "imageId": wanted["image_id"],
        "dockerImageId": main.attrs["Image"],
        "status": "Downloaded",
        "downloadProgress": None,
    }


def test_containers_by_name(api: Api) -> None:
    main, web = api.device.service("main"), api.device.service("web")
    assert main is not None
    assert web is not None
    both = {"main": main.id, "web": web.id}
    assert api.get("/v2/containerId").json() == {"status": "success", "services": both}
    for query in ("service", "serviceName"):
        answer = api.get("/v2/containerId", params={query: "web"})
        assert answer.json() == {"status": "success", "containerId": web.id}
    missing = api.get("/v2/containerId", params={"service": "nobody"})
    assert missing.status_code == 503
    assert missing.json() == {
        "status": "failed",
        "message": "Could not find service with that name",
    }


def test_the_device(api: Api) -> None:
    assert api.get("/v2/version").json() == {"status": "success", "version": VERSION}
    name = {"status": "success", "deviceName": "quiet-robot"}
    assert api.get("/v2/device/name").json() == name
    body = api.get("/v1/device").json()
    assert set(body) == {
        "api_port",
        "ip_address",
        "mac_address",
        "commit",
        "status",
        "download_progress",
        "os_version",
        "supervisor_version",
        "update_pending",
        "update_downloaded",
        "update_failed",
    }
    assert (body["commit"], body["status"]) == ("aaa1", "Idle")


def test_endpoints_of_one_service_refuse_applications_of_several(api: Api) -> None:
    for method, path in (
        ("GET", "/v1/apps/{app}"),
        ("POST", "/v1/apps/{app}/stop"),
        ("POST", "/v1/apps/{app}/start"),
    ):
        answer = api.ask(method, path)
        assert answer.status_code == 400
        assert "/v2/applications" in answer.text
        assert api.ask(method, path.replace("{app}", "1")).status_code == 400


def test_an_application_of_one_service(device: Device, cloud: Cloud, registry: Registry) -> None:
    image = registry.push(FOREVER)
    services = {"main": {"image": image, "labels": KEYED, "environment": {"FOO": "bar"}}}
    cloud.apps = device.app("aaa1", services)
    device.start()
    main = wait_until("it runs", device.service)
    api = Api(device)
    api.settled()
    body = api.get("/v1/apps/{app}", key=api.key_of()).json()
    environment = body.pop("env")
    assert environment["FOO"] == "bar"
    assert environment["BALENA_APP_ID"] == str(device.app_id)
    assert not [name for name in environment if name.endswith("API_KEY")]
    assert body == {
        "appId": device.app_id,
        "commit": "aaa1",
        "containerId": main.id,
        "imageId": image,
        "releaseId": cloud.apps[f"uuid{device.app_id}"]["releases"]["aaa1"]["id"],
    }
    assert api.post("/v1/apps/{app}/stop").json() == {"containerId": main.id}
    main.reload()
    assert main.status == "exited"
    assert api.get("/v1/apps/{app}").json()["containerId"] == main.id
    assert api.post("/v1/apps/{app}/start").json() == {"containerId": main.id}
    main.reload()
    assert main.status == "running"


def test_another_applications_key_opens_nothing_of_this_one(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(FOREVER)
    other = device.app_id + 1
    mine = device.app("aaa1", {"main": {"image": image, "labels": KEYED}})
    theirs = device.app("aaa1", {"main": {"image": image, "labels": KEYED}})
    document = theirs[f"uuid{device.app_id}"] | {"id": other, "name": "other"}
    cloud.apps = mine | {"uuid-other": document}
    device.start()
    wait_until("both run", lambda: len(device.containers(running=True)) == 2)
    api = Api(device)
    api.settled()
    key = api.key_of(other)
    given = [dict(e.split("=", 1) for e in c.attrs["Config"]["Env"]) for c in device.containers()]
    keys = {int(each["RESIN_APP_ID"]): each["BALENA_SUPERVISOR_API_KEY"] for each in given}
    assert keys == {device.app_id: api.key_of(), other: key}
    assert list(api.get("/v2/applications/state", key=key).json()) == ["other"]
    assert set(api.get("/v2/applications/state").json()) == {"bots", "other"}
    containers = api.get("/v2/state/status", key=key).json()["containers"]
    assert [each["appId"] for each in containers] == [other]
    before = {each.id for each in device.containers(running=True)}
    for path in (
        "/v1/apps/{app}/stop",
        "/v2/applications/{app}/stop-service",
        "/v2/applications/{app}/restart-service",
        "/v2/applications/{app}/restart",
        "/v2/applications/{app}/purge",
    ):
        assert api.post(path, key=key, json={"serviceName": "main"}).status_code == 401
    for path in ("/v1/restart", "/v1/purge"):
        answer = api.post(path, key=key, json={"appId": device.app_id})
        assert answer.status_code == 401
    assert api.get("/v1/apps/{app}", key=key).status_code == 401
    assert api.get("/v2/applications/{app}/state", key=key).status_code == 409
    assert {each.id for each in device.containers(running=True)} == before


def test_unknown_applications_and_services_are_said(api: Api) -> None:
    unknown = api.get("/v2/applications/1/state")
    assert unknown.status_code == 409
    assert unknown.json() == {"status": "failed", "message": "Application ID does not exist: 1"}
    wrong = api.get("/v2/applications/x/state")
    assert wrong.status_code == 400
    assert wrong.json() == {"status": "failed", "message": "Invalid application ID: x"}
    for action in ("restart-service", "stop-service", "start-service"):
        path = f"/v2/applications/{{app}}/{action}"
        assert api.post(path).status_code == 400
        assert "serviceName or imageId" in api.post(path, json={"serviceName": ""}).text
        missing = api.post(path, json={"serviceName": "nobody"})
        assert missing.status_code == 404
        assert "there is main, web" in missing.text
        assert api.post(path, json={"imageId": 1}).status_code == 404
        nothing = api.post(f"/v2/applications/1/{action}", json={"serviceName": "main"})
        assert nothing.status_code == 404
    for action in ("restart", "purge"):
        answer = api.post(f"/v2/applications/1/{action}")
        assert (answer.status_code, answer.json()["status"]) == (503, "failed")
        assert api.post(f"/v1/{action}", json={"appId": 1}).status_code == 503
        assert api.post(f"/v1/{action}").status_code == 400
