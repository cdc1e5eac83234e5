"""Supervisors as the builder publishes them: releases that everybody reads, and devices follow."""

import secrets
from collections.abc import Callable
from typing import Any

from .conftest import Api, Fleet
from .test_state import Stream


def publish(api: Api, version: str, digest: str | None = None, **more: Any) -> int:
    body = {
        "architecture": "aarch64",
        "version": version,
        "image": "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor",
        "digest": digest or f"sha256:{secrets.token_hex(32)}",
        **more,
    }
    answer = api.service("builder").post("/services/builder/supervisors", json=body)
    assert answer.status_code == 200, answer.text
    made: int = answer.json()["release_id"]
    return made


def test_a_supervisor_is_published_once_and_pinned(
    fleet: Fleet, make_fleet: Callable[[], Fleet]
) -> None:
    digest = f"sha256:{secrets.token_hex(32)}"
    first = publish(fleet.api, "1.2.3", digest)
    assert publish(fleet.api, "1.2.3", digest) == first
    again = publish(fleet.api, "1.2.3")
    assert again != first
    rows = fleet.user.get(
        "/v7/release",
        params={
            "$select": "id,raw_version",
            "$filter": "status eq 'success' and is_final eq true and is_invalidated eq false and "
            "semver_major gt 0 and belongs_to__application/any(a:startswith(a/slug,'balena_os/') "
            "and endswith(a/slug,'-supervisor') and a/is_public eq true and "
            "a/is_for__device_type/any(d:d/is_of__cpu_architecture/any(c:c/slug eq 'aarch64')))",
            "$orderby": "id",
        },
    ).json()["d"]
    assert [(each["id"], each["raw_version"]) for each in rows][-2:] == [
        (first, "1.2.3"),
        (again, "1.2.3+rev1"),
    ]
    device, path = fleet.register(), "/v7/device"
    pin = {"should_be_managed_by__release": first}
    assert fleet.user.patch(f"{path}({device.id})", json=pin).is_success
    [seen] = device.client.get(
        f"{path}({device.id})?$select=id&$expand=should_be_managed_by__release($select=raw_version)"
    ).json()["d"]
    assert seen["should_be_managed_by__release"] == [{"raw_version": "1.2.3"}]
    # Of another architecture, and an application that has no supervisors.
    other = publish(fleet.api, "1.2.3", architecture="armv7hf", image="x/armv7hf-supervisor")
    for wrong in (other, fleet.release()["release_id"]):
        refused = fleet.user.patch(
            f"{path}({device.id})", json={"should_be_managed_by__release": wrong}
        )
        assert (refused.status_code, refused.json()["rule"]) == (400, "supervisor_fits")
    # It is everybody's to read, and nobody's to change.
    assert fleet.user.patch(f"/v7/release({first})", json={"note": "x"}).status_code == 404
    assert make_fleet().user.get(f"/v7/release({first})").json()["d"]


def test_the_wanted_supervisor_is_part_of_the_target_and_announced(fleet: Fleet) -> None:
    digest = f"sha256:{secrets.token_hex(32)}"
    wanted = publish(fleet.api, "2.0.0", digest)
    later = publish(fleet.api, "2.0.0")
    device, other = fleet.register(), fleet.register()
    stream = Stream(fleet.api, device)
    stream.wait(1)
    url = f"/device/v3/{device.uuid}/state"
    first = device.client.get(url)
    assert set(first.json()[device.uuid]) == {"name", "config", "apps"}
    # One row, or all rows of a fleet.
    for where in (f"({device.id})", f"?$filter=belongs_to__application eq {fleet.id}"):
        body = {"should_be_managed_by__release": wanted}
        assert fleet.user.patch(f"/v7/device{where}", json=body).is_success
    stream.wait(2)
    second = device.client.get(url)
    assert stream.etags[1] == second.headers["ETag"] != first.headers["ETag"]
    image = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor"
    assert second.json()[device.uuid]["supervisor"] == {
        "image": f"{image}@{digest}",
        "version": "2.0.0",
    }
    assert other.client.get(f"/device/v3/{other.uuid}/state").json()[other.uuid]["supervisor"]
    # Another one of the same version; and older supervisors do not hear of it.
    fleet.user.patch(f"/v7/device({device.id})", json={"should_be_managed_by__release": later})
    stream.wait(3)
    assert device.client.get(url).json()[device.uuid]["supervisor"]["version"] == "2.0.0+rev1"
    assert set(device.client.get(f"/device/v2/{device.uuid}/state").json()["local"]) == {
        "name",
        "config",
        "apps",
    }
    fleet.user.patch(f"/v7/device({device.id})", json={"should_be_managed_by__release": None})
    stream.wait(4)
    assert device.client.get(url).headers["ETag"] == stream.etags[3] == stream.etags[0]


def test_only_the_builder_publishes_and_says_it_right(fleet: Fleet) -> None:
    path = "/services/builder/supervisors"
    assert fleet.user.post(path, json={}).status_code == 401
    assert fleet.api.service("git").post(path, json={}).status_code == 403
    for wrong in ({}, {"architecture": "z80"}, {"digest": "x"}, {"version": "new"}):
        body = {"architecture": "amd64", "version": "1.0.0", "image": "a", **wrong}
        assert fleet.api.service("builder").post(path, json=body).status_code == 400
