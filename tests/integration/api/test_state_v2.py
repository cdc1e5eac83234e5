"""The state in the form of version 2, as older supervisors ask for and report it."""

from typing import Any

from .conftest import Device, Fleet


def image_of(fleet: Fleet, device: Device, release: dict[str, Any]) -> tuple[int, str]:
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    main = state["apps"][fleet.uuid]["releases"][release["commit"]]["services"]["main"]
    return main["image_id"], main["image"]


def test_the_target_is_that_of_version_3_by_numbers(fleet: Fleet) -> None:
    device, release = fleet.register(device_name="printer"), fleet.release()
    variable = {"device": device.id, "name": "SPEED", "value": "fast"}
    assert fleet.user.post("/v7/device_environment_variable", json=variable).is_success
    image_id, image = image_of(fleet, device, release)
    path = f"/device/v2/{device.uuid}/state"
    answer = device.client.get(path)
    local = answer.json()["local"]
    assert local["name"] == "printer"
    app = local["apps"][str(fleet.id)]
    assert (app["commit"], app["releaseId"]) == (release["commit"], release["release_id"])
    [service] = app["services"].values()
    assert service["imageId"] == image_id
    assert service["image"] == image
    assert service["serviceName"] == "main"
    assert service["environment"]["SPEED"] == "fast"
    assert answer.json()["dependent"] == {"apps": {}, "devices": {}}
    again = device.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_report_by_numbers_is_stored(fleet: Fleet) -> None:
    device, release = fleet.register(), fleet.release()
    image_id, image = image_of(fleet, device, release)
    body = {
        "local": {
            "os_version": "Raspberry Pi OS 12",
            "cpu_usage": 12,
            "is_on__commit": release["commit"],
            "apps": {
                str(fleet.id): {
                    "services": {
                        str(image_id): {"releaseId": 1, "status": "Running"},
                        "999999": {"status": "Running"},
                        "x": {"status": "Running"},
                        "9" * 30: {"status": "Running"},
                    }
                }
            },
        },
        "dependent": {
            "apps": {
                "x": {
                    "images": {
                        image: {"status": "Downloading", "downloadProgress": 40},
                        "elsewhere/image": {"status": "Downloading"},
                    }
                }
            }
        },
    }
    path = f"/device/v2/{device.uuid}/state"
    assert device.client.patch(path, json=body).status_code == 200
    found = fleet.user.get(
        f"/v7/device({device.id})", params={"$expand": "image_install,gateway_download"}
    ).json()["d"][0]
    assert (found["os_version"], found["cpu_usage"]) == ("Raspberry Pi OS 12", 12)
    assert found["is_running__release"] == {"__id": release["release_id"]}
    assert [each["status"] for each in found["image_install"]] == ["Running"]
    [download] = found["gateway_download"]
    assert (download["image"], download["download_progress"]) == ({"__id": image_id}, 40)
    assert found["is_online"]


def test_nobody_reports_for_another(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    path = f"/device/v2/{device.uuid}/state"
    assert other.client.patch(path, json={"local": {"status": "Idle"}}).status_code == 404
    assert other.client.get(path).status_code == 404
    assert fleet.user.patch(path, json={}).status_code == 403


def test_the_state_of_a_whole_fleet(fleet: Fleet) -> None:
    old, new = fleet.release(), fleet.release()
    device = fleet.register()
    path = f"/device/v3/fleet/{fleet.uuid}/state"
    for client in (fleet.user, device.client):
        state = client.get(path).json()[fleet.uuid]
        assert state["name"] == "testing"
        assert list(state["apps"][fleet.uuid]["releases"]) == [new["commit"]]
    state = fleet.user.get(path, params={"releaseUuid": old["commit"]}).json()[fleet.uuid]
    assert list(state["apps"][fleet.uuid]["releases"]) == [old["commit"]]
    assert fleet.user.get(path, params={"releaseUuid": "f" * 40}).status_code == 404
    assert fleet.api.login().get(path).status_code == 404
