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
from gantry.supervisor.features import Feature, feature_binds, wanted_features
from gantry.supervisor.strategy import REQUIRES_REBOOT, Strategy, read_strategy
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


# Fields of docker-compose.yml that are read, here or elsewhere, or have no meaning on a device.
_KNOWN = frozenset(
    """
    build cap_add cap_drop cgroup_parent command cpu_quota cpu_shares cpus cpuset depends_on
    device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint environment expose
    extra_hosts group_add healthcheck hostname image init ipc labels logging mac_address mem_limit
    mem_reservation mem_swappiness memswap_limit network_mode networks oom_kill_disable
    oom_score_adj pid pids_limit platform ports privileged profiles pull_policy read_only restart
    running runtime security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt
    sysctls tmpfs tty ulimits user userns_mode volumes working_dir
    """.split()  # noqa: SIM905 (one to a line, it would be three times as long)
)


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
    requires_reboot: bool = False
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


def labels_of(service: TargetService) -> dict[str, str]:
    """The labels that a service's developer has given it."""
    return {**wire.texts(service.composition.get("labels"), "labels"), **service.labels}


def container(
    service: TargetService, facts: ServiceFacts, device: DeviceFacts, legacy: bool
) -> Wanted:
    """The container of a service.

    Raises:
        CompositionError: a field has a value that cannot be run here.
    """
    fields = _LEGACY_COMPOSITION if legacy else service.composition
    labels = {**(_LEGACY_LABELS if legacy else {}), **labels_of(service)}
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
    if Feature.EXTRA_FIRMWARE in features:
        volume_names.append(f"{facts.app_id}_extra-firmware")
        binds.append(f"{facts.app_id}_extra-firmware:/extra-firmware")
    host_config = {**_host_config(fields), "Binds": binds, "NetworkMode": mode or first}
    if Feature.GPU in features:
        host_config["DeviceRequests"] = [{"Driver": "", "Count": 1, "Capabilities": [["gpu"]]}]
    body = _process(fields) | {
        "Image": service.image,
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Labels": labels,
        "HostConfig": host_config,
    }
    if mode in (None, "none"):
        exposed, bindings = compose.ports(fields.get("ports"))
        body["ExposedPorts"] = exposed | compose.exposed_ports(fields.get("expose"))
        host_config["PortBindings"] = bindings
    if first is not None:
        body["NetworkingConfig"] = {"EndpointsConfig": {first: endpoints[first]}}
    strategy, handover_seconds, notices = read_strategy(labels)
    notices += tuple(
        f"field {name!r:.80} of docker-compose.yml is not known here and left out"
        for name in sorted(fields.keys() - _KNOWN)
        if not name.startswith("x-")
    )
    return Wanted(
        body=body,
        connections=tuple(
            Connection(name, settings) for name, settings in endpoints.items() if name != first
        ),
        networks=tuple(endpoints),
        volumes=tuple(volume_names),
        strategy=strategy,
        handover_seconds=handover_seconds,
        requires_reboot=wire.flag(labels.get(REQUIRES_REBOOT)),
        notices=notices,
    )


def _network_mode(fields: Mapping[str, Any]) -> str | None:
    """`host`, `none`, `service:` and another's name, or None when the service has networks."""
    mode = wire.scalar(fields.get("network_mode"))
    if mode in ("", "bridge", "default"):
        return None
    if mode in ("host", "none") or (mode.startswith("service:") and mode != "service:"):
        return mode
    raise CompositionError(
        f"network_mode is {mode!r}: use host, none, service:<its name> or networks"
    )


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
        ("mac_address", "MacAddress"),
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
    if fields.get("device_cgroup_rules"):
        rules = compose.texts(fields["device_cgroup_rules"], "device_cgroup_rules")
        body["DeviceCgroupRules"] = rules
    for field, key in (("privileged", "Privileged"), ("read_only", "ReadonlyRootfs")):
        body[key] = wire.flag(fields.get(field))
    for field, key in (("init", "Init"), ("oom_kill_disable", "OomKillDisable")):
        if fields.get(field) is not None:
            body[key] = wire.flag(fields[field])
    for field, key in (
        ("shm_size", "ShmSize"),
        ("mem_limit", "Memory"),
        ("mem_reservation", "MemoryReservation"),
        ("memswap_limit", "MemorySwap"),
    ):
        if fields.get(field) is not None:
            body[key] = compose.size(fields[field], field)
    for field, key in (
        ("cpu_shares", "CpuShares"),
        ("cpu_quota", "CpuQuota"),
        ("pids_limit", "PidsLimit"),
        ("oom_score_adj", "OomScoreAdj"),
        ("mem_swappiness", "MemorySwappiness"),
    ):
        if fields.get(field) is not None:
            body[key] = wire.number(fields[field], field)
    if fields.get("cpus") is not None:
        body["NanoCpus"] = compose.processors(fields["cpus"])
    for field, key in (
        ("pid", "PidMode"),
        ("ipc", "IpcMode"),
        ("cpuset", "CpusetCpus"),
        ("cgroup_parent", "CgroupParent"),
        ("userns_mode", "UsernsMode"),
        ("runtime", "Runtime"),
    ):
        if fields.get(field) is not None:
            body[key] = compose.mode(fields[field], field)
    for field, key in (("sysctls", "Sysctls"), ("storage_opt", "StorageOpt")):
        if fields.get(field):
            body[key] = wire.texts(fields[field], field)
    return body
