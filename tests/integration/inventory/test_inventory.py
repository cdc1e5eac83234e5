"""A fleet's devices as Ansible's hosts: names, groups, variables, filters, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import Device

from .conftest import ROOT, Inventory


def report(device: Device, **fields: Any) -> None:
    """What a device's supervisor says; it is online from then on."""
    assert device.client.get(f"/device/v3/{device.uuid}/state").status_code == 200
    answer = device.client.patch("/device/v3/state", json={device.uuid: fields})
    assert answer.status_code == 200, answer.text


def tag(inventory: Inventory, device: Device, key: str, value: str) -> None:
    body = {"device": device.id, "tag_key": key, "value": value}
    assert inventory.fleet.user.post("/v7/device_tag", json=body).status_code == 201


def rename(inventory: Inventory, device: Device, name: str) -> None:
    changed = inventory.fleet.user.patch(f"/v7/device({device.id})", json={"device_name": name})
    assert changed.status_code == 200, changed.text


def running(inventory: Inventory, device: Device) -> str:
    """Make a release, and have the device say that it runs it; the commit."""
    fleet = inventory.fleet
    commit: str = fleet.release()["commit"]
    target = device.client.get(f"/device/v3/{device.uuid}/state").json()[device.uuid]
    service = target["apps"][fleet.uuid]["releases"][commit]["services"]["main"]
    services = {"main": {"image": service["image"], "status": "Running"}}
    releases = {commit: {"services": services, "update_status": "done"}}
    report(device, apps={fleet.uuid: {"release_uuid": commit, "releases": releases}})
    return commit


def test_a_device_is_a_host_with_its_groups_and_variables(inventory: Inventory) -> None:
    device = inventory.fleet.register(device_name="quiet-crane")
    commit = running(inventory, device)
    report(
        device,
        ip_address="192.0.2.10 2001:db8::10",
        os_version="Debian GNU/Linux 12 (bookworm)",
        supervisor_version="0.1.0",
    )
    tag(inventory, device, "room", "lab 2")
    tag(inventory, device, "spare", "")
    found = inventory.listed()

    variables = found["_meta"]["hostvars"]["quiet-crane"]
    seen = variables.pop("gantry_last_seen")
    assert seen.startswith("20")
    assert variables == {
        "ansible_host": "192.0.2.10",
        "ansible_port": 22222,
        "ansible_user": "root",
        "gantry_addresses": ["192.0.2.10", "2001:db8::10"],
        "gantry_application": inventory.fleet.application["slug"],
        "gantry_device_type": "raspberrypi3-64",
        "gantry_name": "quiet-crane",
        "gantry_online": True,
        "gantry_os_version": "Debian GNU/Linux 12 (bookworm)",
        "gantry_release": commit,
        "gantry_status": "operational",
        "gantry_supervisor_version": "0.1.0",
        "gantry_tags": {"room": "lab 2", "spare": ""},
        "gantry_target_release": commit,
        "gantry_uuid": device.uuid,
    }
    groups = {name for name, group in found.items() if group.get("hosts") == ["quiet-crane"]}
    assert groups == {
        "fleet_robots",
        "online",
        f"release_{commit[:7]}",
        "tag_room_lab_2",
        "tag_spare",
        "type_raspberrypi3_64",
    }


def test_a_device_that_was_never_heard_of_is_sought_by_mdns(inventory: Inventory) -> None:
    device = inventory.fleet.register(device_name="new-one")
    found = inventory.listed()
    variables = found["_meta"]["hostvars"]["new-one"]
    assert variables["ansible_host"] == f"{device.uuid[:7]}.local"
    assert variables["gantry_addresses"] == []
    assert variables["gantry_release"] is None
    assert found["offline"]["hosts"] == ["new-one"]
    assert "online" not in found


def test_devices_are_filtered(inventory: Inventory) -> None:
    crane, heron, gull = (
        inventory.fleet.register(device_name=name) for name in ("quiet-crane", "heron", "gull")
    )
    report(crane, ip_address="192.0.2.10")
    tag(inventory, crane, "room", "1")
    tag(inventory, heron, "room", "2")
    assert inventory.hosts() == {"quiet-crane", "heron", "gull"}
    assert inventory.hosts("online: true") == {"quiet-crane"}
    assert inventory.hosts("online: false") == {"heron", "gull"}
    assert inventory.hosts("names: [quiet-*, gull]") == {"quiet-crane", "gull"}
    assert inventory.hosts(f"uuids: [{heron.uuid[:9]}, {gull.uuid}]") == {"heron", "gull"}
    assert inventory.hosts("tags: {room: 1}") == {"quiet-crane"}
    assert inventory.hosts("tags: {room: }") == {"quiet-crane", "heron"}
    assert inventory.hosts("tags: {room: 2}\nonline: true") == set()


def test_hosts_may_be_called_by_uuid(inventory: Inventory) -> None:
    device = inventory.fleet.register(device_name="quiet-crane")
    assert inventory.hosts("hostname: uuid") == {device.uuid}
    assert inventory.hosts("hostname: short_uuid") == {device.uuid[:7]}


def test_names_that_mean_something_else_to_ansible(inventory: Inventory) -> None:
    register = inventory.fleet.register
    odd = [register(), register(), register(), register()]
    for device, name in zip(odd, ("Lab 2: door,left", "localhost", "online", "✂"), strict=True):
        rename(inventory, device, name)
    template = register()
    rename(inventory, template, "{{ 7 * 7 }}")
    found = inventory.listed()["_meta"]["hostvars"]
    assert set(found) == {
        "Lab-2-door-left",
        f"localhost-{odd[1].uuid[:7]}",
        f"online-{odd[2].uuid[:7]}",
        odd[3].uuid[:7],
        "7-7",
    }
    assert found["Lab-2-door-left"]["gantry_name"] == "Lab 2: door,left"
    # Text of the fleet's is never run as a template here.
    shown = inventory.run(command=("ansible", "7-7", "-m", "debug", "-a", "var=gantry_name"))
    assert "{{ 7 * 7 }}" in shown.stdout


def test_two_devices_of_one_name_are_two_hosts(inventory: Inventory) -> None:
    first = inventory.fleet.register(device_name="robot")
    body = {"app_name": "others", "is_for__device_type": "raspberrypi3-64"}
    made = inventory.fleet.user.post("/v7/application", json=body).json()
    second = inventory.fleet.register(device_name="other")
    moved = {"belongs_to__application": made["id"]}
    assert inventory.fleet.user.patch(f"/v7/device({second.id})", json=moved).is_success
    rename(inventory, second, "robot")
    names = {f"robot-{first.uuid[:7]}", f"robot-{second.uuid[:7]}"}
    assert inventory.hosts() == names
    assert inventory.hosts("application: others") == {"robot"}
    assert inventory.listed()["fleet_others"]["hosts"] == [f"robot-{second.uuid[:7]}"]


def test_groups_of_ones_own(inventory: Inventory) -> None:
    inventory.fleet.register(device_name="quiet-crane")
    found = inventory.listed(
        "groups: {never_seen: gantry_last_seen is none}\n"
        "keyed_groups: [{key: gantry_status, prefix: status}]\n"
        "compose: {ansible_host: gantry_uuid ~ '.devices.example.com'}\n"
        "user: pi\nport: 22\n"
    )
    assert found["never_seen"]["hosts"] == ["quiet-crane"]
    assert found["status_configuring"]["hosts"] == ["quiet-crane"]
    variables = found["_meta"]["hostvars"]["quiet-crane"]
    assert variables["ansible_host"] == f"{variables['gantry_uuid']}.devices.example.com"
    assert (variables["ansible_user"], variables["ansible_port"]) == ("pi", 22)


def test_a_token_of_the_environment_needs_no_login(inventory: Inventory) -> None:
    inventory.fleet.register(device_name="quiet-crane")
    (inventory.home / "gantry" / "devbots" / "session.json").unlink()
    assert inventory.refused() == "not logged in to devbots: `gantry login --fleet devbots`"
    inventory.environment = {"GANTRY_TOKEN": inventory.token}
    assert inventory.refused() == (
        "not logged in to devbots: `gantry login --fleet devbots`; or give url too"
    )
    inventory.environment["GANTRY_API_URL"] = inventory.url
    assert inventory.hosts() == {"quiet-crane"}


def test_the_fleet_of_the_environment(inventory: Inventory) -> None:
    inventory.fleet.register(device_name="quiet-crane")
    inventory.environment = {"GANTRY_FLEET": "testingbots"}
    assert inventory.refused().startswith("not logged in to testingbots")
    assert inventory.hosts("fleet: devbots") == {"quiet-crane"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("onlin: true", "unknown keys: onlin. Known are application, "),
        ("online: perhaps", "online is 'perhaps': write true or false"),
        ("hostname: serial", "Invalid value 'serial' for config 'hostname'"),
        ("application: nobodys", "no application 'nobodys': `gantry fleets` has those that you"),
        ("url: http://127.0.0.1:1", "http://127.0.0.1:1 cannot be reached"),
        ("ca_file: /no/such", "/no/such holds no certificate that can be read"),
        ("token: wrong", "log in again with `gantry login --fleet devbots`"),
    ],
)
def test_what_cannot_be_used_is_said(inventory: Inventory, text: str, sentence: str) -> None:
    assert sentence in inventory.refused(text)


def test_a_playbook_does_not_end_well_without_the_devices(inventory: Inventory) -> None:
    (inventory.home / "gantry" / "devbots" / "session.json").unlink()
    playbook = inventory.home / "empty.yml"
    playbook.write_text("- hosts: all\n  gather_facts: false\n")
    done = inventory.run(command=("ansible-playbook", str(playbook)))
    assert done.returncode == 1
    assert "not logged in to devbots" in done.stderr
    assert "no hosts matched" not in done.stdout


@pytest.mark.parametrize("folder", [ROOT, ROOT / "playbooks"])
def test_it_is_found_from_the_root_and_from_the_playbooks(
    inventory: Inventory, folder: Path
) -> None:
    inventory.folder = folder
    inventory.fleet.register(device_name="quiet-crane")
    assert inventory.hosts() == {"quiet-crane"}


def test_the_files_of_the_repository(inventory: Inventory) -> None:
    inventory.fleet.register(device_name="quiet-crane")
    for name, expected in (
        ("devbots.gantry.yml", {"quiet-crane"}),
        ("example.yml", {"bench-1", "bench-2", "lab-robot"}),
    ):
        path = ROOT / "inventories" / name
        done = inventory.run(command=("ansible-inventory", "-i", str(path), "--list"))
        hosts = set(json.loads(done.stdout)["_meta"]["hostvars"])
        assert hosts - {"quiet-crane"} == expected - {"quiet-crane"}
        assert expected <= hosts
        assert done.stderr == ""
