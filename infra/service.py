"""The conventions that every container of a fleet follows, in one place.

No root, no capability but those named, no new privileges, a memory limit, bounded logs, a health
check that `up` waits for, and a restart by the engine whenever it stops. Configuration enters by
`uploads`: in no image layer, in no environment (docs/decisions/0002-configuration-by-uploads.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker

from config import StackConfig
from gantry.deployment import volumes
from gantry.deployment.resources.image import Image

FOLDER = "/etc/gantry"
# Root's, and readable by all: in a container there is one user, and it must not alter the file.
FILE_MODE = "0444"
PYTHON_USER = "10001:10001"
WAIT_SECONDS = 180
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}


@dataclass(frozen=True, slots=True)
class Label:
    """A Docker label."""

    label: str
    value: str


def fleet_labels(fleet: str) -> list[Label]:
    """What all objects of a fleet are found by."""
    return [Label("gantry.fleet", fleet)]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network that a container is on, and the names that it has there."""

    network: docker.Network
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Powers:
    """What a container may do beyond an ordinary process. Nothing, by default."""

    capabilities: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ("no-new-privileges:true",)
    cgroup_namespace: str | None = None
    binds: tuple[tuple[str, str], ...] = ()
    # Of the host's, at the same place in the container: to read and write, not to make.
    devices: tuple[str, ...] = ()
    # Of the container's own network, by their names.
    sysctls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spec:
    """How one service runs. `probe` is a command; `data` the folder that its volume is mounted at.

    `memory` is in MiB. `probe_seconds` is the time between two health checks, `stop_seconds` what
    it may take to end before it is killed, `wait_seconds` what `up` gives it to become healthy.
    """

    name: str
    user: str
    memory: int
    probe: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    data: str | None = None
    # Volumes of other services, and where they are mounted.
    shared: tuple[tuple[docker.Volume, str], ...] = ()
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    # Container port to host port.
    ports: Mapping[int, int] = field(default_factory=dict)
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    powers: Powers = Powers()
    probe_seconds: int = 5
    stop_seconds: int = 30
    wait_seconds: int = WAIT_SECONDS


def http_probe(url: str) -> tuple[str, ...]:
    """A health check that asks for a page. Curl, because it starts ten times faster than Python."""
    return ("CMD", "curl", "--fail", "--silent", "--output", "/dev/null", "--max-time", "4", url)


class Service(pulumi.ComponentResource):
    """A service of a fleet: its image, its volume if it keeps data, and its container.

    One of several alike is given the image that they share.
    """

    def __init__(
        self,
        config: StackConfig,
        spec: Spec,
        opts: pulumi.ResourceOptions | None = None,
        *,
        image: Image | None = None,
    ) -> None:
        kind = type(self).__name__
        super().__init__(f"gantry:fleet:{kind}", f"{config.fleet}-{spec.name}", None, opts)
        self.image = image or Image(spec.name, spec.name, pulumi.ResourceOptions(parent=self))
        self.volume = self._volume(config.fleet, spec) if spec.data else None
        self.container = self._container(config, spec)
        self.register_outputs({"image": self.image.tag})

    def _volume(self, fleet: str, spec: Spec) -> docker.Volume:
        return data_volume(fleet, spec.name, pulumi.ResourceOptions(parent=self))

    def _container(self, config: StackConfig, spec: Spec) -> docker.Container:
        volumes = [
            docker.ContainerVolumeArgs(host_path=host, container_path=path)
            for host, path in spec.powers.binds
        ]
        if self.volume:
            volumes.append(
                docker.ContainerVolumeArgs(volume_name=self.volume.name, container_path=spec.data)
            )
        volumes += [
            docker.ContainerVolumeArgs(volume_name=each.name, container_path=path)
            for each, path in spec.shared
        ]
        return docker.Container(
            spec.name,
            name=f"gantry-{config.fleet}-{spec.name}",
            hostname=spec.name,
            image=self.image.tag,
            user=spec.user,
            capabilities=docker.ContainerCapabilitiesArgs(
                adds=[f"CAP_{each}" for each in spec.powers.capabilities], drops=["ALL"]
            ),
            security_opts=list(spec.powers.security_options),
            cgroupns_mode=spec.powers.cgroup_namespace,
            devices=_devices(spec.powers.devices) or None,
            sysctls=dict(spec.powers.sysctls) or None,
            memory=spec.memory,
            memory_swap=spec.memory,
            restart="unless-stopped",
            log_driver="json-file",
            log_opts=LOG_OPTIONS,
            networks_advanced=_networks(spec.attachments),
            ports=_ports(config, spec.ports),
            volumes=volumes,
            tmpfs=dict(spec.tmpfs) or None,
            uploads=_uploads(spec.files),
            labels=[
                docker.ContainerLabelArgs(label=each.label, value=each.value)
                for each in [*fleet_labels(config.fleet), Label("gantry.service", spec.name)]
            ],
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=list(spec.probe),
                interval=f"{spec.probe_seconds}s",
                timeout="5s",
                start_period="1m0s",
                retries=6,
            ),
            destroy_grace_seconds=spec.stop_seconds,
            stop_timeout=spec.stop_seconds,
            must_run=True,
            wait=True,
            wait_timeout=spec.wait_seconds,
            opts=pulumi.ResourceOptions(
                parent=self,
                # Names are fixed: the old one must go before the new one is made.
                delete_before_replace=True,
                additional_secret_outputs=["uploads"],
            ),
        )


def data_volume(fleet: str, name: str, opts: pulumi.ResourceOptions) -> docker.Volume:
    """A volume that `destroy` leaves in place, and that the next `up` finds by its name."""
    keep = pulumi.ResourceOptions(retain_on_delete=True)
    return docker.Volume(
        f"{name}-data",
        name=volumes.data_volume(fleet, name),
        labels=[
            docker.VolumeLabelArgs(label=each.label, value=each.value)
            for each in fleet_labels(fleet)
        ],
        opts=pulumi.ResourceOptions.merge(opts, keep),
    )


def _networks(
    attachments: Sequence[Attachment],
) -> list[docker.ContainerNetworksAdvancedArgs]:
    return [
        docker.ContainerNetworksAdvancedArgs(name=each.network.name, aliases=list(each.aliases))
        for each in attachments
    ]


def _devices(paths: Sequence[str]) -> list[docker.ContainerDeviceArgs]:
    return [
        docker.ContainerDeviceArgs(host_path=path, container_path=path, permissions="rw")
        for path in paths
    ]


def _ports(config: StackConfig, ports: Mapping[int, int]) -> list[docker.ContainerPortArgs]:
    return [
        docker.ContainerPortArgs(
            internal=inside, external=outside, ip=str(config.bind_address), protocol="tcp"
        )
        for inside, outside in ports.items()
    ]


def _uploads(files: Mapping[str, pulumi.Input[str]]) -> list[docker.ContainerUploadArgs]:
    return [
        docker.ContainerUploadArgs(file=f"{FOLDER}/{name}", content=content, permissions=FILE_MODE)
        for name, content in files.items()
    ]
