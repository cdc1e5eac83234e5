"""API keys: made for one actor, shown once, over at once."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .conftest import Device, Fleet
from .test_state import Stream


def test_api_keys_are_shown_once_and_can_be_revoked(fleet: Fleet) -> None:
    key = fleet.user.post("/api-key/user/full", json={"name": "ci"}).json()
    by_key = fleet.api.client(key)
    assert by_key.get("/user/v1/whoami").status_code == 200
    (row,) = fleet.user.get("/v7/api_key?$filter=name eq 'ci'").json()["d"]
    assert key not in str(row)
    assert "key_hash" not in row
    assert fleet.user.delete(f"/v7/api_key({row['id']})").status_code == 200
    assert by_key.get("/user/v1/whoami").status_code == 401
    expired = {"name": "old", "expiryDate": "2020-01-01T00:00:00Z"}
    key = fleet.user.post("/api-key/user/full", json=expired).json()
    assert fleet.api.client(key).get("/user/v1/whoami").status_code == 401


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_key_is_for_the_actor_that_the_body_names(fleet: Fleet) -> None:
    me = fleet.user.get("/user/v1/whoami").json()["id"]
    device = fleet.register()
    kinds = (
        ("user", me, "named-user-api-key"),
        ("device", device.id, "device-api-key"),
        ("application", fleet.id, "provisioning-api-key"),
    )
    for kind, number, role in kinds:
        body: dict[str, Any] = {"actorType": kind, "actorTypeId": number, "roles": [role]}
        for path in ("/api-key/v1/", "/api-key/v2/", "/api-key/v2"):
            made = fleet.user.post(path, json={**body, "name": "named", "description": None})
            assert made.status_code == 200, made.text
            actor = fleet.api.client(made.json()).get("/actor/v1/whoami").json()
            assert (actor["actorType"], actor["actorTypeId"]) == (kind, number)
        refused = fleet.user.post("/api-key/v2/", json={**body, "roles": ["admin"]})
        assert (refused.status_code, f"one role: {role}" in refused.json()["error"]) == (400, True)
        stranger = fleet.api.login().post("/api-key/v2/", json=body)
        assert stranger.status_code == 404
    assert fleet.user.post("/api-key/v2/", json={"actorType": "fish"}).status_code == 400


def test_a_device_has_several_keys_and_a_key_makes_no_user_s_key(fleet: Fleet) -> None:
    device = fleet.register()
    more = fleet.user.post(f"/api-key/device/{device.id}/device-key", json={"name": "spare"})
    assert fleet.api.client(more.json()).get("/actor/v1/whoami").json()["uuid"] == device.uuid
    assert device.client.get("/actor/v1/whoami").status_code == 200
    key = fleet.user.post("/api-key/user/full", json={"name": "ci"}).json()
    by_key = fleet.api.client(key)
    assert by_key.post("/api-key/user/full", json={"name": "mine"}).status_code == 401
    me = fleet.user.get("/user/v1/whoami").json()["id"]
    body = {"actorType": "user", "actorTypeId": me}
    assert by_key.post("/api-key/v2/", json=body).status_code == 401
    assert by_key.post(f"/api-key/application/{fleet.id}/provisioning").status_code == 200
    assert device.client.post(f"/api-key/device/{device.id}/device-key").status_code == 403


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00"])
def test_a_key_s_time_can_be_set_and_ended_later(fleet: Fleet, moment: str) -> None:
    body = {"name": "shift", "expiryDate": in_seconds(3600)}
    client = fleet.api.client(fleet.user.post("/api-key/user/full", json=body).json())
    (row,) = fleet.user.get("/v7/api_key?$filter=name eq 'shift'").json()["d"]
    assert client.get("/user/v1/whoami").status_code == 200
    change = {"name": "shift", "description": None, "expiry_date": moment}
    assert fleet.user.patch(f"/v7/api_key({row['id']})", json=change).status_code == 200
    assert client.get("/user/v1/whoami").status_code == 401
    fleet.user.patch(f"/v7/api_key({row['id']})", json={"expiry_date": None})
    assert client.get("/user/v1/whoami").status_code == 200


def test_a_key_does_not_prolong_itself(fleet: Fleet) -> None:
    until = "2099-01-01T00:00:00Z"
    body = {"name": "short", "expiryDate": until}
    client = fleet.api.client(fleet.user.post("/api-key/user/full", json=body).json())
    (row,) = fleet.user.get("/v7/api_key?$filter=name eq 'short'").json()["d"]
    path = f"/v7/api_key({row['id']})"
    for later in (None, "2099-01-01T00:00:01Z", "2098-01-01T00:00:00Z"):
        refused = client.patch(path, json={"name": "mine", "expiry_date": later})
        assert (refused.status_code, "log in" in refused.json()["error"]) == (403, True)
    # The family's clients send the time with every change.
    assert client.patch(path, json={"name": "mine", "expiry_date": until}).status_code == 200
    assert fleet.user.get(path).json()["d"][0]["name"] == "mine"
    assert client.delete(path).status_code == 200
    assert client.get("/user/v1/whoami").status_code == 401


def spare_key(fleet: Fleet, device: Device, **more: Any) -> tuple[str, int]:
    """One more key of a device, and its id."""
    body = {"name": f"spare {time.monotonic()}", **more}
    key = fleet.user.post(f"/api-key/device/{device.id}/device-key", json=body).json()
    (row,) = fleet.user.get(f"/v7/api_key?$filter=name eq '{body['name']}'").json()["d"]
    return key, row["id"]


def test_a_key_that_is_revoked_ends_its_streams_at_once(fleet: Fleet) -> None:
    device = fleet.register()
    keys = [spare_key(fleet, device) for _ in range(3)]
    own = Stream(fleet.api, device)
    streams = [Stream(fleet.api, device, key) for key, _ in keys]
    for each in (own, *streams):
        each.wait(1)
    assert fleet.user.delete(f"/v7/api_key({keys[0][1]})").status_code == 200
    assert streams[0].ended(2)
    over = {"expiry_date": in_seconds(-1)}
    assert fleet.user.patch(f"/v7/api_key({keys[1][1]})", json=over).status_code == 200
    assert streams[1].ended(2)
    # Those of the device's other keys hear on.
    assert not streams[2].ended(0.5)
    assert len(own.etags) == 1
    fleet.release()
    own.wait(2)
    streams[2].wait(2)
    # All that the device has, at once.
    fleet.user.delete(f"/v7/api_key?$filter=is_of__actor eq {actor_of(device)}")
    assert own.ended(2)
    assert streams[2].ended(2)


def actor_of(device: Device) -> int:
    actor: int = device.client.get("/actor/v1/whoami").json()["id"]
    return actor


def test_a_stream_ends_when_its_key_s_time_is_over(fleet: Fleet) -> None:
    device = fleet.register()
    key, number = spare_key(fleet, device, expiryDate=in_seconds(3))
    stream = Stream(fleet.api, device, key)
    stream.wait(1)
    assert not stream.ended(0.5)
    assert stream.ended(4)
    assert fleet.api.client(key).get(f"/device/v3/{device.uuid}/events").status_code == 401
    # A time that is set while the stream is open holds too.
    key, number = spare_key(fleet, device)
    stream = Stream(fleet.api, device, key)
    stream.wait(1)
    fleet.user.patch(f"/v7/api_key({number})", json={"expiry_date": in_seconds(2)})
    assert not stream.ended(0.5)
    assert stream.ended(4)
