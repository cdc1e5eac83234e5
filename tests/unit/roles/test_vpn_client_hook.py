"""Hook 60-vpn: whether there is a tunnel, and what OpenVPN is told."""

import base64
import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HOOK = Path(__file__).parents[3] / "roles" / "vpn_client" / "files" / "vpn_hook.py"
KEY = "5ecre7-0f-th3-dev1ce"
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REGISTERED: dict[str, Any] = {
    "vpnEndpoint": "vpn.devbots.gantry.internal",
    "vpnPort": 443,
    "uuid": "0123456789abcdef0123456789abcdef",
    "deviceApiKey": KEY,
    "deviceId": 7,
    "balenaRootCA": base64.b64encode(PEM.encode()).decode(),
}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vpn_hook", HOOK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hook = load()


@pytest.mark.parametrize(
    ("change", "variant", "reason"),
    [
        ({}, "production", ""),
        ({}, "development", ""),
        ({}, "standalone", "the device is standalone"),
        ({"vpnEndpoint": ""}, "production", "config.json names no vpnEndpoint"),
        ({"deviceApiKey": None}, "production", "the device is not registered yet"),
        ({"uuid": None}, "production", "the device is not registered yet"),
        # The supervisor makes identity and key, writes them down, and only then registers.
        ({"deviceId": None, "apiKey": "p"}, "production", "the device is not registered yet"),
        ({"deviceId": None, "registered_at": 1, "apiKey": "p"}, "production", ""),
        ({"deviceId": None}, "production", ""),
    ],
)
def test_when_there_is_a_tunnel(change: dict[str, Any], variant: str, reason: str) -> None:
    assert hook.reason_for_off(REGISTERED | change, variant) == reason


def test_what_openvpn_is_told() -> None:
    assert hook.files_of(REGISTERED) == {
        "auth": f"0123456789abcdef0123456789abcdef\n{KEY}\n",
        "ca.crt": PEM,
        "remote.conf": "remote vpn.devbots.gantry.internal 443\nca ca.crt\n"
        "verify-x509-name vpn.devbots.gantry.internal name\n",
    }


@pytest.mark.parametrize("port", ["1194", 1194])
def test_ports_are_numbers_or_their_digits(port: object) -> None:
    files = hook.files_of(REGISTERED | {"vpnPort": port, "vpnEndpoint": "2001:db8::1"})
    assert files["remote.conf"].splitlines()[0] == "remote 2001:db8::1 1194"


def test_without_an_authority_of_its_own_the_public_ones_are_trusted() -> None:
    files = hook.files_of(REGISTERED | {"balenaRootCA": "", "vpnPort": None})
    assert files["remote.conf"] == (
        "remote vpn.devbots.gantry.internal 443\nca /etc/ssl/certs/ca-certificates.crt\n"
        "verify-x509-name vpn.devbots.gantry.internal name\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vpnPort": 0}, "vpnPort is 0: give a number from 1 to 65535"),
        ({"vpnPort": 65536}, "vpnPort is 65536: give a number from 1 to 65535"),
        ({"vpnPort": "https"}, "vpnPort is 'https': give a number"),
        ({"vpnPort": True}, "vpnPort is True: give a number"),
        ({"vpnPort": "٤٤٣"}, "vpnPort is '٤٤٣': give a number"),
        ({"vpnEndpoint": "vpn\nup /bin/sh"}, "vpnEndpoint is 'vpn\\nup /bin/sh': give a host"),
        ({"vpnEndpoint": "vpn 443 udp"}, "vpnEndpoint is 'vpn 443 udp': give a host"),
        ({"vpnEndpoint": "https://vpn"}, "vpnEndpoint is 'https://vpn': give a host"),
        ({"uuid": "x"}, "uuid is not 32 or 62 hexadecimal digits"),
        ({"balenaRootCA": "no base64"}, "balenaRootCA is not base64 of a PEM certificate"),
        ({"balenaRootCA": "AAAA"}, "balenaRootCA is not base64 of a PEM certificate"),
    ],
)
def test_values_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(hook.SettingError) as raised:
        hook.files_of(REGISTERED | change)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "x" * 300])
def test_a_bad_key_is_not_quoted(key: str) -> None:
    with pytest.raises(hook.SettingError) as raised:
        hook.files_of(REGISTERED | {"deviceApiKey": key})
    assert str(raised.value) == "deviceApiKey is no key: remove it and uuid to register anew"


class Device:
    """The hook as gantry-config runs it, with a systemctl that writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run" / "vpn"
        self._config, self._asked = folder / "config.json", folder / "asked"
        (folder / "bin").mkdir()
        systemctl = folder / "bin" / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >> {self._asked}\n')
        systemctl.chmod(0o755)
        self._path = f"{systemctl.parent}:{os.environ['PATH']}"

    def apply(self, config: dict[str, Any], booted: str = "1") -> tuple[int, str, str, list[str]]:
        """Exit status, standard output and error, and what systemctl was asked."""
        self._config.write_text(json.dumps(config))
        self._asked.write_text("")
        done = subprocess.run(
            [sys.executable, HOOK],
            env={
                "PATH": self._path,
                "GANTRY_BOOTED": booted,
                "GANTRY_CONFIG": str(self._config),
                "GANTRY_VARIANT": "production",
                "GANTRY_VPN_FOLDER": str(self.folder),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        asked = self._asked.read_text().splitlines()
        return done.returncode, done.stdout, done.stderr, asked


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_the_unit_is_touched_only_when_something_changed(device: Device) -> None:
    on = (0, "vpn: connects to vpn.devbots.gantry.internal\n", "")
    assert device.apply({}) == (0, "", "", [])
    assert device.apply(REGISTERED) == (*on, ["restart --no-block gantry-vpn.service"])
    assert device.apply(REGISTERED) == (0, "", "", [])
    assert device.apply(REGISTERED | {"unknown": 1}) == (0, "", "", [])
    changed = REGISTERED | {"deviceApiKey": "another"}
    # The wait after a refusal is over.
    (device.folder / "pause").write_text("300 5\n")
    assert device.apply(REGISTERED | {"unknown": 1}) == (0, "", "", [])
    assert (device.folder / "pause").exists()
    assert device.apply(changed) == (*on, ["restart --no-block gantry-vpn.service"])
    assert not (device.folder / "pause").exists()
    off = "vpn: off, because the device is not registered yet\n"
    gone = REGISTERED | {"uuid": None}
    assert device.apply(gone) == (0, off, "", ["stop --no-block gantry-vpn.service"])
    assert device.apply(gone) == (0, "", "", [])
    assert list(device.folder.iterdir()) == []


def test_files_are_their_owners_alone(device: Device) -> None:
    device.apply(REGISTERED)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in device.folder.iterdir()}
    assert modes == {"auth": 0o600, "ca.crt": 0o600, "remote.conf": 0o600}
    assert stat.S_IMODE(device.folder.stat().st_mode) == 0o700


def test_a_bad_value_leaves_what_is(device: Device) -> None:
    device.apply(REGISTERED)
    status, said, wrong, asked = device.apply(REGISTERED | {"vpnPort": 70000})
    assert (status, said, asked) == (1, "", [])
    assert wrong == "vpn: vpnPort is 70000: give a number from 1 to 65535\n"
    assert (device.folder / "remote.conf").exists()


def test_another_authority_is_taken(device: Device) -> None:
    device.apply(REGISTERED)
    both = base64.b64encode(f"{PEM}{PEM}".encode()).decode()
    status, _, _, asked = device.apply(REGISTERED | {"balenaRootCA": both})
    assert (status, asked) == (0, ["restart --no-block gantry-vpn.service"])
    assert (device.folder / "ca.crt").read_text() == PEM * 2


def test_what_the_supervisor_has_off_is_said(device: Device) -> None:
    """The unit's own condition keeps it off: systemd starts nothing then."""
    mark = device.folder.parent / "off" / "vpn"
    mark.parent.mkdir(parents=True)
    mark.touch()
    said = "vpn: vpn.devbots.gantry.internal, once SUPERVISOR_VPN_CONTROL switches it on again\n"
    assert device.apply(REGISTERED)[:2] == (0, said)
    unit = HOOK.parents[1] / "templates" / "gantry-vpn.service.j2"
    assert "\nConditionPathExists=!/run/gantry/off/vpn\n" in unit.read_text()


def test_a_name_that_is_too_long_for_a_certificate_is_cut_as_there() -> None:
    name = "vpn." + "a" * 100 + ".example"
    files = hook.files_of(REGISTERED | {"vpnEndpoint": name})
    assert f"verify-x509-name {name[:64]} name\n" in files["remote.conf"]


def test_in_a_chroot_nothing_is_started(device: Device) -> None:
    assert device.apply(REGISTERED, booted="0")[3] == []
    assert device.apply({}, booted="0")[3] == []
