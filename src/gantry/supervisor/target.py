"""The target state: what the api wants this device to run, read into types.

The form is the family's version 3 (`GET /device/v3/:uuid/state`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import wire


@dataclass(frozen=True, slots=True)
class TargetService:
    """One service of a release. `composition` is its part of docker-compose.yml, `contract` its
    contract.yml, unread."""

    name: str
    id: int
    image_id: int
    image: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    running: bool
    composition: Mapping[str, Any]
    contract: object = None


@dataclass(frozen=True, slots=True)
class TargetRelease:
    """A release: its services, and the volumes and networks that they name."""

    commit: str
    id: int
    services: tuple[TargetService, ...]
    volumes: Mapping[str, Any]
    networks: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TargetApp:
    """An application that the device is part of; without a release it has nothing to run yet."""

    uuid: str
    id: int
    name: str
    slug: str
    release: TargetRelease | None


@dataclass(frozen=True, slots=True)
class TargetSupervisor:
    """The supervisor that is to run: its version, for people, and its image, by digest."""

    version: str
    image: str


@dataclass(frozen=True, slots=True)
class TargetState:
    """What a device should be: its name, its configuration variables and its applications.

    `is_local`: the applications are a developer's, of local mode. `supervisor` is ours; the family
    has none, and where there is none any will do.
    """

    name: str
    config: Mapping[str, str]
    apps: tuple[TargetApp, ...]
    is_local: bool = False
    supervisor: TargetSupervisor | None = None


def read_target(document: Mapping[str, Any], uuid: str) -> TargetState:
    """The target of the device with this uuid.

    Raises:
        wire.WireError: the document is not a target state, or not this device's.
    """
    if uuid not in document:
        raise wire.WireError(f"the target state is not for this device, {uuid}")
    device = wire.mapping(document[uuid], "target")
    apps = wire.mapping(device.get("apps"), "target: apps")
    return TargetState(
        name=wire.scalar(device.get("name")),
        config=wire.texts(device.get("config"), "target: config"),
        apps=tuple(
            _app(app_uuid, wire.mapping(app, f"app {app_uuid}"))
            for app_uuid, app in sorted(apps.items())
            # The host's own application is an update of the OS, which is not carried out here.
            if not wire.flag(wire.mapping(app, f"app {app_uuid}").get("is_host"))
        ),
        supervisor=_supervisor(wire.mapping(device.get("supervisor"), "target: supervisor")),
    )


def _supervisor(document: Mapping[str, Any]) -> TargetSupervisor | None:
    if not document:
        return None
    return TargetSupervisor(
        version=wire.text(document.get("version"), "supervisor: version"),
        image=wire.text(document.get("image"), "supervisor: image"),
    )


def _app(uuid: str, app: Mapping[str, Any]) -> TargetApp:
    releases = wire.mapping(app.get("releases"), f"app {uuid}: releases")
    if len(releases) > 1:
        raise wire.WireError(f"app {uuid} has {len(releases)} releases: one is expected")
    release = next((_release(commit, each) for commit, each in releases.items()), None)
    name = wire.text(app.get("name"), f"app {uuid}: name")
    return TargetApp(
        uuid=uuid,
        id=wire.number(app.get("id"), f"app {uuid}: id"),
        name=name,
        slug=wire.scalar(app.get("slug")) or name,
        release=release,
    )


def _release(commit: str, document: object) -> TargetRelease:
    where = f"release {commit}"
    release = wire.mapping(document, where)
    services = wire.mapping(release.get("services"), f"{where}: services")
    return TargetRelease(
        commit=commit,
        id=wire.number(release.get("id"), f"{where}: id"),
        services=tuple(_service(name, each) for name, each in sorted(services.items())),
        volumes=wire.mapping(release.get("volumes"), f"{where}: volumes"),
        networks=wire.mapping(release.get("networks"), f"{where}: networks"),
    )


def _service(name: str, document: object) -> TargetService:
    where = f"service {name}"
    service = wire.mapping(document, where)
    return TargetService(
        name=name,
        id=wire.number(service.get("id"), f"{where}: id"),
        image_id=wire.number(service.get("image_id"), f"{where}: image_id"),
        image=wire.text(service.get("image"), f"{where}: image"),
        environment=wire.texts(service.get("environment"), f"{where}: environment"),
        labels=wire.texts(service.get("labels"), f"{where}: labels"),
        running=wire.flag(service.get("running"), default=True),
        composition=wire.mapping(service.get("composition"), f"{where}: composition"),
        contract=service.get("contract"),
    )
