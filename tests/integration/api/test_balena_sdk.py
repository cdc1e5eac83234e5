"""The family's Python SDK, unchanged: what its models send, and what they make of the answers."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import balena
import pytest
from balena import exceptions

from .conftest import Api, Device, Fleet

# What went wrong is in what a failed test prints.
exceptions.RequestError.__str__ = lambda error: f"{error.status_code} {error.body}"

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def sdk(api: Api, credential: str | None = None, version: str = "v7") -> Any:
    """The SDK as its documentation has it, but for the address: it knows `https://api.<host>`."""
    made = balena.Balena({"data_directory": False, "api_version": version})
    made.settings.set("api_endpoint", f"{api.url}/")
    made.settings.set("pine_endpoint", f"{api.url}/{version}/")
    # Its clients have taken the address at their making.
    made.pine.__init__(made.settings, balena.__version__)
    if credential is not None:
        made.auth.login_with_token(credential)
    return made


def token_of(fleet: Fleet) -> str:
    return fleet.user.headers["authorization"].removeprefix("Bearer ")


@pytest.fixture(params=["v7", "v6"])
def own(request: pytest.FixtureRequest, fleet: Fleet) -> Any:
    """The SDK of a fleet's user."""
    return sdk(fleet.api, token_of(fleet), request.param)


@pytest.fixture
def slug(fleet: Fleet) -> str:
    made: str = fleet.application["slug"]
    return made


def test_log_in_and_who_one_is(shared_api: Api, fleet: Fleet) -> None:
    name = fleet.application["slug"].partition("/")[0]
    client = sdk(shared_api)
    with pytest.raises(exceptions.LoginFailed):
        client.auth.login(username=name, password="wrong password")
    client.auth.login(username=name, password="long enough")
    assert client.auth.is_logged_in()
    info = client.auth.get_user_info()
    assert info["username"] == name
    assert client.auth.whoami() == {
        "id": info["actor"],
        "actorType": "user",
        "actorTypeId": info["id"],
        "username": name,
        "email": None,
    }
    assert client.auth.get_actor_id() == info["actor"]
    assert not client.auth.two_factor.is_enabled()
    assert client.auth.two_factor.is_passed()
    client.auth.logout()
    assert not client.auth.is_logged_in()


def test_the_session_is_renewed(fleet: Fleet) -> None:
    client = sdk(fleet.api, token_of(fleet))
    client.settings.set("token_refresh_interval", "0")
    assert client.models.application.get_all()
    assert client.auth.get_token() != ""


def test_organizations(own: Any, fleet: Fleet) -> None:
    handle = fleet.application["slug"].partition("/")[0]
    models = own.models.organization
    assert [each["handle"] for each in models.get_all() if each["handle"] == handle] == [handle]
    assert models.get(handle)["name"] == handle
    assert models.get(models.get(handle)["id"])["handle"] == handle
    made = models.create("Robot makers", f"robots-{secrets.token_hex(4)}")
    assert models.get(made["handle"])["id"] == made["id"]
    members = models.membership.get_all_by_organization(made["handle"])
    assert len(members) == 1
    application = own.models.application.create("in-there", "raspberrypi3", made["handle"])
    assert application["slug"] == f"{made['handle']}/in-there"
    found = own.models.application.get_all_by_organization(made["handle"])
    assert [each["id"] for each in found] == [application["id"]]
    own.models.application.remove(application["id"])
    models.remove(made["handle"])
    with pytest.raises(exceptions.OrganizationNotFound):
        models.get(made["handle"])


def test_applications(own: Any, fleet: Fleet, slug: str) -> None:
    models = own.models.application
    handle = slug.partition("/")[0]
    assert {each["slug"] for each in models.get_all()} == {slug}
    assert models.get(slug)["id"] == models.get(fleet.uuid)["id"] == models.get(fleet.id)["id"]
    assert models.get_by_name("testing")["id"] == fleet.id
    assert models.has(slug)
    assert models.has_any()
    assert not models.has("nobody/nothing")
    with pytest.raises(exceptions.ApplicationNotFound):
        models.get("nobody/nothing")
    made = models.create("second", "raspberrypi3-64", handle, "block")
    assert (made["app_name"], made["is_of__class"]) == ("second", "block")
    models.rename(made["id"], "renamed")
    assert models.get(f"{handle}/renamed")["id"] == made["id"]
    models.grant_support_access(made["id"], _soon())
    assert models.get(made["id"])["is_accessible_by_support_until__date"] is not None
    models.revoke_support_access(made["id"])
    assert models.get(made["id"])["is_accessible_by_support_until__date"] is None
    models.remove(made["id"])
    assert not models.has(f"{handle}/renamed")
    with pytest.raises(exceptions.InvalidDeviceType):
        models.create("third", "no-such-board", handle)


def _soon() -> int:
    return int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("parent", "name"), [("application", "tags"), ("device", "tags"), ("release", "tags")]
)
def test_tags(own: Any, fleet: Fleet, slug: str, parent: str, name: str) -> None:
    target: Any = slug
    if parent == "device":
        target = fleet.register().uuid
    if parent == "release":
        target = fleet.release()["commit"]
    tags = getattr(getattr(own.models, parent), name)
    tags.set(target, "room", "lab 1")
    tags.set(target, "room", "lab 2")
    tags.set(target, "floor", "3")
    listed = getattr(tags, f"get_all_by_{parent}")(target)
    assert [(each["tag_key"], each["value"]) for each in listed] == [
        ("floor", "3"),
        ("room", "lab 2"),
    ]
    if parent != "application":
        assert len(tags.get_all_by_application(slug)) == 2
    tags.remove(target, "room")
    listed = getattr(tags, f"get_all_by_{parent}")(target)
    assert [each["tag_key"] for each in listed] == ["floor"]


@pytest.mark.parametrize(
    ("parent", "name", "variable"),
    [
        ("application", "env_var", "EDITOR"),
        ("application", "config_var", "RESIN_HOST_CONFIG_disable_splash"),
        ("device", "env_var", "EDITOR"),
        ("device", "config_var", "BALENA_SUPERVISOR_POLL_INTERVAL"),
    ],
)
def test_variables(
    own: Any, fleet: Fleet, slug: str, parent: str, name: str, variable: str
) -> None:
    target = slug if parent == "application" else fleet.register().uuid
    variables = getattr(getattr(own.models, parent), name)
    variables.set(target, variable, "vim")
    variables.set(target, variable, "emacs")
    assert variables.get(target, variable) == "emacs"
    listed = getattr(variables, f"get_all_by_{parent}")(target)
    assert [(each["name"], each["value"]) for each in listed] == [(variable, "emacs")]
    if parent == "device":
        assert len(variables.get_all_by_application(slug)) == 1
    variables.remove(target, variable)
    assert variables.get(target, variable) is None


def test_variables_of_services_and_of_services_on_devices(
    own: Any, fleet: Fleet, slug: str
) -> None:
    device = fleet.register()
    fleet.release()
    [service] = own.models.service.get_all_by_application(slug)
    assert service["service_name"] == "main"
    of_service = own.models.service.var
    of_service.set(service["id"], "EDITOR", "vim")
    assert of_service.get(service["id"], "EDITOR") == "vim"
    assert [each["name"] for each in of_service.get_all_by_service(service["id"])] == ["EDITOR"]
    assert [each["name"] for each in of_service.get_all_by_application(slug)] == ["EDITOR"]
    of_both = own.models.device.service_var
    of_both.set(device.uuid, service["id"], "EDITOR", "emacs")
    of_both.set(device.uuid, service["id"], "EDITOR", "ed")
    assert of_both.get(device.uuid, service["id"], "EDITOR") == "ed"
    assert [each["value"] for each in of_both.get_all_by_device(device.uuid)] == ["ed"]
    assert [each["value"] for each in of_both.get_all_by_application(slug)] == ["ed"]
    of_both.remove(device.uuid, service["id"], "EDITOR")
    assert of_both.get(device.uuid, service["id"], "EDITOR") is None
    of_service.remove(service["id"], "EDITOR")


def test_a_device_is_registered_found_and_changed(own: Any, fleet: Fleet, slug: str) -> None:
    models = own.models.device
    uuid = models.generate_uuid()
    made = models.register(slug, uuid)
    assert made["uuid"] == uuid
    assert len(made["api_key"]) >= 32
    assert models.get(uuid)["id"] == made["id"]
    assert models.get(made["id"])["uuid"] == uuid
    assert [each["uuid"] for each in models.get_all_by_application(slug)] == [uuid]
    handle = slug.partition("/")[0]
    assert [each["uuid"] for each in models.get_all_by_organization(handle)] == [uuid]
    assert models.has(uuid)
    assert not models.has(models.generate_uuid())
    models.rename(uuid, "printer")
    assert models.get_name(uuid) == "printer"
    assert [each["uuid"] for each in models.get_by_name("printer")] == [uuid]
    assert models.get_application_name(uuid) == "testing"
    models.set_note(uuid, "left of the door")
    assert models.get(uuid)["note"] == "left of the door"
    models.set_custom_location(uuid, {"latitude": 41.383333, "longitude": 2.183333})
    assert models.get(uuid)["custom_latitude"] == "41.383333"
    models.unset_custom_location(uuid)
    assert models.get(uuid)["custom_latitude"] == ""
    assert models.get_status(uuid) == "configuring"
    assert not models.is_online(uuid)
    models.enable_device_url(uuid)
    assert models.has_device_url(uuid)
    models.disable_device_url(uuid)
    models.grant_support_access(uuid, _soon())
    models.revoke_support_access(uuid)
    models.deactivate(uuid)
    assert models.get(uuid)["is_active"] is False
    key = models.generate_device_key(uuid)
    assert len(key.strip('"')) >= 32
    models.remove(uuid)
    with pytest.raises(exceptions.DeviceNotFound):
        models.get(uuid)


def _report(device: Device, fleet: Fleet, release: dict[str, Any]) -> None:
    state = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    image = state["apps"][fleet.uuid]["releases"][release["commit"]]["services"]["main"]["image"]
    app = {
        "release_uuid": release["commit"],
        "releases": {
            release["commit"]: {"services": {"main": {"image": image, "status": "Running"}}}
        },
    }
    said = {
        "os_version": "Raspberry Pi OS 12",
        "supervisor_version": "17.0.1",
        "ip_address": "10.0.0.1",
    }
    body = {device.uuid: {**said, "apps": {fleet.uuid: app}}}
    assert device.client.patch("/device/v3/state", json=body).status_code == 200


def test_what_a_device_runs(own: Any, fleet: Fleet, slug: str) -> None:
    device, release = fleet.register(), fleet.release()
    _report(device, fleet, release)
    models = own.models.device
    found = models.get_with_service_details(device.uuid)
    [main] = found["current_services"]["main"]
    assert (main["status"], main["commit"]) == ("Running", release["commit"])
    [listed] = own.models.application.get_with_device_service_details(slug)["owns__device"]
    assert listed["current_services"]["main"][0]["status"] == "Running"
    assert models.get_local_ip_address(device.uuid) == ["10.0.0.1"]
    assert models.get_supervisor_target_state(device.uuid)["local"]["name"]
    running = own.models.release.get_latest_by_application(slug)
    assert running["commit"] == release["commit"]


def _target(own: Any, device: Device) -> str:
    expand = {"$expand": {"should_be_running__release": {"$select": "commit"}}}
    [release] = own.models.device.get(device.uuid, expand)["should_be_running__release"]
    commit: str = release["commit"]
    return commit


def test_pins_and_targets(own: Any, fleet: Fleet, slug: str) -> None:
    old, new = fleet.release(), fleet.release()
    device = fleet.register()
    models = own.models.device
    assert models.is_tracking_application_release(device.uuid)
    assert _target(own, device) == new["commit"]
    models.pin_to_release(device.uuid, old["commit"])
    assert not models.is_tracking_application_release(device.uuid)
    assert _target(own, device) == old["commit"]
    models.track_application_release(device.uuid)
    assert models.is_tracking_application_release(device.uuid)
    apps = own.models.application
    assert apps.will_track_new_releases(slug)
    assert apps.is_tracking_latest_release(slug)
    apps.pin_to_release(slug, old["commit"])
    assert not apps.will_track_new_releases(slug)
    assert apps.get_target_release_hash(slug) == old["commit"]
    apps.track_latest_release(slug)
    assert apps.get_target_release_hash(slug) == new["commit"]


def test_releases(own: Any, fleet: Fleet, slug: str) -> None:
    first = fleet.release(semver="1.2.3")
    draft = fleet.release(semver="1.2.3", is_draft=True)
    models = own.models.release
    assert {each["commit"] for each in models.get_all_by_application(slug)} == {
        first["commit"],
        draft["commit"],
    }
    found = models.get(first["commit"])
    assert (found["raw_version"], found["revision"], found["is_final"]) == ("1.2.3", 0, True)
    assert (found["semver_major"], found["semver_minor"], found["semver_patch"]) == (1, 2, 3)
    assert found["version"] == {
        "raw": "1.2.3",
        "major": 1,
        "minor": 2,
        "patch": 3,
        "version": "1.2.3",
        "prerelease": [],
        "build": [],
    }
    pair = {"application": slug, "raw_version": "1.2.3"}
    assert models.get(pair)["id"] == first["release_id"]
    unfinished = models.get(draft["commit"])
    assert unfinished["raw_version"].startswith("1.2.3-1")
    assert unfinished["revision"] is None
    models.finalize(draft["commit"])
    final = models.get(draft["commit"])
    assert (final["raw_version"], final["revision"]) == ("1.2.3+rev1", 1)
    assert own.models.application.get_target_release_hash(slug) == draft["commit"]
    models.set_is_invalidated(draft["commit"], True)
    assert own.models.application.get_target_release_hash(slug) == first["commit"]
    models.set_is_invalidated(draft["commit"], False)
    assert own.models.application.get_target_release_hash(slug) == draft["commit"]
    models.set_note(first["commit"], "the first")
    models.set_known_issue_list(first["commit"], "it limps")
    models.set_release_version(first["release_id"], "2.0.0")
    found = models.get(first["release_id"])
    assert (found["note"], found["known_issue_list"]) == ("the first", "it limps")
    assert found["raw_version"] == "2.0.0"
    detailed = models.get_with_image_details(first["release_id"])
    assert [each["service_name"] for each in detailed["images"]] == ["main"]
    assert detailed["user"]["username"] == slug.partition("/")[0]
    image = own.models.image.get(detailed["images"][0]["id"])
    assert image["status"] == "success"
    with pytest.raises(exceptions.ReleaseNotFound):
        models.get("f" * 40)


def test_keys(own: Any, fleet: Fleet, slug: str) -> None:
    models = own.models.api_key
    made = models.create("for the build server", "a description")
    assert sdk(fleet.api, made).models.application.get(slug)["id"] == fleet.id
    [found] = [each for each in models.get_all() if each["name"] == "for the build server"]
    models.update(found["id"], {"name": "renamed", "description": None, "expiry_date": None})
    assert "renamed" in {each["name"] for each in models.get_all_named_user_api_keys()}
    models.revoke(found["id"])
    assert not sdk(fleet.api, made).auth.is_logged_in()
    own.models.application.generate_provisioning_key(slug)
    assert models.get_provisioning_api_keys_by_application(slug)
    device = fleet.register()
    assert models.get_device_api_keys_by_device(device.uuid)
    ssh = own.models.key.create("laptop", KEY)
    assert own.models.key.get(ssh["id"])["title"] == "laptop"
    assert [each["title"] for each in own.models.key.get_all()] == ["laptop"]
    own.models.key.remove(ssh["id"])


def test_device_types_and_configuration(own: Any, fleet: Fleet, slug: str) -> None:
    models = own.models.device_type
    pi = models.get("raspberrypi3-64")
    assert pi["name"] == models.get_name("raspberrypi3-64")
    assert models.get_by_slug_or_name(pi["name"])["slug"] == "raspberrypi3-64"
    assert models.get_slug_by_name(pi["name"]) == "raspberrypi3-64"
    assert "raspberry-pi" in {each["slug"] for each in models.get_all()}
    config = own.models.os.get_config(slug, {"version": "2.12.0", "network": "ethernet"})
    assert config["applicationId"] == fleet.id
    assert own.models.config.get_all()["registry"]


def test_what_needs_the_vpn_is_told_clearly(own: Any, fleet: Fleet) -> None:
    device = fleet.register()
    # The SDK hands the answer on as it is; for a device that is there it asks by its id.
    body = {"method": "GET", "deviceId": device.id, "appId": fleet.id}
    answer = fleet.user.post("/supervisor/ping", json=body)
    said = {"error": f"device {device.uuid[:7]} has never been connected to the VPN"}
    assert (answer.status_code, answer.json()) == (503, said)
    own.models.device.ping(device.uuid)
    foreign = {"method": "GET", "deviceId": 999_999}
    assert fleet.user.post("/supervisor/ping", json=foreign).status_code == 404
    assert fleet.user.post("/supervisor/ping", json={}).status_code == 400
    everywhere = fleet.user.post("/supervisor/v1/reboot", json={"appId": fleet.id})
    assert everywhere.status_code == 503
    assert "is connected to the VPN" in everywhere.json()["error"]


def test_nobody_else_s(make_fleet: Callable[[], Fleet]) -> None:
    mine, theirs = make_fleet(), make_fleet()
    client = sdk(mine.api, token_of(mine))
    device = theirs.register()
    with pytest.raises(exceptions.ApplicationNotFound):
        client.models.application.get(theirs.application["slug"])
    with pytest.raises(exceptions.DeviceNotFound):
        client.models.device.get(device.uuid)
    with pytest.raises(exceptions.DeviceNotFound):
        client.models.device.rename(device.uuid, "taken")
    with pytest.raises(exceptions.OrganizationNotFound):
        client.models.organization.get(theirs.application["slug"].partition("/")[0])
