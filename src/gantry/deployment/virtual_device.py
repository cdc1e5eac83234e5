"""Virtual devices: containers that stand in for a Pi, with systemd, an engine and the supervisor.

A device is one container and three volumes (boot, data and state partition). What it is made of is
planned by pure functions; this module carries it out, and is the one that knows the objects' names.
"""

import contextlib
import io
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from gantry.deployment.progress import Progress, step

NAME_LABEL = "gantry.device"
FLEET_LABEL = "gantry.fleet"
SOURCE_LABEL = "gantry.device.source"
# By name, for a privileged container is not to be had everywhere (docs/decisions).
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD")
SOURCE_IN_DEVICE = "/opt/gantry-source"
SSH_FILE = "authorized_keys"
SSH_PORT = 22222
# Some seconds on a machine that has nothing else to do.
BOOT_SECONDS = 180
STOP_SECONDS = 20
# It is the device's host name.
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,39}[a-z0-9])?")


class DeviceError(Exception):
    """A virtual device cannot be had; the message says why and what to do."""


class UnknownDeviceError(DeviceError):
    """No virtual device of this machine has that name."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Which supervisor a device runs.

    `local`: the operator's engine has the image, so the device gets it by file; else it pulls it.
    `source`: a checkout's `src/gantry`, mounted over the image's package.
    """

    image: str
    local: bool
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device to be: `config` is its config.json, `ssh_keys` who may log in as root."""

    name: str
    fleet: str
    config: Mapping[str, Any]
    supervisor: Supervisor
    ssh_keys: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device that is: Docker's word on its container, its uuid once the supervisor made one."""

    name: str
    fleet: str
    status: str
    health: str
    address: str
    uuid: str
    image: str


def container_name(name: str) -> str:
    """The container of device `name`."""
    return f"gantry-device-{name}"


def volume_names(name: str) -> tuple[str, str, str]:
    """The boot, the data and the state volume of device `name`."""
    boot, data, state = (f"gantry-device-{name}-{each}" for each in ("boot", "data", "state"))
    return boot, data, state


def network_name(fleet: str) -> str:
    """The network on which a fleet's public names resolve."""
    return f"gantry-{fleet}-edge"


def free_names(fleet: str, count: int, wanted: str | None, taken: Iterable[str]) -> list[str]:
    """Names for `count` devices: the wanted one, numbered if several; else `<fleet>-<n>`.

    A wanted name may be taken: such a device is started again.

    Raises:
        DeviceError: a name that is no host name.
    """
    if wanted and not NAME_PATTERN.fullmatch(wanted):
        raise DeviceError(f"{wanted!r} cannot be a device's name: use a-z, 0-9 and -, at most 41")
    if wanted:
        return [wanted] if count == 1 else [f"{wanted}-{number + 1}" for number in range(count)]
    names: list[str] = []
    number, used = 0, set(taken)
    while len(names) < count:
        number += 1
        if f"{fleet}-{number}" not in used:
            names.append(f"{fleet}-{number}")
    return names


def container_options(spec: DeviceSpec, image: str, cgroup_version: int) -> dict[str, Any]:
    """How docker-py makes the device's container.

    With cgroup v1, systemd needs the host's hierarchy; with v2 it has a name space of its own.
    """
    boot, data, state = volume_names(spec.name)
    volumes = {
        boot: {"bind": "/mnt/boot", "mode": "rw"},
        data: {"bind": "/mnt/data", "mode": "rw"},
        state: {"bind": "/mnt/state", "mode": "rw"},
    }
    if cgroup_version == 1:
        volumes["/sys/fs/cgroup"] = {"bind": "/sys/fs/cgroup", "mode": "rw"}
    labels = {NAME_LABEL: spec.name, FLEET_LABEL: spec.fleet}
    if spec.supervisor.source:
        source = str(spec.supervisor.source)
        volumes[source] = {"bind": SOURCE_IN_DEVICE, "mode": "ro"}
        labels[SOURCE_LABEL] = source
    return {
        "image": image,
        "name": container_name(spec.name),
        "hostname": spec.name,
        "labels": labels,
        "network": network_name(spec.fleet),
        "cap_add": list(CAPABILITIES),
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        # As on a Pi: what a privileged application may do ends at the device, not before it.
        "device_cgroup_rules": ["a *:* rwm"],
        "cgroupns": "host" if cgroup_version == 1 else "private",
        "tmpfs": {"/run": "", "/run/lock": "", "/tmp": ""},  # noqa: S108 - the container's own
        "volumes": volumes,
        # A reboot inside ends PID 1: the engine starts it again, as a Pi's firmware would.
        "restart_policy": {"Name": "unless-stopped"},
        "detach": True,
    }


def boot_files(spec: DeviceSpec, *, first: bool) -> dict[str, bytes]:
    """What the boot partition gets. Only at the `first` start a config.json: later ones are the
    device's, with its uuid and key."""
    supervisor = {
        "image": spec.supervisor.image,
        "source": SOURCE_IN_DEVICE if spec.supervisor.source else None,
        "environment": dict(spec.environment),
    }
    files = {"supervisor.json": json.dumps(supervisor, indent=2).encode()}
    if first:
        # One name for it here, at the api and in the network, unless its config.json has another.
        config = {"hostname": spec.name, "initialDeviceName": spec.name, **spec.config}
        files["config.json"] = json.dumps(config, indent=2).encode()
    if spec.ssh_keys:
        files[SSH_FILE] = spec.ssh_keys.encode()
    return files


def run(spec: DeviceSpec, image: str, client: docker.DockerClient, progress: Progress) -> None:
    """Start a device, from nothing or from the volumes that it left; waits until it has booted.

    Raises:
        DeviceError: the fleet is not up, the name is another fleet's, or it does not boot.
    """
    with step(f"virtual device {spec.name}", progress) as say:
        container = _find(client, spec.name)
        if container is None:
            container = _create(spec, image, client, say)
        elif container.labels.get(FLEET_LABEL) != spec.fleet:
            fleet = container.labels.get(FLEET_LABEL)
            raise DeviceError(f"device {spec.name} is of fleet {fleet}: choose another name")
        else:
            say(f"it is there already ({container.status})")
            if spec.ssh_keys:
                container.put_archive("/mnt/boot", tar_of({SSH_FILE: spec.ssh_keys.encode()}))
        container.start()
        _wait_for_boot(container)


def _create(
    spec: DeviceSpec, image: str, client: docker.DockerClient, progress: Progress
) -> Container:
    try:
        client.networks.get(network_name(spec.fleet))
    except NotFound as error:
        raise DeviceError(
            f"fleet {spec.fleet} is not up here (no network {network_name(spec.fleet)}): "
            f"`gantry up {spec.fleet}`"
        ) from error
    labels = {NAME_LABEL: spec.name, FLEET_LABEL: spec.fleet}
    volumes = volume_names(spec.name)
    first = not _volume_exists(client, volumes[0])
    for volume in volumes:
        client.volumes.create(volume, labels=labels)
    options = container_options(spec, image, cgroup_version(client))
    container = client.containers.create(**options)
    try:
        container.put_archive("/mnt/boot", tar_of(boot_files(spec, first=first)))
        if spec.supervisor.local:
            progress(f"copying {spec.supervisor.image} to it")
            _preload(container, spec.supervisor.image, client)
    except BaseException:
        # Half a device would look like one at the next run.
        container.remove(force=True)
        if first:
            _remove_volumes(client, spec.name)
        raise
    return container


def _preload(container: Container, image: str, client: docker.DockerClient) -> None:
    """Put an image's archive where the device's unit loads it from."""
    with tempfile.TemporaryFile() as saved, tempfile.TemporaryFile() as outer:
        for chunk in client.images.get(image).save(named=image):
            saved.write(chunk)
        member = tarfile.TarInfo("preload/supervisor.tar")
        member.size, member.mode = saved.tell(), 0o600
        saved.seek(0)
        with tarfile.open(fileobj=outer, mode="w") as archive:
            archive.addfile(member, saved)
        outer.seek(0)
        # docker-py hands what it gets to requests, which streams a file.
        container.put_archive("/mnt/data", outer)


def stop(name: str, client: docker.DockerClient, progress: Progress, *, keep: bool) -> None:
    """Remove a device and, unless `keep`, its volumes: its uuid and data are gone then.

    Raises:
        UnknownDeviceError: no such device.
    """
    container = _find(client, name)
    if container is None and not (not keep and _volume_exists(client, volume_names(name)[0])):
        raise UnknownDeviceError(f"no virtual device {name}: {_known(client)}")
    kept = "its volumes stay" if keep else "its volumes too"
    with step(f"removing virtual device {name}, {kept}", progress):
        if container is not None:
            container.stop(timeout=STOP_SECONDS)
            container.remove(force=True)
        if not keep:
            _remove_volumes(client, name)


def refresh(name: str, client: docker.DockerClient, progress: Progress) -> None:
    """Start the supervisor anew, with the mounted source as it is now.

    Raises:
        DeviceError: no such device, one without a mounted source, or the restart failed.
    """
    container = get(name, client)
    if SOURCE_LABEL not in container.labels:
        raise DeviceError(
            f"device {name} has no mounted source: start it with --mount-source, "
            "or with another --supervisor-image"
        )
    with step(f"restarting the supervisor of {name}", progress):
        _exec(container, ["systemctl", "restart", "gantry-supervisor"])


def devices(client: docker.DockerClient, fleet: str | None = None) -> list[DeviceState]:
    """All virtual devices of this machine, or of one fleet, by name."""
    wanted = [NAME_LABEL, *([f"{FLEET_LABEL}={fleet}"] if fleet else [])]
    found = client.containers.list(
        all=True,
        filters={"label": wanted},
        # One that goes between the list and its inspection is none any more.
        ignore_removed=True,
    )
    return sorted((_state(each) for each in found), key=lambda each: each.name)


def get(name: str, client: docker.DockerClient) -> Container:
    """The container of a device.

    Raises:
        UnknownDeviceError: no such device; the message lists those that exist.
    """
    container = _find(client, name)
    if container is None:
        raise UnknownDeviceError(f"no virtual device {name}: {_known(client)}")
    return container


def names_of(fleet: str) -> list[str]:
    """The fleet's virtual devices on this machine.

    Raises:
        DeviceError: no engine answers.
    """
    try:
        with contextlib.closing(docker.from_env()) as client:
            return [each.name for each in devices(client, fleet)]
    except DockerException as error:
        raise DeviceError(f"no Docker engine answers ({error}): run `make setup`") from error


def journal_command(name: str, options: Iterable[str]) -> list[str]:
    """`docker exec` of journalctl. One that follows ends when its standard input is closed:
    the engine does not end what it executes when the client goes away."""
    arguments = ["journalctl", "--no-pager", *options]
    follows = any(re.match(r"-[A-Za-z]*f|--follow$", each) for each in arguments[2:])
    if not follows:
        return ["docker", "exec", container_name(name), *arguments]
    script = '"$@" & child=$!; (while kill -0 $child; do sleep 1; done; kill $$) 2>/dev/null & '
    script += "cat >/dev/null; kill $child"
    return ["docker", "exec", "-i", container_name(name), "sh", "-c", script, "sh", *arguments]


def ssh_command(address: str) -> str:
    """What logs in to a device. Its address was perhaps another device's, with another host key:
    none is noted."""
    options = f"-p {SSH_PORT} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return f"ssh {options} root@{address}"


def cgroup_version(client: docker.DockerClient) -> int:
    """1 or 2, as the engine that runs the devices says."""
    return int(client.info().get("CgroupVersion", "1"))


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of root's files, readable by root alone: they hold keys."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def has_image(reference: str, client: docker.DockerClient) -> bool:
    """Whether the operator's engine has an image."""
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _state(container: Container) -> DeviceState:
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    return DeviceState(
        name=container.labels[NAME_LABEL],
        fleet=container.labels.get(FLEET_LABEL, ""),
        status=container.status,
        health=str(container.attrs["State"].get("Health", {}).get("Status", "")),
        address=next((each["IPAddress"] for each in networks if each["IPAddress"]), ""),
        uuid=_uuid(container),
        image=container.attrs["Config"]["Image"],
    )


def _uuid(container: Container) -> str:
    try:
        chunks, _ = container.get_archive("/mnt/boot/config.json")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            content = archive.extractfile("config.json")
            return str(json.load(content).get("uuid") or "") if content else ""
    except (APIError, ValueError, KeyError):
        # Not written yet, or being replaced this moment.
        return ""


def _wait_for_boot(container: Container) -> None:
    end = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < end:
        try:
            result = container.exec_run(["systemctl", "is-system-running"])
        except APIError:
            # Not started yet, or ended.
            container.reload()
        else:
            state = _text(result.output)
            # It ends with 0 when "running"; a busy engine may lose a short-lived command's output.
            if result.exit_code == 0 or state == "degraded":
                return
        time.sleep(0.3)
    tail = _text(container.logs(tail=20))
    raise DeviceError(
        f"{container.name} has not booted after {BOOT_SECONDS} s (systemd says {state!r}): "
        f"`docker exec {container.name} systemctl --failed`\n{tail}"
    )


def _exec(container: Container, command: list[str]) -> None:
    result = container.exec_run(command)
    if result.exit_code:
        output = _text(result.output)
        raise DeviceError(f"{container.name}: {' '.join(command)}: {output}")


def _text(output: bytes | Iterator[bytes]) -> str:
    """What docker-py hands out whole, or in pieces where it streams."""
    whole = output if isinstance(output, bytes) else b"".join(output)
    return whole.decode(errors="replace").strip()


def _find(client: docker.DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(container_name(name))
    except NotFound:
        return None


def _known(client: docker.DockerClient) -> str:
    names = ", ".join(each.name for each in devices(client))
    return f"there are {names}" if names else "there is none"


def _volume_exists(client: docker.DockerClient, name: str) -> bool:
    try:
        client.volumes.get(name)
    except NotFound:
        return False
    return True


def _remove_volumes(client: docker.DockerClient, name: str) -> None:
    for volume in volume_names(name):
        try:
            client.volumes.get(volume).remove()
        except NotFound:
            continue
