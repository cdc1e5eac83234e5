"""Who changed what: noted in the transaction of the change, without secrets, for members only."""

from collections.abc import Callable
from typing import Any

import httpx2 as httpx

from .conftest import Fleet


def entries(client: httpx.Client, **wanted: object) -> list[dict[str, Any]]:
    conditions = " and ".join(f"{name} eq {value!r}" for name, value in wanted.items())
    query = {"$orderby": "id", **({"$filter": conditions} if conditions else {})}
    answer = client.get("/v7/audit_entry", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["d"]
    return found


def test_each_change_is_noted_with_who_made_it(fleet: Fleet) -> None:
    name = fleet.application["slug"].partition("/")[0]
    device = fleet.register()
    change = {"device_name": "printer", "note": "left of the door"}
    assert fleet.user.patch(f"/v7/device({device.id})", json=change).is_success
    assert fleet.user.delete(f"/v7/device({device.id})").is_success
    made, changed, gone = entries(fleet.user, resource="device", row=device.id)
    assert made["actor_name"] == f"provisioning key of application {fleet.id}"
    assert changed["actor_name"] == gone["actor_name"] == f"user {name}"
    assert [each["action"] for each in (made, changed, gone)] == ["create", "update", "delete"]
    assert {each["row_name"] for each in (made, changed, gone)} == {device.uuid}
    assert changed["changes"] == change
    organization = fleet.application["organization"]
    assert {each["organization"]["__id"] for each in (made, changed, gone)} == {
        organization["__id"]
    }


def test_many_rows_are_one_entry_each_and_a_refused_change_is_none(fleet: Fleet) -> None:
    devices = sorted(fleet.register().id for _ in range(3))
    everywhere = "/v7/device?$filter=id gt 0"
    assert fleet.user.patch(everywhere, json={"note": "x"}).is_success
    noted = entries(fleet.user, resource="device", action="update")
    assert [each["row"] for each in noted] == devices
    assert fleet.user.patch(everywhere, json={"is_pinned_on__release": 10**9}).status_code == 400
    assert entries(fleet.user, resource="device", action="update") == noted


def test_no_secret_is_noted(fleet: Fleet) -> None:
    device = fleet.register()
    variable = {"device": device.id, "name": "TOKEN", "value": "s3cret-value"}
    assert fleet.user.post("/v7/device_environment_variable", json=variable).is_success
    key = fleet.user.post("/api-key/user/full", json={"name": "mine"}).json()
    old, new = "long enough", "another long one"
    changed = {"password": old, "newPassword": new}
    answer = fleet.user.post("/user/v1/change-password", json=changed)
    assert answer.status_code == 200, answer.text
    again = fleet.api.client(answer.text)
    noted = entries(again)
    text = repr(noted)
    for secret in ("s3cret-value", key, old, new, device.key):
        assert secret not in text
    assert {(each["resource"], each["action"]) for each in noted} >= {
        ("device_environment_variable", "create"),
        ("api_key", "create"),
        ("user", "update"),
        ("application", "create"),
    }


def test_a_release_is_noted_when_it_has_ended(fleet: Fleet) -> None:
    release = fleet.release()
    [ended] = entries(fleet.user, resource="release", row=release["release_id"])
    assert (ended["actor_name"], ended["changes"]) == ("gantry", {"status": "success"})
    assert ended["row_name"] == release["commit"]


def test_entries_are_the_organization_s(fleet: Fleet, make_fleet: Callable[[], Fleet]) -> None:
    other = make_fleet()
    fleet.register()
    mine = {each["id"] for each in entries(fleet.user)}
    assert mine
    assert not mine & {each["id"] for each in entries(other.user)}
    for method in ("patch", "delete"):
        path = f"/v7/audit_entry({min(mine)})"
        options = {"json": {}} if method == "patch" else {}
        assert getattr(fleet.user, method)(path, **options).status_code == 405
