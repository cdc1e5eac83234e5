"""Tags of devices: what users may write, and that a device is found by them."""

import pytest

from .conftest import Fleet


def test_a_tag_is_made_changed_found_and_removed(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    body = {"device": device.id, "tag_key": "room", "value": "lab 2"}
    made = fleet.user.post("/v7/device_tag", json=body)
    assert made.status_code == 201, made.text
    tag = made.json()["id"]

    def rooms() -> dict[int, list[tuple[str, str]]]:
        found = fleet.user.get(
            "/v7/device", params={"$select": "id", "$expand": "device_tag($select=tag_key,value)"}
        ).json()["d"]
        return {
            row["id"]: [(each["tag_key"], each["value"]) for each in row["device_tag"]]
            for row in found
        }

    assert rooms() == {device.id: [("room", "lab 2")], other.id: []}
    wanted = "device_tag/any(t:t/tag_key eq 'room' and t/value eq 'lab 2')"
    found = fleet.user.get("/v7/device", params={"$filter": wanted, "$select": "id"}).json()["d"]
    assert [row["id"] for row in found] == [device.id]

    again = fleet.user.post("/v7/device_tag", json=body)
    assert again.status_code == 409
    assert (
        again.json()["error"]
        == f"device {device.uuid[:7]} has a tag room already: change it (its key is unique)"
    )
    assert fleet.user.patch(f"/v7/device_tag({tag})", json={"value": ""}).is_success
    assert rooms()[device.id] == [("room", "")]
    assert fleet.user.delete(f"/v7/device_tag({tag})").is_success
    assert rooms()[device.id] == []


def test_tags_go_with_their_device(fleet: Fleet) -> None:
    device = fleet.register()
    body = {"device": device.id, "tag_key": "room", "value": "1"}
    assert fleet.user.post("/v7/device_tag", json=body).status_code == 201
    assert fleet.user.delete(f"/v7/device({device.id})").is_success
    assert fleet.user.get("/v7/device_tag").json()["d"] == []


def test_a_device_gives_itself_tags_and_reads_them(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    body = {"device": device.id, "tag_key": "room", "value": "lab 2"}
    assert fleet.user.post("/v7/device_tag", json=body).status_code == 201

    def tags() -> dict[str, str]:
        query = {"$select": "id,tag_key,value", "$filter": f"device eq {device.id}"}
        found = device.client.get("/v7/device_tag", params=query).json()["d"]
        assert all(set(each) == {"id", "tag_key", "value"} for each in found)
        return {each["tag_key"]: each["value"] for each in found}

    for said in ({"bench": "3", "colour": ""}, {"bench": "4"}, {"bench": "4"}, {}):
        answer = device.client.patch("/device/v3/tags", json={device.uuid: said})
        assert (answer.status_code, answer.text) == (200, "OK")
    assert tags() == {"room": "lab 2", "bench": "4", "colour": ""}
    for wrong in ({"a b": "1"}, {"a": "x\0"}, {"a": "x" * 1001}, {"a": None}):
        answer = device.client.patch("/device/v3/tags", json={device.uuid: {"c": "1", **wrong}})
        assert answer.status_code == 400
    assert other.client.patch("/device/v3/tags", json={device.uuid: {}}).status_code == 404
    assert tags() == {"room": "lab 2", "bench": "4", "colour": ""}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tag_key": ""}, "the tag key '' is not valid: use up to 100 characters and no blanks"),
        ({"tag_key": "a b"}, "the tag key 'a b' is not valid: "),
        ({"tag_key": "a\u2003b"}, "the tag key 'a\\u2003b' is not valid: "),
        ({"tag_key": "a\x07"}, "the tag key 'a\\x07' is not valid: "),
        ({"tag_key": "x" * 101}, f"the tag key {'x' * 100!r} is not valid: "),
        ({"value": "a\x00b"}, "the tag's value holds a NUL character"),
        ({"value": "x" * 1001}, ""),
        ({"tag_key": "a\x00b"}, "the tag key 'a\\x00b' is not valid: "),
    ],
)
def test_tags_that_are_none(fleet: Fleet, change: dict[str, str], sentence: str) -> None:
    device = fleet.register()
    body = {"device": device.id, "tag_key": "room", "value": "1"} | change
    answer = fleet.user.post("/v7/device_tag", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)
    assert fleet.user.get("/v7/device_tag").json()["d"] == []


def test_a_device_reads_its_tags_and_writes_none(fleet: Fleet) -> None:
    device, other = fleet.register(), fleet.register()
    for each in (device, other):
        body = {"device": each.id, "tag_key": "room", "value": str(each.id)}
        assert fleet.user.post("/v7/device_tag", json=body).status_code == 201
    rows = device.client.get("/v7/device_tag").json()["d"]
    assert [row["value"] for row in rows] == [str(device.id)]
    body = {"device": device.id, "tag_key": "own", "value": "1"}
    assert device.client.post("/v7/device_tag", json=body).status_code == 403
