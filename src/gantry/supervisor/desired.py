"""From the target state to what must be in the engine: networks, volumes, containers. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gantry.supervisor import container, wire
from gantry.supervisor.compose import CompositionError
from gantry.supervisor.container import Connection
from gantry.supervisor.environment import DeviceFacts, ServiceFacts
from gantry.supervisor.strategy import Strategy
from gantry.supervisor.target import TargetApp, TargetRelease, TargetService, TargetState


class Label:
    """Labels of what the supervisor makes in the engine."""

    SUPERVISED = "io.balena.supervised"
    APP_ID = "io.balena.app-id"
    APP_UUID = "io.balena.app-uuid"
    SERVICE_ID = "io.balena.service-id"
    SERVICE_NAME = "io.balena.service-name"
    INSTANCE = "io.gantry.instance"
    RELEASE = "io.gantry.release"
    CONFIG_HASH = "io.gantry.config-hash"
    # For the end of a container whose release nobody knows any more: services, with spaces between.
    DEPENDS_ON = "io.gantry.depends-on"
    RESTART = "io.gantry.restart"


class Condition(StrEnum):
    """What a dependency must be before its dependents start."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True)
class Dependency:
    """An entry of `depends_on`."""

    service: str
    condition: Condition = Condition.STARTED


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


@dataclass(frozen=True, slots=True)
class DesiredService:
    """A container to be there; `body` is that of the engine's `POST /containers/create`."""

    app_id: int
    service: str
    service_id: int
    image_id: int
    release_id: int
    commit: str
    image: str
    config_hash: str
    body: Mapping[str, Any]
    connections: tuple[Connection, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    running: bool = True
    # Ids of containers that are not this service's any more, whatever they look like: somebody at
    # the device asked for new ones.
    outdated: frozenset[str] = frozenset()
    strategy: Strategy = Strategy.DOWNLOAD_THEN_KILL
    handover_seconds: float = 60.0

    @property
    def container_name(self) -> str:
        """The family's name, and the configuration's hash so that old and new can be side by side.
        The release is read back from it, since labels of a container cannot be changed."""
        parts = (self.service, self.image_id, self.release_id, self.commit, self.config_hash[:8])
        return "_".join(str(part) for part in parts)

    @property
    def restarts(self) -> str:
        """The restart policy as docker-compose.yml has it, such as `on-failure:3`."""
        return str(self.body["Labels"][Label.RESTART])

    @property
    def stop_seconds(self) -> int | None:
        """How long it may take to stop; None is the engine's default."""
        seconds: int | None = self.body.get("StopTimeout")
        return seconds


@dataclass(frozen=True, slots=True)
class DesiredApp:
    """An application of the device, as it must be."""

    uuid: str
    id: int
    name: str
    commit: str | None
    services: tuple[DesiredService, ...] = ()
    networks: tuple[DesiredNetwork, ...] = ()
    volumes: tuple[DesiredVolume, ...] = ()
    # Names of volumes to be removed, content and all, before they are made anew.
    purge: frozenset[str] = frozenset()
    # What of the release is not understood and left out, for its developer.
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """An application whose release cannot be run here: what runs is left as it is."""

    uuid: str
    id: int
    commit: str
    reason: str


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All that must be in the engine."""

    apps: tuple[DesiredApp, ...] = ()
    rejections: tuple[Rejection, ...] = ()


def desired_state(target: TargetState, device: DeviceFacts) -> DesiredState:
    """What the engine must hold so that the device is at its target."""
    apps: list[DesiredApp] = []
    rejections: list[Rejection] = []
    for app in target.apps:
        try:
            apps.append(_app(app, device))
        except (CompositionError, wire.WireError) as error:
            commit = app.release.commit if app.release else ""
            rejections.append(Rejection(app.uuid, app.id, commit, str(error)))
    return DesiredState(tuple(apps), tuple(rejections))


def _app(app: TargetApp, device: DeviceFacts) -> DesiredApp:
    release = app.release
    if release is None:
        return DesiredApp(app.uuid, app.id, app.name, None)
    services = []
    notices: list[str] = []
    defined: set[str] = set()
    volume_names: set[str] = {f"{app.id}_{name}" for name in release.volumes}
    for service in release.services:
        legacy = len(release.services) == 1 and container.is_legacy(service)
        try:
            one, wanted = _service(app, release, service, legacy, device)
        except (CompositionError, wire.WireError) as error:
            raise CompositionError(f"service {service.name}: {error}") from error
        services.append(one)
        notices += [f"service {service.name}: {each}" for each in wanted.notices]
        volume_names |= set(wanted.volumes)
        defined |= set(wanted.networks)
    return DesiredApp(
        uuid=app.uuid,
        id=app.id,
        name=app.name,
        commit=release.commit,
        services=_without_cycles(tuple(services)),
        networks=tuple(_network(app, release, name, device) for name in sorted(defined)),
        volumes=tuple(_volume(app, release, name, device) for name in sorted(volume_names)),
        notices=tuple(notices),
    )


def _service(
    app: TargetApp,
    release: TargetRelease,
    service: TargetService,
    legacy: bool,
    device: DeviceFacts,
) -> tuple[DesiredService, container.Wanted]:
    facts = ServiceFacts(app.id, app.uuid, app.name, release.commit, service.name)
    wanted = container.container(service, facts, device, legacy)
    config_hash = wanted.config_hash()
    depends_on = _dependencies(service, {each.name for each in release.services})
    labels = {
        Label.SUPERVISED: "",
        Label.APP_ID: str(app.id),
        Label.APP_UUID: app.uuid,
        Label.SERVICE_ID: str(service.id),
        Label.SERVICE_NAME: service.name,
        Label.INSTANCE: device.instance,
        Label.RELEASE: release.commit,
        Label.CONFIG_HASH: config_hash,
        Label.DEPENDS_ON: " ".join(each.service for each in depends_on),
        Label.RESTART: wanted.restarts,
    }
    body = {**wanted.body, "Labels": {**wanted.body["Labels"], **labels}}
    desired = DesiredService(
        app_id=app.id,
        service=service.name,
        service_id=service.id,
        image_id=service.image_id,
        release_id=release.id,
        commit=release.commit,
        image=service.image,
        config_hash=config_hash,
        body=body,
        connections=wanted.connections,
        depends_on=depends_on,
        running=service.running,
        strategy=wanted.strategy,
        handover_seconds=wanted.handover_seconds,
    )
    return desired, wanted


def _dependencies(service: TargetService, known: set[str]) -> tuple[Dependency, ...]:
    value = service.composition.get("depends_on")
    if isinstance(value, Mapping):
        named = {name: wire.mapping(each, "depends_on") for name, each in value.items()}
    else:
        named = {str(name): {} for name in value or []}
    found = []
    for name, each in named.items():
        condition = each.get("condition", Condition.STARTED)
        if condition not in tuple(Condition):
            raise CompositionError(f"depends_on: {name}: condition {condition!r} is not known")
        if name in known:
            found.append(Dependency(name, Condition(condition)))
    return tuple(found)


def _without_cycles(services: tuple[DesiredService, ...]) -> tuple[DesiredService, ...]:
    """Services in the order of their dependencies. A circle would wait for ever: who closes one
    loses that dependency."""
    by_name = {each.service: each for each in services}
    done: dict[str, DesiredService] = {}

    def visit(service: DesiredService, path: frozenset[str]) -> None:
        if service.service in done:
            return
        path |= {service.service}
        open_ = tuple(each for each in service.depends_on if each.service not in path)
        for each in open_:
            visit(by_name[each.service], path)
        if open_ != service.depends_on:
            service = replace(service, depends_on=open_)
        done.setdefault(service.service, service)

    for each in services:
        visit(each, frozenset())
    return tuple(done.values())


def _owner_labels(app: TargetApp, device: DeviceFacts) -> dict[str, str]:
    return {
        Label.SUPERVISED: "",
        Label.APP_ID: str(app.id),
        Label.APP_UUID: app.uuid,
        Label.INSTANCE: device.instance,
    }


_POOL_FIELDS = (("subnet", "Subnet"), ("ip_range", "IPRange"), ("gateway", "Gateway"))


def _network(
    app: TargetApp, release: TargetRelease, name: str, device: DeviceFacts
) -> DesiredNetwork:
    short = name.removeprefix(f"{app.id}_")
    document = wire.mapping(release.networks.get(short), f"network {short}")
    ipam = wire.mapping(document.get("ipam"), f"network {short}: ipam")
    pools = [
        {
            key: wire.scalar(pool[field])
            for field, key in (
                ("subnet", "Subnet"),
                ("ip_range", "IPRange"),
                ("gateway", "Gateway"),
            )
            if pool.get(field)
        }
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
    config_hash = _hash(body)
    user = wire.texts(document.get("labels"), f"network {short}: labels")
    body["Labels"] = {**user, **_owner_labels(app, device), Label.CONFIG_HASH: config_hash}
    return DesiredNetwork(name, app.id, config_hash, body)


def _volume(
    app: TargetApp, release: TargetRelease, name: str, device: DeviceFacts
) -> DesiredVolume:
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


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(wire.canonical(body).encode()).hexdigest()[:32]
