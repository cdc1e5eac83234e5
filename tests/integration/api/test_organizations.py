"""Organizations: who is a member, and what members and administrators may do."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest

from .conftest import Api, Fleet


@pytest.fixture
def person(shared_api: Api) -> Callable[[], tuple[str, httpx.Client]]:
    """Makes an account: its name, and a client of it."""
    admin = shared_api.login()

    def make() -> tuple[str, httpx.Client]:
        name = f"user{secrets.token_hex(4)}"
        new = {"username": name, "password": "long enough"}
        assert admin.post("/v7/user", json=new).status_code == 201
        return name, shared_api.login(name, "long enough")

    return make


def organization_of(fleet: Fleet) -> int:
    made: int = fleet.application["organization"]["__id"]
    return made


def roles(client: httpx.Client) -> dict[str, int]:
    rows = client.get("/v7/organization_membership_role").json()["d"]
    return {each["name"]: each["id"] for each in rows}


def add(client: httpx.Client, organization: int, name: str, **more: Any) -> httpx.Response:
    body = {"is_member_of__organization": organization, "username": name, **more}
    return client.post("/v7/organization_membership", json=body)


def test_a_member_uses_the_fleets_and_says_not_who_is_a_member(
    fleet: Fleet, person: Callable[[], tuple[str, httpx.Client]]
) -> None:
    organization, device = organization_of(fleet), fleet.register()
    (name, member), (other, _) = person(), person()
    assert member.get(f"/v7/device({device.id})").json() == {"d": []}
    assert add(fleet.user, organization, name).status_code == 201
    assert member.get(f"/v7/device({device.id})").json()["d"][0]["uuid"] == device.uuid
    assert member.patch(f"/v7/device({device.id})", json={"note": "x"}).is_success
    body = {"app_name": "another", "is_for__device_type": "raspberrypi3"}
    made = member.post("/v7/application", json={**body, "organization": organization})
    assert made.status_code == 201
    assert made.json()["slug"] == fleet.application["slug"].replace("testing", "another")
    path = f"/v7/application({made.json()['id']})"
    assert member.patch(path, json={"app_name": "renamed"}).is_success
    [renamed] = fleet.user.get(path).json()["d"]
    assert renamed["slug"] == fleet.application["slug"].replace("testing", "renamed")
    answer = add(member, organization, other)
    assert (answer.status_code, "administrators" in answer.json()["error"]) == (403, True)
    assert member.patch(f"/v7/organization({organization})", json={"name": "x"}).status_code == 403
    # git asks the same.
    owner = fleet.application["slug"].partition("/")[0]
    asked = {"username": name, "owner": owner, "application": "testing", "action": "push"}
    git = fleet.api.service("git")
    granted = git.post("/services/git/authorize", json=asked)
    assert granted.status_code == 200, granted.text
    # Whoever leaves sees nothing from that moment on.
    [own] = member.get(
        f"/v7/organization_membership?$filter=user/username eq '{name}' and "
        f"is_member_of__organization eq {organization}"
    ).json()["d"]
    assert member.delete(f"/v7/organization_membership({own['id']})").is_success
    assert member.get(f"/v7/device({device.id})").json() == {"d": []}
    assert git.post("/services/git/authorize", json=asked).status_code == 404


def test_there_is_always_an_administrator(
    fleet: Fleet, person: Callable[[], tuple[str, httpx.Client]]
) -> None:
    organization, (name, second) = organization_of(fleet), person()
    [own] = fleet.user.get("/v7/organization_membership").json()["d"]
    path, known = f"/v7/organization_membership({own['id']})", roles(fleet.user)
    assert fleet.user.delete(path).status_code == 409
    demoted = {"organization_membership_role": known["member"]}
    assert fleet.user.patch(path, json=demoted).status_code == 409
    administrator = {"organization_membership_role": known["administrator"]}
    assert add(fleet.user, organization, name, **administrator).status_code == 201
    assert add(fleet.user, organization, name).status_code == 409
    assert fleet.user.patch(path, json=demoted).is_success
    assert second.patch(f"/v7/organization({organization})", json={"name": "Ours"}).is_success
    assert add(fleet.user, organization, "nobody-there").status_code == 403


def test_organizations_are_made_and_removed(
    fleet: Fleet, person: Callable[[], tuple[str, httpx.Client]]
) -> None:
    handle = f"org-{secrets.token_hex(4)}"
    made = fleet.user.post("/v7/organization", json={"name": "Robots & Co.", "handle": handle})
    assert made.status_code == 201, made.text
    organization = made.json()["id"]
    again = fleet.user.post("/v7/organization", json={"name": "x", "handle": handle})
    assert again.status_code == 409
    named = fleet.user.post("/v7/organization", json={"name": f"Robots {handle}"}).json()
    assert named["handle"].startswith("robots-org-")
    for wrong in ("X", "git", "balena_os", "d_x", "a b"):
        answer = fleet.user.post("/v7/organization", json={"name": "x", "handle": wrong})
        assert answer.status_code == 400, wrong
    name, _ = person()
    answer = fleet.user.post("/v7/organization", json={"name": "x", "handle": name})
    assert answer.status_code == 409
    admin = fleet.api.login()
    new = {"username": handle, "password": "long enough"}
    assert admin.post("/v7/user", json=new).status_code == 409
    body = {"app_name": "inside", "is_for__device_type": "raspberrypi3"}
    app = fleet.user.post("/v7/application", json={**body, "organization": organization}).json()
    assert app["slug"] == f"{handle}/inside"
    assert fleet.user.delete(f"/v7/organization({organization})").status_code == 409
    assert fleet.user.delete(f"/v7/application({app['id']})").is_success
    assert fleet.user.delete(f"/v7/organization({organization})").is_success
    own = organization_of(fleet)
    assert fleet.user.delete(f"/v7/application({fleet.id})").is_success
    assert fleet.user.delete(f"/v7/organization({own})").status_code == 409
    elsewhere = {**body, "organization": organization}
    assert fleet.user.post("/v7/application", json=elsewhere).status_code == 404


def test_what_is_public_is_read_by_everybody_and_changed_by_members(
    fleet: Fleet, make_fleet: Callable[[], Fleet]
) -> None:
    stranger, release = make_fleet().user, fleet.release()
    tag = {"release": release["release_id"], "tag_key": "quality", "value": "good"}
    made = fleet.user.post("/v7/release_tag", json=tag).json()
    application = f"/v7/application({fleet.id})"
    device = fleet.register()
    assert stranger.get(application).json() == {"d": []}
    assert fleet.user.patch(application, json={"is_public": True}).is_success
    [seen] = stranger.get(
        f"{application}?$expand=owns__release($expand=release_tag),owns__device,organization"
    ).json()["d"]
    assert seen["owns__release"][0]["release_tag"][0]["value"] == "good"
    assert seen["owns__device"] == []
    assert len(seen["organization"]) == 1
    assert stranger.get(f"/v7/device({device.id})").json() == {"d": []}
    for path in (
        application,
        f"/v7/release({release['release_id']})",
        f"/v7/release_tag({made['id']})",
        f"/v7/organization({organization_of(fleet)})",
    ):
        assert stranger.get(path).json()["d"], path
        assert stranger.patch(path, json={}).status_code == 404, path
        assert stranger.delete(path).status_code == 404, path
    assert stranger.post("/v7/release_tag", json={**tag, "tag_key": "x"}).status_code == 404
    assert fleet.user.patch(application, json={"is_public": False}).is_success
    assert stranger.get(application).json() == {"d": []}


def test_variables_of_all_levels_reach_the_device(fleet: Fleet) -> None:
    release = fleet.release(
        services=["main", "web"], composition={"services": {"main": {}, "web": {}}}
    )
    device, other = fleet.register(), fleet.register()
    services = {
        each["service_name"]: each["id"] for each in fleet.user.get("/v7/service").json()["d"]
    }
    install = fleet.user.get(
        "/v7/service_install",
        params={"$filter": f"device eq {device.id} and installs__service eq {services['main']}"},
    ).json()["d"][0]["id"]

    def put(resource: str, owner: dict[str, int], *names: str) -> None:
        for name in names:
            body = {**owner, "name": name, "value": resource}
            answer = fleet.user.post(f"/v7/{resource}_environment_variable", json=body)
            assert answer.status_code == 201, answer.text

    def environment(of: Any, service: str) -> dict[str, str]:
        state = of.client.get(f"/device/v3/{of.uuid}/state").json()[of.uuid]
        release_state = state["apps"][fleet.uuid]["releases"][release["commit"]]
        found: dict[str, str] = release_state["services"][service]["environment"]
        return found

    before = device.client.get(f"/device/v3/{device.uuid}/state").headers["etag"]
    put("application", {"application": fleet.id}, "A", "B", "C", "D")
    put("service", {"service": services["main"]}, "B", "C", "D")
    put("device", {"device": device.id}, "C", "D")
    put("device_service", {"service_install": install}, "D")
    assert environment(device, "main") == {
        "A": "application",
        "B": "service",
        "C": "device",
        "D": "device_service",
    }
    assert environment(device, "web") == dict.fromkeys("AB", "application") | dict.fromkeys(
        "CD", "device"
    )
    assert environment(other, "main") == {"A": "application"} | dict.fromkeys("BCD", "service")
    after = device.client.get(f"/device/v3/{device.uuid}/state").headers["etag"]
    assert after != before
    # What configures the device has no place at a service.
    body = {"service": services["main"], "name": "RESIN_HOST_CONFIG_x", "value": "1"}
    assert fleet.user.post("/v7/service_environment_variable", json=body).status_code == 400


def test_drafts_are_not_tracked_until_they_are_final(fleet: Fleet) -> None:
    first = fleet.release()
    draft = fleet.release(is_draft=True)
    device = fleet.register()

    def runs() -> list[str]:
        state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
        return list(state["apps"][fleet.uuid]["releases"])

    assert runs() == [first["commit"]]
    target = {"should_be_running__release": draft["release_id"]}
    refused = fleet.user.patch(f"/v7/application({fleet.id})", json=target)
    assert (refused.status_code, refused.json()["rule"]) == (400, "target_fits")
    pin = {"is_pinned_on__release": draft["release_id"]}
    assert fleet.user.patch(f"/v7/device({device.id})", json=pin).is_success
    assert runs() == [draft["commit"]]
    unpin = {"is_pinned_on__release": None}
    assert fleet.user.patch(f"/v7/device({device.id})", json=unpin).is_success
    path = f"/v7/release({draft['release_id']})"
    assert fleet.user.patch(path, json={"is_final": True}).is_success
    assert runs() == [draft["commit"]]
    assert fleet.user.patch(path, json={"is_final": False}).status_code == 409
    bad = {"is_invalidated": True, "invalidation_reason": "it burns"}
    assert fleet.user.patch(path, json=bad).is_success
    assert runs() == [first["commit"]]
    # Pushing the same commit again does not bring back what somebody called bad.
    body = {"commit": draft["commit"]}
    service = fleet.api.service("builder")
    answer = service.post(
        "/services/builder/releases",
        json={
            "application_id": fleet.id,
            "user_id": fleet.application["belongs_to__user"]["__id"],
            "composition": {},
            "services": ["main"],
            **body,
        },
    )
    assert (answer.status_code, "invalidated" in answer.json()["error"]) == (409, True)


def test_files_of_releases(fleet: Fleet) -> None:
    release = fleet.release()
    content = secrets.token_bytes(3_000_000)

    def send(client: httpx.Client, **more: Any) -> httpx.Response:
        data = {"release": str(release["release_id"]), "asset_key": "maps/floor.bin", **more}
        files = {"asset": ("floor plan.bin", content, "application/x-map")}
        return client.post("/v7/release_asset", data=data, files=files)

    made = send(fleet.user)
    assert made.status_code == 201, made.text
    asset = made.json()["asset"]
    assert (asset["filename"], asset["size"]) == ("floor plan.bin", len(content))
    got = fleet.user.get(asset["href"])
    assert got.content == content
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''floor%20plan.bin"
    assert fleet.api.login().get(asset["href"]).status_code == 404
    assert send(fleet.user).status_code == 409
    assert send(fleet.user, asset_key="a b").status_code == 400
    assert send(fleet.api.login(), asset_key="other").status_code == 404
    wrong = fleet.user.post("/v7/release_asset", json={"release": 1})
    assert (wrong.status_code, "multipart" in wrong.json()["error"]) == (400, True)
    path = f"/v7/release_asset({made.json()['id']})"
    assert fleet.user.patch(path, json={"asset_key": "floor.bin"}).is_success
    assert fleet.user.delete(path).is_success
    assert fleet.user.get(asset["href"]).status_code == 404
