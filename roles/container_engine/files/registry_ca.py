#!/usr/bin/python3
"""Let the engine trust the fleet's certificate authority: config.json's `balenaRootCA`.

A hook of gantry-config. It writes /etc/docker/certs.d/<registry>/ca.crt, and takes away the one
that it wrote for an earlier fleet. Authorities that others put there stay.
"""

import base64
import binascii
import contextlib
import json
import os
import re
import ssl
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CERTIFICATES = Path(os.environ.get("GANTRY_CERTIFICATES", "/etc/docker/certs.d"))
# The registry whose file is ours.
RECORD = ".gantry"
REGISTRY = re.compile(r"([a-z0-9_][a-z0-9_.-]*|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.IGNORECASE)


class HookError(Exception):
    """A key of config.json cannot be used; the message says which and why."""


def registry_of(config: Mapping[str, Any]) -> str | None:
    """Host and port of the fleet's registry: named, else beside the api; None without a fleet.

    Raises:
        HookError: it is no host with a port.
    """
    key = "registryEndpoint" if config.get("registryEndpoint") else "apiEndpoint"
    value = str(config.get(key) or "")
    if not value:
        return None
    registry = urlsplit(value if "://" in value else f"https://{value}").netloc
    if registry and key == "apiEndpoint":
        registry = f"registry.{registry.removeprefix('api.')}"
    if not REGISTRY.fullmatch(registry):
        raise HookError(f"{key} has no host name in it: write it as https://host:port")
    return registry


def authority(encoded: str) -> bytes:
    """The PEM file that `balenaRootCA` holds; nothing without one.

    Raises:
        HookError: it is not base64, or no certificate.
    """
    if not encoded:
        return b""
    try:
        pem = base64.b64decode(encoded)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise HookError(
            "balenaRootCA is not base64 of a certificate in PEM form: take it from the fleet's "
            "config.json"
        ) from error
    return pem


def write(path: Path, content: bytes) -> bool:
    """Write a file whole; whether it is another than before."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def forget(folder: Path, registry: str) -> None:
    """Take away what was written for an earlier registry."""
    (folder / registry / "ca.crt").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others' certificates are in it
        (folder / registry).rmdir()


def apply(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Have exactly the fleet's authority; what was done, in words.

    Raises:
        HookError: a key cannot be used. Nothing is changed then.
    """
    encoded = str(config.get("balenaRootCA") or "")
    registry = registry_of(config) if encoded else None
    pem = authority(encoded)
    record = folder / RECORD
    ours = record.read_text().split() if record.exists() else []
    done = []
    if registry:
        # First the record: a file that is not in it would stay for ever.
        if registry not in ours:
            write(record, "".join(f"{each}\n" for each in (*ours, registry)).encode())
        if write(folder / registry / "ca.crt", pem):
            done.append(f"the engine trusts the fleet's authority for {registry}")
    earlier = [each for each in ours if each != registry and REGISTRY.fullmatch(each)]
    for each in earlier:
        forget(folder, each)
        done.append(f"the engine no longer trusts the authority of {each}")
    if earlier:
        write(record, f"{registry}\n".encode() if registry else b"")
    return done


def main() -> int:
    """Read the settings that gantry-config gives; 1 when a key is bad."""
    config = json.loads(Path(os.environ["GANTRY_CONFIG"]).read_text())
    try:
        for line in apply(config, CERTIFICATES):
            print(line)
    except HookError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
