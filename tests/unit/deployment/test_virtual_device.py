"""The plan of a virtual device: names, container, boot partition."""

import json
from pathlib import Path

import pytest

from gantry.client.errors import NotAuthorisedError
from gantry.deployment import provisioning, virtual_device
from gantry.deployment.virtual_device import DeviceError, DeviceSpec, Supervisor

CONFIG = {"applicationId": 1, "apiEndpoint": "https://api.devbots.gantry.internal:8443"}


def spec(source: Path | None = None, keys: str = "") -> DeviceSpec:
    return DeviceSpec("pi", "devbots", CONFIG, Supervisor("image:1", False, source), keys)


def test_names_are_free_ones() -> None:
    assert virtual_device.free_names("devbots", 2, None, ["devbots-1", "x"]) == [
        "devbots-2",
        "devbots-3",
    ]
    assert virtual_device.free_names("devbots", 1, "pi", ["pi"]) == ["pi"]
    assert virtual_device.free_names("devbots", 2, "pi", []) == ["pi-1", "pi-2"]
    for wrong in ("Pi_1", "pi-", "-pi", "p" * 42):
        with pytest.raises(DeviceError, match=f"'{wrong}' cannot be a device's name"):
            virtual_device.free_names("devbots", 1, wrong, [])


def test_the_container_has_these_rights_and_mounts_and_no_others(tmp_path: Path) -> None:
    options = virtual_device.container_options(spec(), "device:1", 1)
    assert options["cap_add"] == ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD"]
    assert "privileged" not in options
    assert options["device_cgroup_rules"] == ["a *:* rwm"]
    assert "ports" not in options
    assert (options["network"], options["cgroupns"]) == ("gantry-devbots-edge", "host")
    assert options["labels"] == {"gantry.device": "pi", "gantry.fleet": "devbots"}
    assert set(options["volumes"]) == {
        "gantry-device-pi-boot",
        "gantry-device-pi-data",
        "gantry-device-pi-state",
        "/sys/fs/cgroup",
    }
    newer = virtual_device.container_options(spec(tmp_path), "device:1", 2)
    assert newer["cgroupns"] == "private"
    assert "/sys/fs/cgroup" not in newer["volumes"]
    assert newer["volumes"][str(tmp_path)] == {"bind": "/opt/gantry-source", "mode": "ro"}


def test_a_config_json_is_written_once(tmp_path: Path) -> None:
    files = virtual_device.boot_files(spec(tmp_path, "ssh-ed25519 A"), first=True)
    # Its name is the same everywhere, unless its config.json has one of its own.
    names = {"hostname": "pi", "initialDeviceName": "pi"}
    assert json.loads(files["config.json"]) == {**names, **CONFIG}
    assert json.loads(files["supervisor.json"]) == {
        "image": "image:1",
        "source": "/opt/gantry-source",
        "environment": {},
    }
    assert files["authorized_keys"] == b"ssh-ed25519 A"
    # The second start is with the uuid and the key that the supervisor wrote into it.
    assert set(virtual_device.boot_files(spec(), first=False)) == {"supervisor.json"}


def test_options_of_journalctl_are_passed_and_followers_end_with_their_reader() -> None:
    command = virtual_device.journal_command("pi", ["-n", "100", "-u", "docker"])
    assert command[:3] == ["docker", "exec", "gantry-device-pi"]
    assert command[3:] == ["journalctl", "--no-pager", "-n", "100", "-u", "docker"]
    for follow in (["-f"], ["-fn", "100"], ["--follow"]):
        assert "-i" in virtual_device.journal_command("pi", follow)
    assert "-i" not in virtual_device.journal_command("pi", ["--field=_PID"])


def test_the_registry_is_beside_the_api_unless_named() -> None:
    assert provisioning.registry_of(CONFIG) == "registry.devbots.gantry.internal:8443"
    assert provisioning.registry_of({**CONFIG, "registryEndpoint": "r:1"}) == "r:1"


def test_a_source_tree_is_found_or_refused(tmp_path: Path) -> None:
    package = tmp_path / "src" / "gantry"
    (package / "supervisor").mkdir(parents=True)
    (package / "supervisor" / "__init__.py").touch()
    for path in (tmp_path, tmp_path / "src", package):
        assert provisioning.package_of(path) == package
    with pytest.raises(DeviceError, match="holds no src/gantry/supervisor"):
        provisioning.package_of(tmp_path / "src" / "gantry" / "supervisor")


def test_wrong_configurations_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRY_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "config.json"
    with pytest.raises(DeviceError, match="is no config"):
        provisioning.read_config(path)
    path.write_text('{"apiEndpoint": "https://x"}')
    with pytest.raises(DeviceError, match="lacks applicationId"):
        provisioning.read_config(path)
    with pytest.raises(NotAuthorisedError, match="not logged in to devbots"):
        provisioning.download_config("devbots")
    with pytest.raises(DeviceError, match="balenaRootCA"):
        provisioning.registry_has({**CONFIG, "balenaRootCA": "LS0t"}, "r:1/gantry/x:1")
