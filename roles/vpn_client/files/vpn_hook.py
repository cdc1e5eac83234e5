#!/usr/bin/python3
"""Hook of gantry-config: the tunnel to the fleet, as config.json says.

It is on when config.json has a server (`vpnEndpoint`, `vpnPort`) and the device is registered:
the api knows it by `uuid` under `deviceApiKey`. A standalone device has no tunnel.
"""

import base64
import binascii
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("GANTRY_VPN_FOLDER", "/run/gantry/vpn"))
# Of the supervisor's door: SUPERVISOR_VPN_CONTROL is false. The unit has it as a condition.
SWITCHED_OFF = FOLDER.parent / "off" / "vpn"
UNIT = "gantry-vpn.service"
DEFAULT_PORT = 443
# Of a certificate's common name, in characters (RFC 5280: ub-common-name).
COMMON_NAME = 64
PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# A name, or an address of either kind.
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")
UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{62}")
# What OpenVPN takes as a password, and no line of its own.
KEY = re.compile(r"[\x21-\x7e]{1,256}")


class SettingError(ValueError):
    """A key of config.json has a value that cannot be used. Never says a secret's value."""


def is_registered(config: Mapping[str, Any]) -> bool:
    """Whether the api knows the device under its own key, as the supervisor decides it."""
    known = config.get("registered_at") or config.get("deviceId") or not config.get("apiKey")
    return bool(config.get("uuid") and config.get("deviceApiKey") and known)


def reason_for_off(config: Mapping[str, Any], variant: str) -> str:
    """Why there is to be no tunnel; '' if there is to be one."""
    if variant == "standalone":
        return "the device is standalone"
    if not config.get("vpnEndpoint"):
        return "config.json names no vpnEndpoint"
    if not is_registered(config):
        return "the device is not registered yet"
    return ""


def port_of(value: object) -> int:
    """The server's port, a number or its digits.

    Raises:
        SettingError: no port.
    """
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal():
        raise SettingError(f"vpnPort is {value!r}: give a number")
    if not 0 < int(text) < 65536:
        raise SettingError(f"vpnPort is {text}: give a number from 1 to 65535")
    return int(text)


def authority_of(value: object) -> str:
    """The PEM text of balenaRootCA; '' where there is none.

    Raises:
        SettingError: no base64 of a certificate.
    """
    if not value:
        return ""
    try:
        text = base64.b64decode(str(value), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SettingError("balenaRootCA is not base64 of a PEM certificate: write it anew")
    return text


def files_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The files that OpenVPN reads, by name.

    Raises:
        SettingError: a value that cannot be used.
    """
    host = str(config["vpnEndpoint"])
    if not HOST.fullmatch(host):
        raise SettingError(f"vpnEndpoint is {host[:100]!r}: give a host name or an address")
    given = config.get("vpnPort")
    port = DEFAULT_PORT if given in (None, "") else port_of(given)
    if not UUID.fullmatch(str(config["uuid"])):
        raise SettingError("uuid is not 32 or 62 hexadecimal digits: remove it to get a new one")
    if not KEY.fullmatch(str(config["deviceApiKey"])):
        raise SettingError("deviceApiKey is no key: remove it and uuid to register anew")
    authority = authority_of(config.get("balenaRootCA"))
    trusted = "ca.crt" if authority else PUBLIC_AUTHORITIES
    return {
        "auth": f"{config['uuid']}\n{config['deviceApiKey']}\n",
        "ca.crt": authority,
        # By name: other servers have certificates of the same authority, or of a public one.
        "remote.conf": f"remote {host} {port}\nca {trusted}\n"
        f"verify-x509-name {host[:COMMON_NAME]} name\n",
    }


def write(path: Path, text: str) -> bool:
    """Bring a file about, readable by root only; whether that changed anything."""
    if path.exists() and path.read_text() == text:
        return False
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return True


def switch_on(files: Mapping[str, str]) -> bool:
    """Write what the unit reads; whether anything changed. Its condition comes last."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    FOLDER.chmod(0o700)
    changed = [write(FOLDER / name, files[name]) for name in ("auth", "ca.crt", "remote.conf")]
    if any(changed):
        # What vpn-pause waits for is over: the new settings are tried at once.
        (FOLDER / "pause").unlink(missing_ok=True)
    return any(changed)


def switch_off() -> bool:
    """Remove what the unit reads; whether there was any."""
    paths = [FOLDER / name for name in ("remote.conf", "auth", "ca.crt", "pause", "retry.conf")]
    there = [each for each in paths if each.exists()]
    for each in there:
        each.unlink()
    return bool(there)


def systemctl(verb: str) -> None:
    """Ask systemd; not waiting, because at boot the unit comes after the one that runs this.

    Raises:
        subprocess.CalledProcessError: it refuses.
    """
    if os.environ.get("GANTRY_BOOTED") == "1":
        subprocess.run(["systemctl", verb, "--no-block", UNIT], check=True)


def main() -> int:
    """Bring about what config.json says, and say what changed."""
    try:
        config = json.loads(Path(os.environ["GANTRY_CONFIG"]).read_text(encoding="utf-8"))
        reason = reason_for_off(config, os.environ.get("GANTRY_VARIANT", ""))
        if reason:
            if switch_off():
                systemctl("stop")
                print(f"vpn: off, because {reason}")
            return 0
        files = files_of(config)
        if switch_on(files):
            systemctl("restart")
            server = files["remote.conf"].split()[1]
            if SWITCHED_OFF.exists():
                print(f"vpn: {server}, once SUPERVISOR_VPN_CONTROL switches it on again")
            else:
                print(f"vpn: connects to {server}")
    except SettingError as error:
        print(f"vpn: {error}", file=sys.stderr)
        return 1
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"vpn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
