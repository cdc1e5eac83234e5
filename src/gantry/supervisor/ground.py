"""Networks and volumes of an application, as bodies for the engine. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.labels import Label
from gantry.supervisor.target import TargetApp, TargetRelease


@dataclass(frozen=True, slots=True)
class DesiredNetwork:
    """A network to be there; `body` is that of the engine's `POST /networks/create`."""

    name: str
    app_id: int
    config_hash: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DesiredVolume:
    """A volume to be there; `body` is that of the engine's `POST /volumes/create`."""

    name: str
    body: Mapping[str, Any]


def _owner_labels(app: TargetApp, device: DeviceFacts) -> dict[str, str]:
    return {
        Label.SUPERVISED: "",
        Label.APP_ID: str(app.id),
        Label.APP_UUID: app.uuid,
        Label.INSTANCE: device.instance,
    }


_POOL_FIELDS = (("subnet", "Subnet"), ("ip_range", "IPRange"), ("gateway", "Gateway"))


def network(
    app: TargetApp, release: TargetRelease, name: str, device: DeviceFacts
) -> DesiredNetwork:
    """The network that the engine knows by this name."""
    short = name.removeprefix(f"{app.id}_")
    document = wire.mapping(release.networks.get(short), f"network {short}")
    ipam = wire.mapping(document.get("ipam"), f"network {short}: ipam")
    pools = [
        {key: wire.scalar(pool[field]) for field, key in _POOL_FIELDS if pool.get(field)}
        for pool in ipam.get("config") or []
    ]
    body: dict[str, Any] = {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": wire.scalar(document.get("driver")) or "bridge",
        "Internal": wire.flag(document.get("internal")),
        "EnableIPv6": wire.flag(document.get("enable_ipv6")),
        "Options": wire.texts(document.get("driver_opts"), "driver_opts"),
    }
    if pools:
        body["IPAM"] = {"Driver": wire.scalar(ipam.get("driver")) or "default", "Config": pools}
    config_hash = digest(body)
    user = wire.texts(document.get("labels"), f"network {short}: labels")
    body["Labels"] = {**user, **_owner_labels(app, device), Label.CONFIG_HASH: config_hash}
    return DesiredNetwork(name, app.id, config_hash, body)


def volume(app: TargetApp, release: TargetRelease, name: str, device: DeviceFacts) -> DesiredVolume:
    """The volume that the engine knows by this name."""
    short = name.removeprefix(f"{app.id}_")
    document = wire.mapping(release.volumes.get(short), f"volume {short}")
    body = {
        "Name": name,
        "Driver": wire.scalar(document.get("driver")) or "local",
        "DriverOpts": wire.texts(document.get("driver_opts"), "driver_opts"),
        "Labels": {
            **wire.texts(document.get("labels"), f"volume {short}: labels"),
            **_owner_labels(app, device),
        },
    }
    return DesiredVolume(name, body)


def digest(body: Mapping[str, Any]) -> str:
    """Equal for equal bodies."""
    return hashlib.sha256(wire.canonical(body).encode()).hexdigest()[:32]
