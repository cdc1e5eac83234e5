"""A small model of an engine that does what steps say, and desired states to bring it to."""

import dataclasses
from typing import Any

from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.plan import plan
from gantry.supervisor.state import (
    Container,
    ContainerState,
    CurrentState,
    EngineImage,
    EngineNetwork,
)
from gantry.supervisor.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FetchImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RestartHost,
    ReviveContainer,
    StartContainer,
    Step,
    StopContainer,
)
from gantry.supervisor.target import read_target

DEVICE = DeviceFacts(
    uuid="d" * 32,
    name_at_init="quiet-robot",
    device_type="raspberrypi3-64",
    architecture="aarch64",
    os_version="Debian GNU/Linux 13 (trixie)",
    api_url="https://api.example",
    device_key="key",
    supervisor_keys={},
    supervisor_port=48484,
    bridge_address="172.17.0.1",
    docker_socket="/var/run/docker.sock",
    runtime_directory="/tmp/balena-supervisor",
    instance="device",
    boot="this one",
    os_number="13",
    kernel="6.12.34+rpt-rpi-v8",
)


def desire(services: dict[str, dict[str, Any]], commit: str = "aaa1", app: int = 1) -> DesiredState:
    """A desired state of one application."""
    release = {
        "id": 5,
        "services": {
            name: {"id": 1, "image_id": 2, "image": f"r/v2/{name}@sha256:1", **service}
            for name, service in services.items()
        },
    }
    apps = {f"uuid{app}": {"id": app, "name": "bots", "releases": {commit: release}}}
    return desired_state(read_target({"d": {"name": "n", "apps": apps}}, "d"), DEVICE)


class Model:
    """An engine in memory: what real ones do with these steps, as far as a planner can tell."""

    def __init__(self, current: CurrentState | None = None) -> None:
        self.current = current or CurrentState()
        self.count = 0

    def do(self, step: Step) -> None:
        now = self.current
        match step:
            case FetchImage(reference):
                image = EngineImage(f"id {reference}", (reference,))
                self.set(images=(*now.images, image))
            case RemoveImage(reference):
                kept = tuple(each for each in now.images if reference not in each.references)
                self.set(images=kept)
            case CreateNetwork(network):
                assert network.name not in {each.name for each in now.networks}
                made = EngineNetwork("id", network.name, network.app_id, network.config_hash)
                self.set(networks=(*now.networks, made))
            case RemoveNetwork(network):
                assert network.app_id not in {each.app_id for each in now.containers}
                self.set(networks=tuple(each for each in now.networks if each != network))
            case CreateVolume(volume):
                self.set(volumes=now.volumes | {volume.name})
            case RemoveVolume(name):
                assert name in now.volumes
                app_id = int(name.partition("_")[0])
                assert app_id not in {each.app_id for each in now.containers}
                self.set(volumes=now.volumes - {name})
            case CreateContainer(service):
                assert service.container_name not in {each.name for each in now.containers}
                assert service.image in now.references()
                self.count += 1
                made_ = Container(
                    f"c{self.count}",
                    service.container_name,
                    service.app_id,
                    service.service,
                    service.commit,
                    service.config_hash,
                    ContainerState.CREATED,
                    image=service.image,
                    restart=service.restarts,
                    depends_on=tuple(each.service for each in service.depends_on),
                    boot=service.boot or "",
                )
                self.set(containers=(*now.containers, made_))
            case StartContainer(service):
                self.change(service.container_name, state=ContainerState.RUNNING)
            case ReviveContainer(container):
                self.change(self.by_id(container.id).name, state=ContainerState.RUNNING)
            case StopContainer(container):
                found = self.by_id(container.id)
                assert found.state.is_up
                self.change(found.name, state=ContainerState.EXITED, exit_code=0)
            case RenameContainer(container, service):
                assert service.container_name not in {each.name for each in now.containers}
                self.change(
                    self.by_id(container.id).name,
                    name=service.container_name,
                    commit=service.commit,
                )
            case RestartHost(containers):
                assert containers
                self.restart()
            case RemoveContainer(container):
                kept_ = tuple(each for each in now.containers if each.id != container.id)
                assert len(kept_) == len(now.containers) - 1
                self.set(containers=kept_)

    def restart(self) -> None:
        """Another boot of the host: what was made before was not made in `this one`."""
        self.set(
            containers=tuple(
                dataclasses.replace(each, boot="an earlier one" if each.boot else "")
                for each in self.current.containers
            )
        )

    def by_id(self, container: str) -> Container:
        return next(each for each in self.current.containers if each.id == container)

    def up(self, service: str) -> list[str]:
        """Ids of a service's containers that are up."""
        return [e.id for e in self.current.containers if e.service == service and e.state.is_up]

    def set(self, **fields: Any) -> None:
        self.current = dataclasses.replace(self.current, **fields)

    def change(self, name: str, /, **fields: Any) -> None:
        assert name in {each.name for each in self.current.containers}
        self.set(
            containers=tuple(
                dataclasses.replace(each, **fields) if each.name == name else each
                for each in self.current.containers
            )
        )

    def settle(self, desired: DesiredState, rounds: int = 20) -> list[Step]:
        """Carry out plans until there is nothing to do."""
        done: list[Step] = []
        for _ in range(rounds):
            owned = self.current.references()
            steps = plan(self.current, desired, owned)
            if not steps:
                return done
            for step in steps:
                self.do(step)
                done.append(step)
        raise AssertionError(f"no end: {steps}")


def kinds(steps: list[Step] | tuple[Step, ...]) -> list[str]:
    return [type(step).__name__ for step in steps]
