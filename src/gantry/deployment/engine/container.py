"""From the properties of a pulumi_docker Container to the body of `POST /containers/create`."""

import base64
import binascii
import grp
import io
import pwd
import re
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gantry.deployment.engine.values import EngineError, Properties

MEBIBYTE = 2**20
GO_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
GO_UNITS["h"] = 3600 * 10**9
RESTARTS = ("no", "on-failure", "always", "unless-stopped")

UPDATABLE = frozenset(
    ["restart", "maxRetryCount", "cpuShares", "memory", "memoryReservation", "memorySwap", "cpuSet"]
)
"""Changed in a running container by `POST /containers/{id}/update`."""

RUNTIME_ONLY = frozenset(
    {"attach", "containerReadRefreshTimeoutMilliseconds", "destroyGraceSeconds", "logs", "mustRun"}
    | {"removeVolumes", "rm", "start", "wait", "waitTimeout"}
)
"""What only the engine looks at."""

# Input property to (section, API name, whether its zero value is sent too).
_PLAIN: dict[str, tuple[str, str]] = {
    "hostname": ("Config", "Hostname"),
    "domainname": ("Config", "Domainname"),
    "tty": ("Config", "Tty"),
    "stdinOpen": ("Config", "OpenStdin"),
    "stopSignal": ("Config", "StopSignal"),
    "stopTimeout": ("Config", "StopTimeout"),
    "envs": ("Config", "Env"),
    "command": ("Config", "Cmd"),
    "entrypoints": ("Config", "Entrypoint"),
    "user": ("Config", "User"),
    "workingDir": ("Config", "WorkingDir"),
    "image": ("Config", "Image"),
    "privileged": ("HostConfig", "Privileged"),
    "publishAllPorts": ("HostConfig", "PublishAllPorts"),
    "runtime": ("HostConfig", "Runtime"),
    "rm": ("HostConfig", "AutoRemove"),
    "readOnly": ("HostConfig", "ReadonlyRootfs"),
    "tmpfs": ("HostConfig", "Tmpfs"),
    "dns": ("HostConfig", "Dns"),
    "dnsOpts": ("HostConfig", "DnsOptions"),
    "dnsSearches": ("HostConfig", "DnsSearch"),
    "cpuShares": ("HostConfig", "CpuShares"),
    "cpuPeriod": ("HostConfig", "CpuPeriod"),
    "cpuQuota": ("HostConfig", "CpuQuota"),
    "cpuSet": ("HostConfig", "CpusetCpus"),
    "networkMode": ("HostConfig", "NetworkMode"),
    "usernsMode": ("HostConfig", "UsernsMode"),
    "pidMode": ("HostConfig", "PidMode"),
    "ipcMode": ("HostConfig", "IpcMode"),
    "sysctls": ("HostConfig", "Sysctls"),
    "groupAdds": ("HostConfig", "GroupAdd"),
    "cgroupnsMode": ("HostConfig", "CgroupnsMode"),
    "cgroupParent": ("HostConfig", "CgroupParent"),
    "storageOpts": ("HostConfig", "StorageOpt"),
    "deviceCgroupRules": ("HostConfig", "DeviceCgroupRules"),
}
_MEBIBYTES = {
    "memory": "Memory",
    "memoryReservation": "MemoryReservation",
    "memorySwap": "MemorySwap",
    "shmSize": "ShmSize",
}
_SPECIAL = frozenset(
    {"capabilities", "cpus", "devices", "healthcheck", "hosts", "init", "labels", "logDriver"}
    | {"logOpts", "maxRetryCount", "mounts", "name", "networksAdvanced", "platform", "ports"}
    | {"restart", "securityOpts", "ulimits", "uploads", "volumes"}
)


@dataclass(frozen=True)
class Spec:
    """What makes a container, in the order in which it is used."""

    body: dict[str, Any]
    networks: tuple[tuple[str, dict[str, Any]], ...]
    files: bytes
    """A tar archive that is unpacked at / before the start; empty: none."""

    allowed: ClassVar[frozenset[str]] = (
        frozenset(_PLAIN) | set(_MEBIBYTES) | _SPECIAL | RUNTIME_ONLY
    )
    defaults: ClassVar[Properties] = {
        "attach": False,
        "logs": False,
        "mustRun": True,
        "networkMode": "bridge",
        "readOnly": False,
        "removeVolumes": True,
        "restart": "no",
        "rm": False,
        "start": True,
        "stdinOpen": False,
        "tty": False,
        "wait": False,
        "waitTimeout": 60,
    }


def specify(inputs: Properties, name: str) -> Spec:
    """The API's view of a container. Pure, but for uploads that name a `source` file.

    Raises:
        EngineError: a value that the provider would refuse, by property and value.
    """
    try:
        sections: dict[str, dict[str, Any]] = {"Config": {}, "HostConfig": _host(inputs)}
        for property_, (section, api) in _PLAIN.items():
            if inputs.get(property_):
                sections[section][api] = inputs[property_]
        if "" in inputs.get("command", []):
            raise EngineError("command has an empty word")
        config = sections["Config"] | _config(inputs)
        networks = tuple(
            (net["name"], _endpoint(net)) for net in inputs.get("networksAdvanced", [])
        )
        return Spec(config | {"HostConfig": sections["HostConfig"]}, networks, _files(inputs))
    except EngineError as error:
        raise EngineError(f"container {name}: {error}") from error
    except KeyError as error:
        raise EngineError(f"container {name}: a block lacks its property {error}") from error


def _config(inputs: Properties) -> dict[str, Any]:
    config: dict[str, Any] = {}
    ports = [f"{p['internal']}/{p.get('protocol', 'tcp')}" for p in inputs.get("ports", [])]
    if ports:
        config["ExposedPorts"] = {port: {} for port in ports}
    if inputs.get("labels"):
        config["Labels"] = {entry["label"]: entry["value"] for entry in inputs["labels"]}
    if inputs.get("volumes"):
        paths = [v["containerPath"] for v in inputs["volumes"] if v.get("containerPath")]
        config["Volumes"] = {path: {} for path in paths}
    if health := inputs.get("healthcheck"):
        durations = {
            api: nanoseconds(health.get(key, "0s"))
            for key, api in (
                ("interval", "Interval"),
                ("timeout", "Timeout"),
                ("startPeriod", "StartPeriod"),
                ("startInterval", "StartInterval"),
            )
        }
        whole = {"Test": health.get("tests", []), **durations, "Retries": health.get("retries", 0)}
        config["Healthcheck"] = {key: value for key, value in whole.items() if value}
    return config


def _host(inputs: Properties) -> dict[str, Any]:
    if inputs["restart"] not in RESTARTS:
        raise EngineError(f"restart is {inputs['restart']!r}, not one of {', '.join(RESTARTS)}")
    host: dict[str, Any] = {
        "RestartPolicy": {
            "Name": inputs["restart"],
            "MaximumRetryCount": inputs.get("maxRetryCount", 0),
        },
        "LogConfig": {"Type": inputs.get("logDriver", ""), "Config": inputs.get("logOpts")},
        "Init": inputs.get("init", False),
    }
    for property_, api in _MEBIBYTES.items():
        if size := inputs.get(property_):
            host[api] = size * MEBIBYTE if size > 0 else size
    if inputs.get("cpus"):
        host["NanoCpus"] = round(float(inputs["cpus"]) * 10**9)
    if capabilities := inputs.get("capabilities"):
        host["CapAdd"] = [_capability(name) for name in capabilities.get("adds", [])] or None
        host["CapDrop"] = [_capability(name) for name in capabilities.get("drops", [])] or None
    if options := inputs.get("securityOpts"):
        host["SecurityOpt"] = [option for option in options if option != "systempaths=unconfined"]
        if "systempaths=unconfined" in options:
            host |= {"MaskedPaths": [], "ReadonlyPaths": []}
    if inputs.get("devices"):
        host["Devices"] = [
            {
                "PathOnHost": device["hostPath"],
                "PathInContainer": device.get("containerPath") or device["hostPath"],
                "CgroupPermissions": device.get("permissions", "rwm"),
            }
            for device in inputs["devices"]
        ]
    if inputs.get("hosts"):
        host["ExtraHosts"] = [f"{entry['host']}:{entry['ip']}" for entry in inputs["hosts"]]
    if inputs.get("ulimits"):
        host["Ulimits"] = [
            {"Name": limit["name"], "Soft": limit["soft"], "Hard": limit["hard"]}
            for limit in inputs["ulimits"]
        ]
    if inputs.get("mounts"):
        host["Mounts"] = [_mount(mount) for mount in inputs["mounts"]]
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in inputs.get("ports", []):
        binding = {"HostIp": port.get("ip", "0.0.0.0"), "HostPort": str(port.get("external", 0))}  # noqa: S104
        bindings.setdefault(f"{port['internal']}/{port.get('protocol', 'tcp')}", []).append(binding)
    if bindings:
        host["PortBindings"] = bindings
    return host | _volumes(inputs)


def _capability(name: str) -> str:
    """The provider writes names out, whichever form they were given in."""
    long = name.upper()
    return long if long == "ALL" or long.startswith("CAP_") else f"CAP_{long}"


def _volumes(inputs: Properties) -> dict[str, Any]:
    binds, sources = [], []
    for volume in inputs.get("volumes", []):
        source, path = volume.get("fromContainer"), volume.get("containerPath")
        if bool(source) == bool(path):
            raise EngineError(
                f"a volume needs containerPath or fromContainer, one of them: {volume}"
            )
        if source:
            sources.append(source)
        elif named := volume.get("hostPath") or volume.get("volumeName"):
            relabel = f",{volume['selinuxRelabel']}" if volume.get("selinuxRelabel") else ""
            binds.append(f"{named}:{path}:{'ro' if volume.get('readOnly') else 'rw'}{relabel}")
    found = {"Binds": binds, "VolumesFrom": sources}
    return {key: value for key, value in found.items() if value}


def _mount(mount: Properties) -> dict[str, Any]:
    if mount["type"] not in ("bind", "volume", "tmpfs"):
        raise EngineError(f"mount type is {mount['type']!r}, not one of bind, volume, tmpfs")
    made: dict[str, Any] = {
        "Type": mount["type"],
        "Target": mount["target"],
        "Source": mount.get("source", ""),
        "ReadOnly": mount.get("readOnly", False),
    }
    if mount["type"] == "bind" and (bind := mount.get("bindOptions")):
        made["BindOptions"] = {"Propagation": bind.get("propagation", "")}
    if mount["type"] == "volume" and (volume := mount.get("volumeOptions")):
        made["VolumeOptions"] = {
            "NoCopy": volume.get("noCopy", False),
            "Labels": {entry["label"]: entry["value"] for entry in volume.get("labels", [])},
            "DriverConfig": {
                "Name": volume.get("driverName", ""),
                "Options": volume.get("driverOptions", {}),
            },
        }
    if mount["type"] == "tmpfs" and (tmpfs := mount.get("tmpfsOptions")):
        made["TmpfsOptions"] = {
            "SizeBytes": tmpfs.get("sizeBytes", 0),
            "Mode": tmpfs.get("mode", 0),
        }
    return made


def _endpoint(network: Properties) -> dict[str, Any]:
    driver_options = dict(entry.split("=", 1) for entry in network.get("driverOpts", []))
    endpoint = {
        "Aliases": network.get("aliases", []),
        "IPAMConfig": {
            "IPv4Address": network.get("ipv4Address", ""),
            "IPv6Address": network.get("ipv6Address", ""),
            "LinkLocalIPs": network.get("linkLocalIps", []),
        },
        "MacAddress": network.get("macAddress", ""),
        "DriverOpts": driver_options,
    }
    if network.get("gwPriority"):
        endpoint["GwPriority"] = network["gwPriority"]
    return endpoint


def _files(inputs: Properties) -> bytes:
    uploads = inputs.get("uploads", [])
    if not uploads:
        return b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for upload in uploads:
            content = _content(upload)
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size, entry.mtime = len(content), int(time.time())
            entry.mode = 0o744 if upload.get("executable") else 0o644
            if permissions := upload.get("permissions"):
                if not re.fullmatch(r"0[0-7]{3}", permissions):
                    raise EngineError(
                        f"permissions of {upload['file']} are {permissions!r}: four digits, as 0644"
                    )
                entry.mode = int(permissions, 8)
            entry.uid = _number(upload.get("owner"), lambda name: pwd.getpwnam(name).pw_uid)
            entry.gid = _number(upload.get("group"), lambda name: grp.getgrnam(name).gr_gid)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _content(upload: Properties) -> bytes:
    given = [key for key in ("content", "contentBase64", "source") if upload.get(key)]
    if len(given) != 1:
        raise EngineError(
            f"upload {upload['file']} needs one of content, contentBase64, source; has "
            f"{' and '.join(given) or 'none'}"
        )
    value = upload[given[0]]
    try:
        if given[0] == "content":
            return bytes(value.encode())
        if given[0] == "contentBase64":
            return base64.b64decode(value, validate=True)
        return Path(value).read_bytes()
    except (OSError, binascii.Error) as error:
        raise EngineError(f"{given[0]} of upload {upload['file']}: {error}") from error


def _number(given: str | None, look_up: Any) -> int:
    if not given or given.isdigit():
        return int(given or 0)
    try:
        return int(look_up(given))
    except KeyError as error:
        raise EngineError(f"upload owner or group {given!r} is not known on this host") from error


def nanoseconds(text: str) -> int:
    """A Go duration such as `1m30s` or `500ms`.

    Raises:
        EngineError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if text != "0" and (not parts or "".join(a + b for a, b in parts) != text):
        raise EngineError(f"{text!r} is no duration: write it as 10s or 1m30s")
    return round(sum(float(number) * GO_UNITS[unit] for number, unit in parts))
