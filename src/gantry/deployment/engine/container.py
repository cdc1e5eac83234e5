"""From the properties of a pulumi_docker Container to the body of `POST /containers/create`.

It knows the properties that the program uses; every other one is refused by name.
"""

import io
import re
import tarfile
import time
from dataclasses import dataclass
from typing import Any

from gantry.deployment.engine.docker import labels
from gantry.deployment.engine.values import EngineError, Properties

MEBIBYTE = 2**20
GO_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
RESTARTS = ("no", "on-failure", "always", "unless-stopped")

# Input property to its name in the API's Config.
CONFIG = {
    "hostname": "Hostname",
    "image": "Image",
    "stopTimeout": "StopTimeout",
    "user": "User",
}
# And in its HostConfig.
HOST = {
    "cgroupnsMode": "CgroupnsMode",
    "securityOpts": "SecurityOpt",
    "sysctls": "Sysctls",
    "tmpfs": "Tmpfs",
}
SIZES = {"memory": "Memory", "memorySwap": "MemorySwap"}
DURATIONS = {"interval": "Interval", "timeout": "Timeout", "startPeriod": "StartPeriod"}


@dataclass(frozen=True)
class Spec:
    """What makes a container, in the order in which it is used."""

    body: dict[str, Any]
    networks: tuple[tuple[str, dict[str, Any]], ...]
    files: bytes
    """A tar archive that is unpacked at / before the start; empty: none."""


def specify(inputs: Properties, name: str) -> Spec:
    """The API's view of a container. Pure.

    Raises:
        EngineError: a value that the provider would refuse, by property and value.
    """
    try:
        networks = tuple(
            (network["name"], _endpoint(network)) for network in inputs.get("networksAdvanced", [])
        )
        body = _config(inputs) | {"HostConfig": _host(inputs)}
        return Spec(body, networks, _files(inputs.get("uploads", [])))
    except EngineError as error:
        raise EngineError(f"container {name}: {error}") from error
    except KeyError as error:
        raise EngineError(f"container {name}: a block lacks its property {error}") from error


def _endpoint(network: Properties) -> dict[str, Any]:
    # As the provider says them: `docker inspect` tells empty from null.
    return {"Aliases": network.get("aliases", []), "IPAMConfig": {}, "DriverOpts": {}}


def _config(inputs: Properties) -> dict[str, Any]:
    config = {api: inputs[key] for key, api in CONFIG.items() if inputs.get(key)}
    if ports := inputs.get("ports"):
        config["ExposedPorts"] = {_port(port): {} for port in ports}
    if volumes := inputs.get("volumes"):
        config["Volumes"] = {volume["containerPath"]: {} for volume in volumes}
    config["Labels"] = labels(inputs)
    if health := inputs.get("healthcheck"):
        durations = {api: nanoseconds(health.get(key, "0s")) for key, api in DURATIONS.items()}
        whole = {"Test": health["tests"], "Retries": health.get("retries", 0)} | durations
        config["Healthcheck"] = {key: value for key, value in whole.items() if value}
    return config


def _host(inputs: Properties) -> dict[str, Any]:
    if inputs["restart"] not in RESTARTS:
        raise EngineError(f"restart is {inputs['restart']!r}, not one of {', '.join(RESTARTS)}")
    host: dict[str, Any] = {
        "RestartPolicy": {"Name": inputs["restart"], "MaximumRetryCount": 0},
        "LogConfig": {"Type": inputs.get("logDriver", ""), "Config": inputs.get("logOpts")},
        "NetworkMode": inputs["networkMode"],
        "Init": False,
    }
    host |= {api: inputs[key] for key, api in HOST.items() if inputs.get(key)}
    for key, api in SIZES.items():
        if size := inputs.get(key):
            # -1 is no limit.
            host[api] = size * MEBIBYTE if size > 0 else size
    if capabilities := inputs.get("capabilities"):
        host["CapAdd"] = [_capability(name) for name in capabilities.get("adds", [])] or None
        host["CapDrop"] = [_capability(name) for name in capabilities.get("drops", [])] or None
    if devices := inputs.get("devices"):
        host["Devices"] = [_device(device) for device in devices]
    if volumes := inputs.get("volumes"):
        host["Binds"] = [_bind(volume) for volume in volumes]
    for port in inputs.get("ports", []):
        binding = {"HostIp": port.get("ip", "0.0.0.0"), "HostPort": str(port.get("external", 0))}  # noqa: S104
        host.setdefault("PortBindings", {}).setdefault(_port(port), []).append(binding)
    return host


def _port(port: Properties) -> str:
    return f"{port['internal']}/{port.get('protocol', 'tcp')}"


def _capability(name: str) -> str:
    """The provider writes names out, whichever form they were given in."""
    long = name.upper()
    return long if long == "ALL" or long.startswith("CAP_") else f"CAP_{long}"


def _device(device: Properties) -> dict[str, str]:
    return {
        "PathOnHost": device["hostPath"],
        "PathInContainer": device.get("containerPath") or device["hostPath"],
        "CgroupPermissions": device.get("permissions") or "rwm",
    }


def _bind(volume: Properties) -> str:
    source = volume.get("hostPath") or volume.get("volumeName")
    if not source:
        raise EngineError(f"volume at {volume['containerPath']} needs hostPath or volumeName")
    return f"{source}:{volume['containerPath']}:rw"


def _files(uploads: list[Properties]) -> bytes:
    if not uploads:
        return b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for upload in uploads:
            file, permissions = upload["file"], upload.get("permissions", "0644")
            if not re.fullmatch(r"0[0-7]{3}", permissions):
                given = f"permissions of {file} are {permissions!r}"
                raise EngineError(f"{given}: write them as four digits, 0644")
            # The provider takes empty content for none.
            if not upload.get("content"):
                raise EngineError(f"upload {file} has no content")
            content = upload["content"].encode()
            entry = tarfile.TarInfo(file.lstrip("/"))
            entry.size, entry.mtime = len(content), int(time.time())
            entry.mode = int(permissions, 8)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def nanoseconds(text: str) -> int:
    """A Go duration such as `1m30s` or `500ms`.

    Raises:
        EngineError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if text != "0" and (not parts or "".join(a + b for a, b in parts) != text):
        raise EngineError(f"{text!r} is no duration: write it as 10s or 1m30s")
    return round(sum(float(number) * GO_UNITS[unit] for number, unit in parts))
