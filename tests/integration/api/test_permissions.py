"""Who sees and changes what of the resource model: every resource, every role, every tenant."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import pytest

from gantry.api.odata.resources import RESOURCES

from .conftest import Api, Device, Fleet

OWN_ROWS = (
    "application",
    "device",
    "release",
    "image",
    "service",
    "release_image",
    "application_environment_variable",
    "application_config_variable",
    "device_environment_variable",
    "device_config_variable",
    "service_environment_variable",
    "device_service_environment_variable",
    "application_tag",
    "device_tag",
    "release_tag",
    "release_asset",
    "service_install",
    "image_install",
    "gateway_download",
    "device_action",
    "organization",
    "organization_membership",
    "audit_entry",
    "actor",
    "user__has__public_key",
    "api_key",
)
# What is a person's own, and no business of the other members of their organization.
PERSONAL = ("user__has__public_key",)
PUBLIC = (
    "device_type",
    "device_type_alias",
    "cpu_architecture",
    "application_type",
    "organization_membership_role",
)


@dataclass
class Tenant:
    """One user with one of everything."""

    fleet: Fleet
    device: Device
    release: dict[str, Any]
    provisioning: str


def make_tenant(api: Api, make_fleet: Callable[[], Fleet]) -> Tenant:
    fleet = make_fleet()
    device = fleet.register()
    release = fleet.release()
    fleet.user.patch(
        f"/v7/device({device.id})", json={"is_pinned_on__release": release["release_id"]}
    )
    for resource, owner in (("application", fleet.id), ("device", device.id)):
        for name in ("A", "RESIN_HOST_CONFIG_A"):
            body = {resource: owner, "name": name, "value": "secret"}
            answer = fleet.user.post(f"/v7/{resource}_environment_variable", json=body)
            assert answer.status_code == 201, answer.text
    [service] = fleet.user.get("/v7/service").json()["d"]
    [install] = fleet.user.get("/v7/service_install").json()["d"]
    for body in (
        {"service": service["id"], "name": "A", "value": "secret"},
        {"service_install": install["id"], "name": "A", "value": "secret"},
        {"application": fleet.id, "tag_key": "room", "value": "secret"},
        {"device": device.id, "tag_key": "room", "value": "secret"},
        {"release": release["release_id"], "tag_key": "room", "value": "secret"},
    ):
        parent, key = next(iter(body)), list(body)[1]
        kind = "tag" if key == "tag_key" else "environment_variable"
        name = "device_service" if parent == "service_install" else parent
        answer = fleet.user.post(f"/v7/{name}_{kind}", json=body)
        assert answer.status_code == 201, answer.text
    action = {"device": device.id, "action": "identify"}
    assert fleet.user.post("/v7/device_action", json=action).status_code == 201
    answer = fleet.user.post(
        "/v7/release_asset",
        data={"release": str(release["release_id"]), "asset_key": "map.txt"},
        files={"asset": ("map.txt", b"secret", "text/plain")},
    )
    assert answer.status_code == 201, answer.text
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + "IOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert fleet.user.post("/v7/user__has__public_key", json={"public_key": key}).is_success
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    image = state["apps"][fleet.uuid]["releases"][release["commit"]]["services"]["main"]["image"]
    services = {"main": {"image": image, "status": "Running"}}
    app = {"releases": {release["commit"]: {"services": services}}}
    report = {device.uuid: {"apps": {fleet.uuid: app}}}
    assert device.client.patch("/device/v3/state", json=report).status_code == 200
    download = {"images": {image: {"status": "Downloading", "downloadProgress": 5}}}
    dependent = {"dependent": {"apps": {"x": download}}}
    path = f"/device/v2/{device.uuid}/state"
    assert device.client.patch(path, json=dependent).status_code == 200
    assert fleet.user.post("/api-key/user/full", json={"name": "own"}).status_code == 200
    return Tenant(fleet, device, release, fleet.provisioning_key())


@pytest.fixture(scope="module")
def tenants(shared_api: Api, make_fleet: Callable[[], Fleet]) -> tuple[Tenant, Tenant]:
    return make_tenant(shared_api, make_fleet), make_tenant(shared_api, make_fleet)


@pytest.fixture(scope="module")
def colleague(tenants: tuple[Tenant, Tenant]) -> httpx.Client:
    """Another member of the first tenant's organization."""
    fleet = tenants[0].fleet
    name = f"user{secrets.token_hex(4)}"
    new = {"username": name, "password": "long enough"}
    assert fleet.api.login().post("/v7/user", json=new).status_code == 201
    body = {
        "is_member_of__organization": fleet.application["organization"]["__id"],
        "username": name,
    }
    answer = fleet.user.post("/v7/organization_membership", json=body)
    assert answer.status_code == 201, answer.text
    return fleet.api.login(name, "long enough")


def ids(client: httpx.Client, resource: str) -> set[int]:
    answer = client.get(f"/v7/{resource}?$select=id")
    assert answer.status_code == 200, answer.text
    return {each["id"] for each in answer.json()["d"]}


@pytest.mark.parametrize("resource", OWN_ROWS)
def test_users_see_their_own_and_nothing_of_others(
    tenants: tuple[Tenant, Tenant], resource: str
) -> None:
    mine, theirs = tenants
    own, foreign = ids(mine.fleet.user, resource), ids(theirs.fleet.user, resource)
    assert own
    assert foreign
    assert not own & foreign
    # Being the administrator opens nobody's fleet.
    assert not ids(mine.fleet.api.login(), resource) & (own | foreign)
    for row in foreign:
        path = f"/v7/{resource}({row})"
        assert mine.fleet.user.get(path).json() == {"d": []}
        assert mine.fleet.user.patch(path, json={}).status_code == 404
        assert mine.fleet.user.delete(path).status_code == 404
    listed = ",".join(str(row) for row in foreign)
    bulk = f"/v7/{resource}?$filter=id in ({listed})"
    assert mine.fleet.user.get(bulk).json() == {"d": []}
    mine.fleet.user.patch(bulk, json={})
    mine.fleet.user.delete(bulk)
    assert ids(theirs.fleet.user, resource) == foreign


@pytest.mark.parametrize("resource", OWN_ROWS)
def test_members_of_an_organization_see_what_is_its_and_nothing_personal(
    tenants: tuple[Tenant, Tenant], colleague: httpx.Client, resource: str
) -> None:
    mine, theirs = tenants
    seen, own = ids(colleague, resource), ids(mine.fleet.user, resource)
    assert not seen & (ids(theirs.fleet.user, resource) - own)
    if resource in PERSONAL:
        assert not seen & own
    else:
        assert seen & own
    if resource == "api_key":
        # Those of the fleet and its devices; not the user's own.
        user_key = mine.fleet.user.get("/v7/api_key?$filter=role eq 'user'").json()["d"]
        assert user_key
        assert not seen & {each["id"] for each in user_key}


@pytest.mark.parametrize("resource", OWN_ROWS)
def test_devices_see_themselves_and_change_nothing(
    tenants: tuple[Tenant, Tenant], resource: str
) -> None:
    mine, theirs = tenants
    seen = ids(mine.device.client, resource)
    assert seen <= ids(mine.fleet.user, resource)
    assert not seen & ids(theirs.fleet.user, resource)
    for row in seen:
        path = f"/v7/{resource}({row})"
        assert mine.device.client.delete(path).status_code in (403, 404, 405)
        assert mine.device.client.patch(path, json={}).status_code in (403, 404, 405)
    assert ids(mine.device.client, resource) == seen


def test_a_device_sees_one_device_and_the_release_that_concerns_it(
    tenants: tuple[Tenant, Tenant],
) -> None:
    mine, _ = tenants
    mine.fleet.register()
    mine.fleet.finish_release(mine.fleet.start_release(), "failed")
    assert ids(mine.device.client, "device") == {mine.device.id}
    assert ids(mine.device.client, "release") == {mine.release["release_id"]}
    assert ids(mine.device.client, "user") == set()
    assert ids(mine.device.client, "user__has__public_key") == set()


@pytest.mark.parametrize("resource", sorted(RESOURCES))
def test_provisioning_keys_see_nothing(tenants: tuple[Tenant, Tenant], resource: str) -> None:
    client = tenants[0].fleet.api.client(tenants[0].provisioning)
    assert client.get(f"/v7/{resource}").status_code == 403
    assert client.patch(f"/v7/{resource}?$filter=id eq 1", json={}).status_code == 403
    assert client.delete(f"/v7/{resource}?$filter=id eq 1").status_code == 403
    assert client.post(f"/v7/{resource}", json={}).status_code == 403


def test_all_resources_are_in_this_table() -> None:
    assert set(RESOURCES) == {*OWN_ROWS, *PUBLIC, "user"}


@pytest.mark.parametrize("resource", PUBLIC)
def test_what_is_public_is_changed_by_nobody(tenants: tuple[Tenant, Tenant], resource: str) -> None:
    user = tenants[0].fleet.user
    row = min(ids(user, resource))
    assert ids(tenants[0].device.client, resource) == ids(user, resource)
    assert user.patch(f"/v7/{resource}({row})", json={}).status_code == 405
    assert user.delete(f"/v7/{resource}({row})").status_code == 405
    assert user.post(f"/v7/{resource}", json={}).status_code == 405


def test_accounts(tenants: tuple[Tenant, Tenant]) -> None:
    mine, theirs = tenants
    admin = mine.fleet.api.login()
    own = mine.fleet.user.get("/user/v1/whoami").json()["id"]
    other = theirs.fleet.user.get("/user/v1/whoami").json()["id"]
    assert own in ids(mine.fleet.user, "user")
    assert other not in ids(mine.fleet.user, "user")
    assert {own, other} < ids(admin, "user")
    new = {"username": f"new{secrets.token_hex(4)}", "password": "long enough"}
    assert mine.fleet.user.post("/v7/user", json=new).status_code == 403
    assert admin.post("/v7/user", json={**new, "username": "git"}).status_code == 400
    assert admin.post("/v7/user", json={**new, "username": "d_x"}).status_code == 400
    assert admin.post("/v7/user", json={**new, "password": "short"}).status_code == 400
    assert admin.post("/v7/user", json={**new, "username": "admin"}).status_code == 409
    answer = admin.post("/v7/user", json=new)
    assert answer.status_code == 201
    assert "password" not in answer.text
    client = mine.fleet.api.login(**new)
    change = {"email": "me@example.org"}
    mine_id = answer.json()["id"]
    assert admin.patch(f"/v7/user({mine_id})", json=change).status_code == 403
    assert client.patch(f"/v7/user({mine_id})", json=change).status_code == 200
    assert client.get("/user/v1/whoami").json()["email"] == "me@example.org"
    # A password is changed with the old one alone.
    change = {"email": "other@example.org", "password": "another long one"}
    assert client.patch(f"/v7/user({mine_id})", json=change).status_code == 403
    assert client.get("/user/v1/whoami").json()["email"] == "me@example.org"


def test_nested_expansions_and_filters_leak_nothing(tenants: tuple[Tenant, Tenant]) -> None:
    mine, theirs = tenants
    # A target that names a foreign row cannot be made; so ask along what leads to others.
    expand = (
        "is_for__device_type($expand=is_of__cpu_architecture($expand=is_supported_by__device_type))"
    )
    assert mine.fleet.user.get(f"/v7/application?$expand={expand}").status_code == 200
    path = (
        f"/v7/device?$filter=belongs_to__application/slug eq '{theirs.fleet.application['slug']}'"
    )
    assert mine.fleet.user.get(path).json() == {"d": []}
    admin = mine.fleet.api.login()
    answer = admin.get("/v7/user?$expand=owns__application($expand=owns__device)").json()["d"]
    for row in answer:
        assert row["username"] == "admin" or row["owns__application"] == []
    peek = "/v7/user?$filter=owns__application/any(a:a/app_name eq 'testing')"
    assert admin.get(peek).json() == {"d": []}


def test_references_to_foreign_rows_are_refused(tenants: tuple[Tenant, Tenant]) -> None:
    mine, theirs = tenants
    user = mine.fleet.user
    variable = {"name": "B", "value": "1"}
    for resource, owner in (("application", theirs.fleet.id), ("device", theirs.device.id)):
        answer = user.post(
            f"/v7/{resource}_environment_variable", json={resource: owner, **variable}
        )
        assert answer.status_code == 404
    device = f"/v7/device({mine.device.id})"
    move = {"belongs_to__application": theirs.fleet.id}
    assert user.patch(device, json=move).status_code == 404
    pin = {"is_pinned_on__release": theirs.release["release_id"]}
    assert user.patch(device, json=pin).status_code == 400
    target = {"should_be_running__release": theirs.release["release_id"]}
    assert user.patch(f"/v7/application({mine.fleet.id})", json=target).status_code == 400
    assert (
        user.post(f"/api-key/application/{theirs.fleet.id}/provisioning", json={}).status_code
        == 404
    )
