"""From the target state to what must be in the engine: networks, volumes, containers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gantry.supervisor import compose, container, ground, requirements, wire
from gantry.supervisor.compose import CompositionError
from gantry.supervisor.container import Connection
from gantry.supervisor.environment import DeviceFacts, ServiceFacts
from gantry.supervisor.ground import DesiredNetwork as DesiredNetwork
from gantry.supervisor.ground import DesiredVolume as DesiredVolume
from gantry.supervisor.labels import Label as Label
from gantry.supervisor.strategy import Strategy
from gantry.supervisor.target import TargetApp, TargetRelease, TargetService, TargetState


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
    def boot(self) -> str | None:
        """This boot of the host, where a container that is made in it starts after another one
        only; None where it may start at once."""
        found: str | None = self.body["Labels"].get(Label.BOOT)
        return found

    def at_once(self) -> "DesiredService":
        """The same, and its container may start at once."""
        labels = {name: each for name, each in self.body["Labels"].items() if name != Label.BOOT}
        return replace(self, body={**self.body, "Labels": labels})

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
    if target.is_local:
        device = replace(device, boot="")  # what a developer tries restarts no host
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
    offered = requirements.offered(device)
    notices: list[str] = []
    defined: set[str] = set()
    volume_names: set[str] = {f"{app.id}_{name}" for name in release.volumes}
    for service in release.services:
        labels = container.labels_of(service)
        lacking = _lacking(service, labels, offered)
        if lacking and requirements.is_optional(labels):
            notices.append(f"service {service.name} is left out: {'; '.join(lacking)}")
            continue
        if lacking:
            raise CompositionError(f"service {service.name}: {'; '.join(lacking)}")
        legacy = len(release.services) == 1 and container.is_legacy(service)
        try:
            one, wanted = _service(app, release, service, legacy, device)
        except (CompositionError, ValueError, OverflowError) as error:
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
        services=_without_cycles(_joined_networks(_existing_only(services))),
        networks=tuple(ground.network(app, release, name, device) for name in sorted(defined)),
        volumes=tuple(ground.volume(app, release, name, device) for name in sorted(volume_names)),
        notices=tuple(notices),
    )


def _lacking(
    service: TargetService, labels: Mapping[str, str], offered: Mapping[str, requirements.Offer]
) -> tuple[str, ...]:
    try:
        return requirements.unmet(labels, service.contract, offered)
    except wire.WireError as error:
        raise CompositionError(f"service {service.name}: {error}") from error


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
    if wanted.requires_reboot and device.boot:
        labels[Label.BOOT] = device.boot
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
        named = {name: {} for name in compose.texts(value, "depends_on")}
    found = []
    for name, each in named.items():
        condition = each.get("condition", Condition.STARTED)
        if condition not in tuple(Condition):
            raise CompositionError(f"depends_on: {name}: condition {condition!r} is not known")
        if name in known:
            found.append(Dependency(name, Condition(condition)))
    return tuple(found)


def _existing_only(services: list[DesiredService]) -> tuple[DesiredService, ...]:
    """Nobody waits for a service that is left out."""
    names = {each.service for each in services}
    return tuple(
        replace(each, depends_on=tuple(it for it in each.depends_on if it.service in names))
        for each in services
    )


def _joined_networks(services: tuple[DesiredService, ...]) -> tuple[DesiredService, ...]:
    """`network_mode: service:x` as the engine has it: the network of x's container. Who has no
    network of its own starts after the other, and is made anew whenever that is."""
    by_name = {each.service: each for each in services}
    return tuple(_joined(each, by_name) for each in services)


def _joined(service: DesiredService, by_name: Mapping[str, DesiredService]) -> DesiredService:
    host_config = service.body["HostConfig"]
    name = str(host_config["NetworkMode"]).removeprefix("service:")
    if name == host_config["NetworkMode"]:
        return service
    other = by_name.get(name)
    if other is None or str(other.body["HostConfig"]["NetworkMode"]).startswith("service:"):
        raise CompositionError(
            f"service {service.service}: network_mode is 'service:{name}': there is no service "
            f"{name} with a network of its own"
        )
    config_hash = ground.digest({"own": service.config_hash, "network": other.config_hash})
    depends_on = service.depends_on
    if name not in {each.service for each in depends_on}:
        depends_on += (Dependency(name),)
    labels = {
        **service.body["Labels"],
        Label.CONFIG_HASH: config_hash,
        Label.DEPENDS_ON: " ".join(each.service for each in depends_on),
    }
    joined = {**host_config, "NetworkMode": f"container:{other.container_name}"}
    body = {**service.body, "HostConfig": joined, "Labels": labels}
    return replace(service, body=body, config_hash=config_hash, depends_on=depends_on)


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
