"""The planner, against a small model of an engine that does what steps say."""

import dataclasses
import random
from typing import Any

import pytest

from gantry.supervisor.desired import DesiredApp, DesiredState, Rejection, desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.plan import is_settled, plan
from gantry.supervisor.state import (
    Container,
    ContainerState,
    CurrentState,
    EngineImage,
    EngineNetwork,
    Health,
)
from gantry.supervisor.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FetchImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RenameContainer,
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
    os_version="Debian",
    api_url="https://api.example",
    device_key="key",
    supervisor_keys={},
    supervisor_port=48484,
    bridge_address="172.17.0.1",
    docker_socket="/var/run/docker.sock",
    runtime_directory="/tmp/balena-supervisor",
    instance="device",
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
                self._set(images=(*now.images, image))
            case RemoveImage(reference):
                kept = tuple(each for each in now.images if reference not in each.references)
                self._set(images=kept)
            case CreateNetwork(network):
                assert network.name not in {each.name for each in now.networks}
                made = EngineNetwork("id", network.name, network.app_id, network.config_hash)
                self._set(networks=(*now.networks, made))
            case RemoveNetwork(network):
                assert network.app_id not in {each.app_id for each in now.containers}
                self._set(networks=tuple(each for each in now.networks if each != network))
            case CreateVolume(volume):
                self._set(volumes=now.volumes | {volume.name})
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
                )
                self._set(containers=(*now.containers, made_))
            case StartContainer(service):
                self._change(service.container_name, state=ContainerState.RUNNING)
            case StopContainer(container):
                self._change(container.name, state=ContainerState.EXITED, exit_code=0)
            case RenameContainer(container, service):
                self._change(container.name, name=service.container_name, commit=service.commit)
            case RemoveContainer(container):
                kept_ = tuple(each for each in now.containers if each.id != container.id)
                assert len(kept_) == len(now.containers) - 1
                self._set(containers=kept_)

    def _set(self, **fields: Any) -> None:
        self.current = dataclasses.replace(self.current, **fields)

    def _change(self, name: str, /, **fields: Any) -> None:
        assert name in {each.name for each in self.current.containers}
        self._set(
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


def test_first_start() -> None:
    model = Model()
    steps = model.settle(desire({"web": {"composition": {"volumes": ["v:/v"]}}}))
    assert kinds(steps) == [
        "FetchImage",
        "CreateNetwork",
        "CreateVolume",
        "CreateContainer",
        "StartContainer",
    ]
    assert model.current.containers[0].state is ContainerState.RUNNING


def test_what_runs_stays_until_every_image_is_here() -> None:
    model = Model()
    model.settle(desire({"a": {}, "b": {}}))
    new = desire({"a": {"image": "r/v2/a@sha256:2"}, "b": {"image": "r/v2/b@sha256:2"}}, "bbb2")
    steps = plan(model.current, new, frozenset())
    assert kinds(steps) == ["FetchImage", "FetchImage"]
    model.do(steps[0])
    assert kinds(plan(model.current, new, frozenset())) == ["FetchImage"]
    model.do(steps[1])
    after = kinds(plan(model.current, new, frozenset()))
    assert after == ["CreateContainer", "StopContainer", "RemoveContainer", "StartContainer"] * 2
    model.settle(new)
    assert {name for image in model.current.images for name in image.references} == {
        "r/v2/a@sha256:2",
        "r/v2/b@sha256:2",
    }


def test_a_stopped_service_starts_while_the_next_release_downloads() -> None:
    model = Model()
    model.settle(desire({"a": {}, "b": {}}))
    name = next(each.name for each in model.current.containers if each.service == "a")
    model._change(name, state=ContainerState.EXITED, exit_code=1)
    both = desire({"a": {}, "b": {}, "c": {}})
    assert kinds(plan(model.current, both, frozenset())) == ["FetchImage", "StartContainer"]


def test_an_unchanged_service_of_a_new_release_is_renamed_only() -> None:
    model = Model()
    model.settle(desire({"a": {}, "b": {}}))
    steps = model.settle(desire({"a": {}, "b": {"environment": {"X": "1"}}}, "bbb2"))
    assert [type(each).__name__ for each in steps if each.lane.endswith(" a")] == [
        "RenameContainer"
    ]
    assert {each.commit for each in model.current.containers} == {"bbb2"}


@pytest.mark.parametrize(
    ("restart", "exit_code", "started"),
    [
        ("always", 0, True),
        ("unless-stopped", 1, True),
        ("on-failure", 1, True),
        ("on-failure", 0, False),
        ("on-failure:3", 1, False),
        ("no", 1, False),
    ],
)
def test_restart_policies(restart: str, exit_code: int, started: bool) -> None:
    desired = desire({"a": {"composition": {"restart": restart}}})
    model = Model()
    model.settle(desired)
    name = model.current.containers[0].name
    model._change(name, state=ContainerState.EXITED, exit_code=exit_code)
    assert kinds(plan(model.current, desired, frozenset())) == ["StartContainer"] * started
    assert is_settled(desired.apps[0], model.current) is not started


def test_dependencies_come_first_and_circles_do_not_wait() -> None:
    healthy = {"depends_on": {"db": {"condition": "service_healthy"}}}
    desired = desire({"app": {"composition": healthy}, "db": {}})
    model = Model()
    model.settle(desired)
    assert [each.service for each in model.current.containers] == ["db"]
    model._change(model.current.containers[0].name, health=Health.HEALTHY)
    model.settle(desired)
    assert [each.service for each in model.current.containers] == ["db", "app"]
    circle = desire(
        {"x": {"composition": {"depends_on": ["y"]}}, "y": {"composition": {"depends_on": ["x"]}}}
    )
    model = Model()
    model.settle(circle)
    assert len(model.current.containers) == 2


def test_the_old_dependent_runs_on_while_its_dependency_is_not_ready() -> None:
    model = Model()
    model.settle(desire({"app": {}, "db": {}}))
    old = next(each for each in model.current.containers if each.service == "app")
    healthy = {"depends_on": {"db": {"condition": "service_healthy"}}}
    changed = {"environment": {"X": "1"}}
    new: dict[str, dict[str, Any]] = {"app": {"composition": healthy, **changed}, "db": changed}
    model.settle(desire(new, "bbb2"))
    assert old in model.current.containers


def test_a_rejected_application_is_left_as_it_is() -> None:
    model = Model()
    model.settle(desire({"a": {}}))
    rejected = desire({"a": {"composition": {"volumes": ["/etc:/etc"]}}}, "bbb2")
    assert isinstance(rejected.rejections[0], Rejection)
    assert "/etc" in rejected.rejections[0].reason
    assert plan(model.current, rejected, model.current.references()) == ()


def test_applications_that_are_gone_are_ended_and_others_images_are_kept() -> None:
    model = Model()
    model.settle(desire({"a": {}}))
    foreign = EngineImage("other", ("docker.io/other:1",))
    used = EngineImage("used", ("r/v2/used@sha256:1",), in_use=True)
    model._set(images=(*model.current.images, foreign, used))
    steps: list[Step] = []
    empty = DesiredState((DesiredApp("uuid2", 2, "none", None),))
    while batch := plan(model.current, empty, frozenset({"r/v2/a@sha256:1", "r/v2/used@sha256:1"})):
        for step in batch:
            model.do(step)
            steps.append(step)
    assert kinds(steps) == ["StopContainer", "RemoveContainer", "RemoveNetwork", "RemoveImage"]
    assert model.current.images == (foreign, used)


def test_a_changed_network_is_made_anew() -> None:
    model = Model()
    model.settle(desire({"a": {}}))
    network = dataclasses.replace(model.current.networks[0], config_hash="other")
    model._set(networks=(network,))
    steps = model.settle(desire({"a": {}}))
    assert kinds(steps) == [
        "StopContainer",
        "RemoveContainer",
        "RemoveNetwork",
        "CreateNetwork",
        "CreateContainer",
        "StartContainer",
    ]


def test_a_service_that_should_not_run_is_stopped_and_kept() -> None:
    model = Model()
    model.settle(desire({"a": {}}))
    steps = model.settle(desire({"a": {"running": False}}))
    assert kinds(steps) == ["StopContainer"]


@pytest.mark.parametrize("seed", range(150))
def test_from_anything_to_anything_in_finitely_many_steps(seed: int) -> None:
    """Whatever is found, the plan ends; then nothing more is to be done, and all is as wanted.
    What is wanted and up is never stopped."""
    chance = random.Random(seed)  # noqa: S311
    model = Model()
    desired = _any_desired(chance)
    for _ in range(3):
        partly = chance.randrange(0, 12)
        for step in plan(model.current, desired, model.current.references())[:partly]:
            model.do(step)
        for each in model.current.containers:
            if chance.random() < 0.3:
                model._change(
                    each.name,
                    state=chance.choice(list(ContainerState)),
                    exit_code=chance.choice([0, 1]),
                )
        desired = _any_desired(chance)
    model._set(
        containers=tuple(
            dataclasses.replace(each, state=ContainerState.DEAD)
            if each.state is ContainerState.REMOVING
            else each
            for each in model.current.containers
        )
    )
    wanted = {
        (each.app_id, each.service, each.config_hash)
        for app in desired.apps
        for each in app.services
        if each.running
    }
    before = [each for each in model.current.containers if each.state.is_up]
    fine = {(each.app_id, each.service): each.id for each in before}
    steps = model.settle(desired)
    for step in steps:
        if isinstance(step, StopContainer):
            container = step.container
            key = (container.app_id, container.service, container.config_hash)
            twin = fine[(container.app_id, container.service)] != container.id
            assert key not in wanted or twin
    assert plan(model.current, desired, model.current.references()) == ()
    assert all(is_settled(app, model.current) for app in desired.apps)


def _any_desired(chance: random.Random) -> DesiredState:
    names = chance.sample(["a", "b", "c"], chance.randrange(0, 4))
    services = {
        name: {
            "image": f"r/v2/{name}@sha256:{chance.randrange(3)}",
            "running": chance.random() < 0.9,
            "environment": {"X": str(chance.randrange(2))},
            "composition": {
                "depends_on": chance.sample(["a", "b", "c"], chance.randrange(0, 3)),
                "restart": chance.choice(["always", "no", "on-failure"]),
            },
        }
        for name in names
    }
    return desire(services, chance.choice(["aaa1", "bbb2"]), chance.choice([1, 1, 2]))
