"""What ten thousand devices ask for again and again: cheap, and right all the same."""

import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from .conftest import Api, Device, Fleet

# What a target is made of, each changed behind the api's back.
CHANGES = {
    "the device's name": "update device set device_name = 'other' where id = %(device)s",
    "the fleet's name": "update application set app_name = 'another', "
    "slug = split_part(slug, '/', 1) || '/another' where id = %(fleet)s",
    "the composition": "update release set composition = jsonb_set(composition, '{volumes}', "
    "'{\"data\": {}}') where id = %(release)s",
    "an image": "update image set content_hash = 'sha256:' || repeat('a', 64) where id = %(image)s",
    "its labels": 'update image set labels = \'{"more": "1"}\' where id = %(image)s',
    "its place": "update image set is_stored_at__image_location = 'r/v2/x' where id = %(image)s",
    "a variable of the fleet": "insert into application_environment_variable "
    "(application, name, value) values (%(fleet)s, 'A', '1')",
    "its value": "update application_environment_variable set value = '2' "
    "where application = %(fleet)s",
    "a variable of the device": "insert into device_environment_variable (device, name, value) "
    "values (%(device)s, 'A', '3')",
    "a variable of a service": "insert into service_environment_variable (service, name, value) "
    "select id, 'B', '1' from service where application = %(fleet)s",
    "a variable of a service on the device": "insert into device_service_environment_variable "
    "(service_install, name, value) "
    "select id, 'B', '2' from service_install where device = %(device)s",
    "its end": "delete from device_environment_variable where device = %(device)s",
    "no release": "update application set should_be_running__release = null where id = %(fleet)s",
}


def database_of(api: Api) -> "psycopg.Connection[Any]":
    url = api.config["database_url"].replace("postgresql+psycopg://", "postgresql://", 1)
    return psycopg.connect(url, autocommit=True)


def poll(device: Device, etag: str | None = None) -> httpx.Response:
    headers = {"If-None-Match": etag} if etag else {}
    return device.client.get(f"/device/v3/{device.uuid}/state", headers=headers)


def test_whatever_a_target_is_made_of_changes_its_etag(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    made = fleet.release()
    ids = {
        "device": device.id,
        "fleet": fleet.id,
        "release": made["release_id"],
        "image": made["images"][0]["image_id"],
    }
    last = poll(device).headers["ETag"]
    assert poll(other, last).status_code == 200
    with database_of(fleet.api) as database:
        for what, change in CHANGES.items():
            database.execute(change, ids)
            answer = poll(device, last)
            assert (answer.status_code, bool(answer.content)) == (200, True), what
            assert answer.headers["ETag"] != last, what
            last = answer.headers["ETag"]
            again = poll(device, last)
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", last)
            assert poll(device).content == answer.content, what


def test_what_a_device_says_of_itself_is_no_new_target(fleet: Fleet) -> None:
    device = fleet.register()
    fleet.release()
    etag = poll(device).headers["ETag"]
    for value in range(3):
        report = {device.uuid: {"cpu_usage": value * 30, "status": "Idle"}}
        assert device.client.patch("/device/v3/state", json=report).status_code == 200
        assert poll(device, etag).status_code == 304
    assert fleet.user.patch(f"/v7/device({device.id})", json={"note": "x"}).status_code == 200
    assert poll(device, etag).status_code == 304


def test_an_api_that_was_started_anew_gives_the_same_etag(api: Api) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    device = fleet.register()
    fleet.release()
    first = poll(device)
    api.stop()
    api.start()
    api.wait()
    again = Device(device.id, device.uuid, device.key, api.client(device.key))
    assert poll(again, first.headers["ETag"]).status_code == 304
    assert poll(again).content == first.content


def test_connections_that_were_cut_while_they_rested_fail_nobody(fleet: Fleet) -> None:
    device = fleet.register()
    assert poll(device).status_code == 200
    with database_of(fleet.api) as database:
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'api' and datname = current_database()"
        )
    time.sleep(1.5)
    assert [poll(device).status_code for _ in range(5)] == [200] * 5


def said(image: str, status: str, progress: int | None = None) -> dict[str, Any]:
    told = {"image": image, "status": status}
    return told if progress is None else {**told, "download_progress": progress}


def install_rows(fleet: Fleet, device: Device) -> list[dict[str, Any]]:
    url = f"/v7/image_install?$filter=device eq {device.id}&$orderby=id asc"
    rows: list[dict[str, Any]] = fleet.user.get(url).json()["d"]
    return rows


def test_reports_of_two_releases_and_of_none(fleet: Fleet) -> None:
    device = fleet.register()
    releases = [fleet.release(), fleet.release()]
    image = f"registry.devbots.gantry.internal:8443/{releases[0]['images'][0]['repository']}"

    def report(apps: dict[str, Any]) -> dict[str, Any]:
        body = {device.uuid: {"apps": {fleet.uuid: apps}}}
        assert device.client.patch("/device/v3/state", json=body).status_code == 200
        url = f"/v7/device({device.id})?$expand=is_running__release($select=commit)"
        row: dict[str, Any] = fleet.user.get(url).json()["d"][0]
        return row

    old, new = (each["commit"] for each in releases)
    both = {
        old: {"update_status": "done", "services": {"main": said(image, "Running")}},
        new: {"update_status": "downloading", "services": {"main": said(image, "Downloading", 7)}},
        secrets.token_hex(20): {"services": {"main": said(image, "Running")}},
    }
    row = report({"release_uuid": old, "releases": both})
    assert row["is_running__release"] == [{"commit": old}]
    assert row["overall_progress"] == 7
    before = install_rows(fleet, device)
    assert sorted(each["status"] for each in before) == ["Downloading", "Running"]
    # The same again writes nothing; what is said no more is gone.
    report({"release_uuid": old, "releases": both})
    assert install_rows(fleet, device) == before
    done = {new: {"update_status": "done", "services": {"main": said(f"{image}@x", "Running")}}}
    row = report({"release_uuid": new, "releases": done})
    assert row["is_running__release"] == [{"commit": new}]
    (left,) = install_rows(fleet, device)
    assert (left["status"], left["installs__image"]["__id"]) == (
        "Running",
        releases[1]["images"][0]["image_id"],
    )
    row = report({"release_uuid": "unknown", "releases": {}})
    assert row["is_running__release"] is None or row["is_running__release"] == []
    assert install_rows(fleet, device) == []


@pytest.mark.parametrize("path", ["state", "events"])
def test_another_device_s_target_does_not_exist(fleet: Fleet, path: str) -> None:
    device, other = fleet.register(), fleet.register()
    answer = device.client.get(f"/device/v3/{other.uuid}/{path}")
    assert answer.status_code == 404
    assert other.uuid in answer.json()["error"]


def test_a_device_pins_itself_to_a_release_of_its_fleet_and_changes_nothing_else(
    fleet: Fleet, make_fleet: Callable[[], Fleet]
) -> None:
    """What a supervisor does with `pinDevice` of apps.json, under its own key."""
    device, neighbour = fleet.register(), fleet.register()
    first, _second = fleet.release(), fleet.release()
    pin = {"is_pinned_on__release": first["release_id"]}
    answer = device.client.patch(f"/v7/device(uuid='{device.uuid}')", json=pin)
    assert answer.status_code == 200, answer.text
    [row] = fleet.user.get(f"/v7/device({device.id})?$expand=is_pinned_on__release").json()["d"]
    assert row["is_pinned_on__release"][0]["id"] == first["release_id"]
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()
    [app] = state[device.uuid]["apps"].values()
    assert list(app["releases"]) == [first["commit"]]
    # No other's, to no other fleet's release, and nothing but that.
    assert device.client.patch(f"/v7/device({neighbour.id})", json=pin).status_code == 404
    foreign = {"is_pinned_on__release": make_fleet().release()["release_id"]}
    assert device.client.patch(f"/v7/device({device.id})", json=foreign).status_code in (400, 409)
    for body in ({"device_name": "mine"}, {"belongs_to__application": fleet.id}, {"note": "x"}):
        answer = device.client.patch(f"/v7/device({device.id})", json=body)
        assert answer.status_code == 403, body
    assert device.client.delete(f"/v7/device({device.id})").status_code == 403
