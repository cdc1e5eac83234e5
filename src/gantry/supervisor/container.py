"""A service's composition as the body of the engine's `POST /containers/create`. Pure.

Fields of the body: https://docs.docker.com/reference/api/engine/version/v1.41/ (ContainerCreate).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import compose, wire
from gantry.supervisor.compose import CompositionError
from gantry.supervisor.environment import (
    VOLATILE,
    DeviceFacts,
    ServiceFacts,
    service_environment,
)
from gantry.supervisor.features import feature_binds, wanted_features
from gantry.supervisor.strategy import Strategy, read_strategy
from gantry.supervisor.target import TargetService

# What an application of one Dockerfile gets, as with the family: the whole machine.
_LEGACY_COMPOSITION: Mapping[str, Any] = {
    "privileged": True,
    "tty": True,
    "restart": "always",
    "network_mode": "host",
    "volumes": ["resin-data:/data"],
}
_LEGACY_LABELS: Mapping[str, str] = {
    f"io.balena.features.{name}": "1"
    for name in ("kernel-modules", "firmware", "dbus", "supervisor-api", "balena-api")
}


@dataclass(frozen=True, slots=True)
class Connection:
    """A network that a container is attached to after its creation; `settings` is an
    EndpointConfig. The engine takes only one at creation."""

    network: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container's body without the labels that say whose it is, and what must exist for it."""

    body: Mapping[str, Any]
    connections: tuple[Connection, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    strategy: Strategy = Strategy.DOWNLOAD_THEN_KILL
    handover_seconds: float = 60.0
    notices: tuple[str, ...] = ()

    @property
    def restarts(self) -> str:
        """The restart policy as docker-compose.yml has it, such as `on-failure:3`."""
        policy = self.body["HostConfig"]["RestartPolicy"]
        times = policy.get("MaximumRetryCount")
        return f"{policy['Name']}:{times}" if times else str(policy["Name"])

    def config_hash(self) -> str:
        """Equal for containers that would do the same; see VOLATILE for what does not count."""
        environment = [each for each in self.body["Env"] if each.partition("=")[0] not in VOLATILE]
        body = {**self.body, "Env": environment}
        connections = {each.network: each.settings for each in self.connections}
        document = wire.canonical({"body": body, "connections": connections})
        return hashlib.sha256(document.encode()).hexdigest()[:32]


def is_legacy(service: TargetService) -> bool:
    """Whether this is the one service `main` of an application without docker-compose.yml."""
    return service.name == "main" and not service.composition


def container(
    service: TargetService, facts: ServiceFacts, device: DeviceFacts, legacy: bool
) -> Wanted:
    """The container of a service.

    Raises:
        CompositionError: a field has a value that cannot be run here.
    """
    fields = _LEGACY_COMPOSITION if legacy else service.composition
    labels = {
        **(_LEGACY_LABELS if legacy else {}),
        **wire.texts(fields.get("labels"), "labels"),
        **service.labels,
    }
    features = wanted_features(labels)
    mode = _network_mode(fields)
    user = {**wire.texts(fields.get("environment"), "environment"), **service.environment}
    environment = service_environment(device, facts, user, features, mode == "host")
    endpoints = {} if mode else _endpoints(fields, service, facts.app_id)
    first = next(iter(endpoints), None)
    binds, volume_names = compose.volumes(fields.get("volumes"), facts.app_id)
    locks = f"{device.runtime_directory}/services/{facts.app_id}/{service.name}"
    binds += [f"{locks}:/tmp/resin", f"{locks}:/tmp/balena"]
    binds += feature_binds(features, device.docker_socket)
    host_config = {**_host_config(fields), "Binds": binds, "NetworkMode": mode or first}
    body = _process(fields) | {
        "Image": service.image,
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Labels": labels,
        "HostConfig": host_config,
    }
    if mode != "host":
        exposed, bindings = compose.ports(fields.get("ports"))
        body["ExposedPorts"] = exposed | compose.exposed_ports(fields.get("expose"))
        host_config["PortBindings"] = bindings
    if first is not None:
        body["NetworkingConfig"] = {"EndpointsConfig": {first: endpoints[first]}}
    strategy, handover_seconds, notices = read_strategy(labels)
    return Wanted(
        body=body,
        connections=tuple(
            Connection(name, settings) for name, settings in endpoints.items() if name != first
        ),
        networks=tuple(endpoints),
        volumes=tuple(volume_names),
        strategy=strategy,
        handover_seconds=handover_seconds,
        notices=notices,
    )


def _network_mode(fields: Mapping[str, Any]) -> str | None:
    """`host`, `none`, or None when the service has networks."""
    mode = wire.scalar(fields.get("network_mode"))
    if mode in ("", "bridge", "default"):
        return None
    if mode in ("host", "none"):
        return mode
    raise CompositionError(f"network_mode is {mode!r}: use host, none or networks")


def _endpoints(
    fields: Mapping[str, Any], service: TargetService, app_id: int
) -> dict[str, dict[str, Any]]:
    """EndpointsConfig by the engine's name of each network, in a fixed order."""
    value = fields.get("networks") or ["default"]
    if isinstance(value, Mapping):
        named = {name: wire.mapping(each, f"networks: {name}") for name, each in value.items()}
    else:
        named = {name: {} for name in compose.texts(value, "networks")}
    found = {}
    for name, each in sorted(named.items()):
        aliases = [service.name, *compose.texts(each.get("aliases"), "networks: aliases")]
        settings: dict[str, Any] = {"Aliases": sorted(set(aliases))}
        addresses = {
            key: wire.scalar(each[field])
            for field, key in (("ipv4_address", "IPv4Address"), ("ipv6_address", "IPv6Address"))
            if each.get(field)
        }
        if addresses:
            settings["IPAMConfig"] = addresses
        found[f"{app_id}_{name}"] = settings
    return found


def _process(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What concerns the process in the container; only what is said, so that the image's counts."""
    body: dict[str, Any] = {}
    for field, key in (("command", "Cmd"), ("entrypoint", "Entrypoint")):
        command = compose.command(fields.get(field), field)
        if command is not None:
            body[key] = command
    for field, key in (
        ("hostname", "Hostname"),
        ("domainname", "Domainname"),
        ("user", "User"),
        ("working_dir", "WorkingDir"),
        ("stop_signal", "StopSignal"),
    ):
        if fields.get(field) is not None:
            body[key] = wire.scalar(fields[field])
    for field, key in (("tty", "Tty"), ("stdin_open", "OpenStdin")):
        if fields.get(field) is not None:
            body[key] = wire.flag(fields[field])
    check = compose.healthcheck(fields.get("healthcheck"))
    if check is not None:
        body["Healthcheck"] = check
    if fields.get("stop_grace_period") is not None:
        grace = compose.seconds(fields["stop_grace_period"], "stop_grace_period")
        body["StopTimeout"] = max(1, round(grace))
    return body


def _host_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What concerns the host: rights, limits, names."""
    body: dict[str, Any] = {
        "RestartPolicy": compose.restart_policy(fields.get("restart")),
        "Tmpfs": compose.tmpfs(fields.get("tmpfs")) | compose.long_tmpfs(fields.get("volumes")),
        "Devices": compose.devices(fields.get("devices")),
        "Ulimits": compose.ulimits(fields.get("ulimits")),
        "ExtraHosts": compose.extra_hosts(fields.get("extra_hosts")),
    }
    for field, key in (
        ("cap_add", "CapAdd"),
        ("cap_drop", "CapDrop"),
        ("security_opt", "SecurityOpt"),
        ("dns", "Dns"),
        ("dns_opt", "DnsOptions"),
        ("dns_search", "DnsSearch"),
        ("group_add", "GroupAdd"),
    ):
        body[key] = compose.texts(fields.get(field), field)
    for field, key in (("privileged", "Privileged"), ("read_only", "ReadonlyRootfs")):
        body[key] = wire.flag(fields.get(field))
    if fields.get("init") is not None:
        body["Init"] = wire.flag(fields["init"])
    for field, key in (
        ("shm_size", "ShmSize"),
        ("mem_limit", "Memory"),
        ("mem_reservation", "MemoryReservation"),
    ):
        if fields.get(field) is not None:
            body[key] = compose.size(fields[field], field)
    for field, key in (
        ("cpu_shares", "CpuShares"),
        ("cpu_quota", "CpuQuota"),
        ("pids_limit", "PidsLimit"),
        ("oom_score_adj", "OomScoreAdj"),
    ):
        if fields.get(field) is not None:
            body[key] = wire.number(fields[field], field)
    for field, key in (("pid", "PidMode"), ("ipc", "IpcMode"), ("cpuset", "CpusetCpus")):
        if fields.get(field) is not None:
            body[key] = wire.scalar(fields[field])
    if fields.get("sysctls"):
        body["Sysctls"] = wire.texts(fields["sysctls"], "sysctls")
    return body
