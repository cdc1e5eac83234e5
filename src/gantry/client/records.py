"""What the api tells, as the commands use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: int
    username: str
    email: str | None


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An SSH key of one's account."""

    id: int
    title: str
    fingerprint: str
    created_at: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key for programs or devices, without its secret; `owner` is whom it acts for."""

    id: int
    name: str
    role: str
    owner: str
    created_at: str
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class Application:
    """A fleet of devices that run the same releases. `slug` is `<user>/<name>`."""

    id: int
    name: str
    slug: str
    uuid: str
    device_type: str
    devices: int
    devices_online: int
    commit: str | None


@dataclass(frozen=True, slots=True)
class Device:
    """A device; `commit` is what it runs, `target_commit` what it should run, `update_status` how
    far it is with that (`rejected`: it went back to what it ran before). `vpn_since`: since when it
    is connected to the VPN, or is not; None: it never was. `is_web_accessible`: it has a public
    URL."""

    id: int
    name: str
    uuid: str
    application: str
    device_type: str
    is_online: bool
    status: str
    progress: int | None
    commit: str | None
    target_commit: str | None
    ip_address: str | None
    os_version: str | None
    supervisor_version: str | None
    last_seen: str | None
    tags: Mapping[str, str]
    update_status: str | None = None
    is_vpn_connected: bool = False
    vpn_since: str | None = None
    is_web_accessible: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """One build. Times are ISO 8601, UTC. `removed_at`: since when it has no images any more."""

    id: int
    application: str
    commit: str
    status: str
    version: str
    is_target: bool
    created_at: str
    ended_at: str | None
    error: str | None
    removed_at: str | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable; `device` is None when it is of the whole application."""

    id: int
    name: str
    value: str
    application: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Where the fleet's parts are. `tunnel`: `host:port` of the way to devices; None: the fleet has
    no VPN. `devices`: the name under which devices have their public URLs. `deltas`: the delta
    server's URL; empty: the fleet has none."""

    fleet: str
    host: str
    git_port: int
    api_url: str
    builder_url: str
    logs_url: str
    registry: str
    tunnel: str | None = None
    devices: str = ""
    deltas: str = ""


@dataclass(frozen=True, slots=True)
class Supervisors:
    """The version that a device runs, and the one that it is to run; None: whichever it has."""

    device: str
    runs: str | None
    wanted: str | None


def first(rows: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The one row of an expanded reference; empty when it refers to nothing."""
    return rows[0] if rows else {}


def application(row: dict[str, Any]) -> Application:
    """From a row of `application` with its expansions."""
    devices = row["owns__device"]
    return Application(
        id=row["id"],
        name=row["app_name"],
        slug=row["slug"],
        uuid=row["uuid"],
        device_type=first(row["is_for__device_type"]).get("slug", ""),
        devices=len(devices),
        devices_online=sum(bool(each["is_online"]) for each in devices),
        commit=first(row["should_be_running__release"]).get("commit"),
    )


def device(row: dict[str, Any]) -> Device:
    """From a row of `device` with its expansions."""
    return Device(
        id=row["id"],
        name=row["device_name"],
        uuid=row["uuid"],
        application=first(row["belongs_to__application"]).get("slug", ""),
        device_type=first(row["is_of__device_type"]).get("slug", ""),
        is_online=bool(row["is_online"]),
        status=row["overall_status"] or "",
        progress=row["overall_progress"],
        commit=first(row["is_running__release"]).get("commit"),
        target_commit=first(row["should_be_running__release"]).get("commit"),
        ip_address=row["ip_address"],
        os_version=row["os_version"],
        supervisor_version=row["supervisor_version"],
        last_seen=row["last_connectivity_event"],
        tags={each["tag_key"]: each["value"] for each in row["device_tag"]},
        update_status=row["update_status"],
        is_vpn_connected=bool(row["is_connected_to_vpn"]),
        vpn_since=row["last_vpn_event"],
        is_web_accessible=bool(row["is_web_accessible"]),
    )


def release(row: dict[str, Any]) -> Release:
    """From a row of `release` with its expansions."""
    owner = first(row["belongs_to__application"])
    target = owner.get("should_be_running__release")
    return Release(
        id=row["id"],
        application=owner.get("slug", ""),
        commit=row["commit"],
        status=row["status"],
        version=row["raw_version"],
        is_target=isinstance(target, dict) and target.get("__id") == row["id"],
        created_at=row["created_at"],
        ended_at=row["end_timestamp"],
        error=row["error_message"],
        removed_at=row["images_removed_timestamp"],
    )


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """That somebody changed a row, and what was set."""

    at: str
    who: str
    action: str
    resource: str
    row: int
    name: str | None
    changes: dict[str, Any]
