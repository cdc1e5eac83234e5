"""Module device_facts: which board is which device type, and what cannot be a device."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gantry.contracts.device_types import DEVICE_TYPES, device_type

ROLE = Path(__file__).parents[3] / "roles" / "device_config"
RELEASES = {"debian": ["12", "13"], "raspbian": ["12", "13"]}


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Ansible puts a role's module_utils there.
UTILS = "ansible.module_utils.gantry_config"
sys.modules[UTILS] = load(UTILS, ROLE / "module_utils" / "gantry_config.py")
module = load("device_facts", ROLE / "library" / "device_facts.py")


@pytest.mark.parametrize(
    ("model", "architecture", "expected"),
    [
        ("Raspberry Pi Model B Rev 2", "armhf", "raspberry-pi"),
        ("Raspberry Pi Model B Plus Rev 1.2", "armhf", "raspberry-pi"),
        ("Raspberry Pi Zero W Rev 1.1", "armhf", "raspberry-pi"),
        ("Raspberry Pi Compute Module Rev 1.1", "armhf", "raspberry-pi"),
        ("Raspberry Pi 2 Model B Rev 1.1", "armhf", "raspberry-pi2"),
        ("Raspberry Pi 2 Model B Rev 1.2", "arm64", "raspberrypi3-64"),
        ("Raspberry Pi 3 Model B Rev 1.2", "armhf", "raspberrypi3"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "arm64", "raspberrypi3-64"),
        ("Raspberry Pi 3 Model A Plus Rev 1.0", "armhf", "raspberrypi3"),
        ("Raspberry Pi Compute Module 3 Rev 1.0", "arm64", "raspberrypi3-64"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "arm64", "raspberrypi3-64"),
        ("Raspberry Pi 4 Model B Rev 1.5", "arm64", "raspberrypi4-64"),
        ("Raspberry Pi 4 Model B Rev 1.5", "armhf", "raspberrypi3"),
        ("Raspberry Pi 400 Rev 1.0", "arm64", "raspberrypi4-64"),
        ("Raspberry Pi 5 Model B Rev 1.0", "arm64", "raspberrypi4-64"),
        ("Raspberry Pi 500 Rev 1.0", "arm64", "raspberrypi4-64"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "arm64", "raspberrypi4-64"),
        ("Raspberry Pi Model B Rev 2", "arm64", ""),
        ("linux,dummy-virt", "arm64", ""),
        ("", "arm64", ""),
        ("", "riscv64", ""),
        ("", "amd64", "generic-amd64"),
    ],
)
def test_device_types(model: str, architecture: str, expected: str) -> None:
    assert module.device_type_of(model, architecture, "") == expected
    if expected:
        runs = device_type(expected).architecture.debian
        # 32 bit Raspberry Pi OS calls itself armhf on the first boards, too.
        assert runs == architecture or (runs, architecture) == ("armel", "armhf")


def test_every_type_that_it_names_exists() -> None:
    known = {each.slug for each in DEVICE_TYPES}
    assert set(module.DEVICE_TYPES.values()) <= known
    assert module.device_type_of("", "amd64", "NUC7i5BNH") == "intel-nuc"


@pytest.mark.parametrize(
    ("release", "problem"),
    [
        ('ID=debian\nVERSION_ID="12"\n', ""),
        ('PRETTY_NAME="x"\nID=raspbian\nVERSION_ID="13"\n', ""),
        ('ID="debian"\nVERSION_ID="13"\n', ""),
        (
            'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n',
            "the operating system is Debian GNU/Linux 11 (bullseye): "
            "install one of debian 12/13, raspbian 12/13",
        ),
        ("ID=alpine\nVERSION_ID=3.20\n", "the operating system is alpine: install one of"),
        ("", "the operating system is an unknown system: install one of"),
    ],
)
def test_operating_systems(release: str, problem: str) -> None:
    found = module.os_problem(release, RELEASES)
    assert found.startswith(problem) if problem else found == ""


def test_an_unknown_board_is_refused_by_name() -> None:
    assert module.board_problem("raspberrypi3", "any", "armhf") == ""
    assert module.board_problem("", "linux,dummy-virt", "arm64").startswith(
        "the board is linux,dummy-virt (arm64), which has no device type: set "
    )
    assert "the board is unknown (unknown architecture)" in module.board_problem("", "", "")


def test_the_variant_that_was_written_down(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    assert module.noted("variant", path) == ""
    path.write_text('{\n    "board": "",\n    "variant": "development"\n}\n')
    assert module.noted("variant", path) == "development"


def test_problems_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "release").write_text("ID=alpine\n")
    for name in ("MODEL", "PRODUCT", "DEVICE"):
        monkeypatch.setattr(module, name, tmp_path / "none")
    monkeypatch.setattr(module, "OS_RELEASE", tmp_path / "release")
    monkeypatch.setattr(module, "offline_problem", lambda booted: "")
    parameters = {"boot": str(tmp_path), "device_type": "", "releases": RELEASES}
    found = module.facts(parameters, "arm64")
    assert [each.split(":")[0].split(" (")[0] for each in found["problems"]] == [
        "the operating system is alpine",
        "the board is unknown",
        f"{tmp_path}/config.json is a list",
    ]
    assert found["config"] == {}
    parameters["device_type"] = "raspberrypi4-64"
    assert len(module.facts(parameters, "arm64")["problems"]) == 2


def test_a_type_that_was_forced_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playbooks that change a device, or take it out of its fleet, are not told of it again."""
    for name in ("MODEL", "PRODUCT", "OS_RELEASE"):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "DEVICE", tmp_path / "device.json")
    (tmp_path / "device.json").write_text('{"deviceType": "raspberrypi3-64", "variant": ""}')
    parameters = {"boot": str(tmp_path), "device_type": "", "releases": RELEASES}
    assert module.facts(parameters, "arm64")["device_type"] == "raspberrypi3-64"
    (tmp_path / "MODEL").write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    assert module.facts(parameters, "arm64")["device_type"] == "raspberrypi4-64"


def test_packages_that_somebody_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is gone or half there, nor what goes with that for which it was installed."""
    stanzas = {
        "chrony": "install ok installed",
        "kmod": "hold ok installed",
        "docker.io": "deinstall ok config-files",
        "iw": "install ok unpacked",
        "libnss-mdns": "install ok installed",
        "redsocks": "install ok installed",
    }
    text = "".join(
        f"Package: {name}\nStatus: {status}\nPriority: optional\nDescription: none\n Package: x\n\n"
        for name, status in stanzas.items()
    )
    (tmp_path / "status").write_text(text)
    (tmp_path / "states").write_text(
        "Package: libnss-mdns\nArchitecture: arm64\nAuto-Installed: 1\n\n"
        "Package: redsocks\nArchitecture: arm64\nAuto-Installed: 0\n\n"
    )
    monkeypatch.setattr(module, "PACKAGES", tmp_path / "status")
    monkeypatch.setattr(module, "AUTOMATIC", tmp_path / "states")
    assert module.wanted_packages() == ["chrony", "kmod", "redsocks"]
    monkeypatch.setattr(module, "AUTOMATIC", tmp_path / "none")
    assert module.wanted_packages() == ["chrony", "kmod", "libnss-mdns", "redsocks"]
