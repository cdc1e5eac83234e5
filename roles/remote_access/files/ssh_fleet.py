#!/usr/bin/python3
"""Hook: what the program that asks the fleet about users' keys needs to know of config.json.

sshd runs that program (ssh-fleet-keys) as a user of its own, who cannot read the boot partition:
what it needs is copied for it alone. Without an api and a key of the device there is no copy, and
nobody may log in through the tunnel.
"""

import base64
import binascii
import grp
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("GANTRY_SSH_FLEET", "/run/gantry/ssh-fleet"))
GROUP = os.environ.get("GANTRY_SSH_FLEET_GROUP", "gantry-keys")
API = re.compile(r"https://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,39}\])(:[0-9]{1,5})?")
UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{62}")
# What goes into a header of HTTP, and is no line of its own.
KEY = re.compile(r"[\x21-\x7e]{1,256}")


class SettingError(ValueError):
    """A key of config.json has a value that cannot be used. Never says a secret's value."""


def files_of(config: Mapping[str, Any], variant: str) -> dict[str, str]:
    """The files that the program reads, by name; none where there is nobody to ask.

    Raises:
        SettingError: a value that cannot be used.
    """
    names = ("apiEndpoint", "uuid", "deviceApiKey")
    if variant == "standalone" or not all(config.get(name) for name in names):
        return {}
    api, uuid, key = (str(config[name]).rstrip("/") for name in names)
    if not API.fullmatch(api):
        raise SettingError(f"apiEndpoint is {api[:100]!r}: give https:// and a host")
    if not UUID.fullmatch(uuid):
        raise SettingError("uuid is not 32 or 62 hexadecimal digits: remove it to get a new one")
    if not KEY.fullmatch(key):
        raise SettingError("deviceApiKey is no key: remove it and uuid to register anew")
    files = {"settings.json": json.dumps({"api": api, "uuid": uuid, "key": key}) + "\n"}
    if config.get("balenaRootCA"):
        files["ca.crt"] = authority_of(config["balenaRootCA"])
    return files


def authority_of(value: object) -> str:
    """The PEM text of balenaRootCA.

    Raises:
        SettingError: no base64 of a certificate.
    """
    try:
        text = base64.b64decode(str(value), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SettingError("balenaRootCA is not base64 of a PEM certificate: write it anew")
    return text


def put(files: Mapping[str, str]) -> bool:
    """Have exactly these files, root's and readable by the program's group; whether any changed.

    Raises:
        OSError: they cannot be written, or there is no such group.
    """
    old = {each.name: each.read_text() for each in FOLDER.iterdir()} if FOLDER.is_dir() else {}
    if files == old:
        return False
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError as error:
        raise OSError(f"there is no group {GROUP}: apply the role remote_access") from error
    FOLDER.mkdir(mode=0o750, parents=True, exist_ok=True)
    shutil.chown(FOLDER, group=group)
    FOLDER.chmod(0o750)
    for name in old.keys() - files.keys():
        (FOLDER / name).unlink()
    for name, text in files.items():
        if text != old.get(name):
            _write(FOLDER / name, text, group)
    return True


def _write(path: Path, text: str, group: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, 0o640)
    os.replace(temporary, path)


def main() -> int:
    """1 if something is wrong."""
    try:
        config = json.loads(Path(os.environ["GANTRY_CONFIG"]).read_text(encoding="utf-8"))
        files = files_of(config, os.environ.get("GANTRY_VARIANT", ""))
        if put(files):
            asked = "is asked about users' keys" if files else "is not asked about users' keys"
            print(f"ssh: the fleet {asked} through the tunnel")
    except (SettingError, OSError) as error:
        print(f"ssh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
