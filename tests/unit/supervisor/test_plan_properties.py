"""The planner by properties: from anything that is found to anything that is wanted."""

import dataclasses
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gantry.supervisor.desired import DesiredService, DesiredState, desired_state
from gantry.supervisor.matching import best, is_finished, is_ready, matches
from gantry.supervisor.plan import is_settled, plan
from gantry.supervisor.state import Container, ContainerState, CurrentState, EngineImage, Health
from gantry.supervisor.steps import (
    CreateContainer,
    FetchImage,
    RemoveImage,
    RestartHost,
    ReviveContainer,
    StartContainer,
    Step,
    StopContainer,
)
from gantry.supervisor.strategy import Strategy
from gantry.supervisor.target import read_target
from tests.unit.supervisor.engine_model import DEVICE, Model

NAMES = ("a", "b", "c", "job")
ROUNDS = 80
FOREIGN = EngineImage("foreign", ("docker.io/library/foreign:1",))


@st.composite
def a_service(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A service; `job` ends by itself, the others do not."""
    is_job = name == "job"
    others = [each for each in NAMES if each != name]
    conditions = {
        each: {
            "condition": draw(
                st.sampled_from(
                    ["service_completed_successfully", "service_started"]
                    if each == "job"
                    else ["service_healthy", "service_started"]
                )
            )
        }
        for each in draw(st.sets(st.sampled_from(others), max_size=2))
    }
    restart = st.sampled_from(["no", "on-failure"]) if is_job else st.just("always")
    strategy = draw(st.sampled_from([*Strategy, "nonsense"]))
    return {
        "id": 1,
        "image_id": 2,
        "image": f"r/v2/{name}@sha256:{draw(st.integers(1, 2))}",
        "running": draw(st.integers(0, 9)) > 0,
        "environment": {"X": draw(st.sampled_from("12"))},
        "labels": {
            "io.balena.update.strategy": strategy,
            "io.balena.update.requires-reboot": draw(st.sampled_from(["", "", "1"])),
        },
        "composition": {
            "depends_on": conditions,
            "restart": draw(restart),
            "volumes": draw(st.sampled_from([[], ["data:/data"]])),
        },
    }


@st.composite
def an_app(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """An application, now and then one whose release cannot be run."""
    names = draw(st.sampled_from([NAMES, NAMES, NAMES[1:], NAMES[:2], ("a", "job"), ()]))
    services = {name: draw(a_service(name)) for name in names}
    if services and draw(st.integers(0, 19)) == 0:
        next(iter(services.values()))["composition"]["volumes"] = ["/etc:/etc"]
    driver = {"io.test": draw(st.sampled_from("1112"))}
    release = {"id": 5, "services": services, "networks": {"default": {"driver_opts": driver}}}
    commit = draw(st.sampled_from(["aaa1", "bbb2", "ccc3"]))
    return {"id": number, "name": "bots", "releases": {commit: release}}


@st.composite
def a_target(draw: st.DrawFn) -> DesiredState:
    """What a device with up to two applications must be."""
    numbers = draw(st.sampled_from([(1,), (1,), (1,), (1, 2), (2,), ()]))
    apps = {f"uuid{number}": draw(an_app(number)) for number in numbers}
    return desired_state(read_target({"d": {"name": "n", "apps": apps}}, "d"), DEVICE)


class World(Model):
    """The engine, and what happens in it by itself between two looks."""

    def __init__(self, current: CurrentState) -> None:
        super().__init__(current)
        self.seen: set[str] = set()

    def pass_time(self, desired: DesiredState) -> None:
        services = {(e.app_id, e.service): e for app in desired.apps for e in app.services}
        found = []
        for each in self.current.containers:
            if each.state is ContainerState.REMOVING:
                continue
            if each.state in (ContainerState.RUNNING, ContainerState.RESTARTING):
                is_job = each.service == "job"
                state = ContainerState.EXITED if is_job else ContainerState.RUNNING
                each = dataclasses.replace(each, state=state, exit_code=0, health=Health.HEALTHY)
            found.append(each)
        used = {each.image for each in found}
        self.set(
            containers=tuple(found),
            images=tuple(
                dataclasses.replace(each, in_use=bool(used & set(each.references)))
                for each in self.current.images
            ),
            handed_over=frozenset(
                each.id
                for each in found
                if (service := services.get((each.app_id, each.service)))
                and matches(each, service)
                and each.state is ContainerState.RUNNING
                and each.id in self.seen
            ),
        )
        self.seen = {each.id for each in found if each.state is ContainerState.RUNNING}


def owned(current: CurrentState) -> frozenset[str]:
    return frozenset(name for name in current.references() if name.startswith("r/v2/"))


@st.composite
def a_world(draw: st.DrawFn) -> World:
    """An engine in which earlier plans were broken off anywhere, and people have been at work."""
    world = World(CurrentState(images=(FOREIGN,)))
    for target in draw(st.lists(a_target(), max_size=3)):
        is_broken_off = draw(st.booleans())
        for _ in range(draw(st.integers(0, 6)) if is_broken_off else ROUNDS):
            steps = plan(world.current, target, owned(world.current))
            for step in steps[: draw(st.integers(0, 12))] if is_broken_off else steps:
                world.do(step)
            world.pass_time(target)
            if not is_broken_off and not steps:
                break
    for each in world.current.containers:
        if draw(st.integers(0, 5)) == 0:
            world.change(
                each.name,
                state=draw(st.sampled_from(ContainerState)),
                exit_code=draw(st.sampled_from([0, 1])),
                health=draw(st.sampled_from(Health)),
            )
    if draw(st.integers(0, 9)) == 0:
        world.set(images=(FOREIGN,))
    return world


def bring(world: World, desired: DesiredState, before: Any = None) -> list[Step]:
    """Carry out plans until there is nothing to do; `before` sees each step before it is done."""
    done: list[Step] = []
    world.pass_time(desired)
    for _ in range(ROUNDS):
        steps = plan(world.current, desired, owned(world.current))
        if not steps:
            # A hand-over may be waited for, which comes with time.
            world.pass_time(desired)
            steps = plan(world.current, desired, owned(world.current))
        if not steps:
            return done
        for step in steps:
            if before is not None:
                before(step)
            world.do(step)
            done.append(step)
        world.pass_time(desired)
    raise AssertionError(f"no end in sight: {steps}")


many = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@many
@given(a_world(), a_target())
def test_every_plan_ends_at_the_goal_and_the_goal_needs_nothing(
    world: World, desired: DesiredState
) -> None:
    bring(world, desired)
    assert plan(world.current, desired, owned(world.current)) == ()
    # Who pauses a container by hand has others wait for it.
    paused = {e.app_id for e in world.current.containers if e.state is ContainerState.PAUSED}
    assert all(is_settled(app, world.current) or app.id in paused for app in desired.apps)
    known = {each.id for each in desired.apps} | {each.id for each in desired.rejections}
    assert {each.app_id for each in world.current.containers} <= known
    assert FOREIGN in world.current.images
    if not desired.rejections:
        wanted = {each.image for app in desired.apps for each in app.services}
        assert owned(world.current) == wanted
    world.pass_time(desired)
    assert plan(world.current, desired, owned(world.current)) == ()


def services_of(desired: DesiredState) -> dict[tuple[int, str], DesiredService]:
    return {(e.app_id, e.service): e for app in desired.apps for e in app.services}


def has_new_ground(world: World, desired: DesiredState, app_id: int) -> bool:
    """Whether a network of the application is not as it must be: then all of it is ended."""
    here = {each.name: each.config_hash for each in world.current.networks}
    app = next(each for each in desired.apps if each.id == app_id)
    return any(here.get(each.name, each.config_hash) != each.config_hash for each in app.networks)


@many
@given(a_world(), a_target())
def test_what_should_run_is_never_stopped(world: World, desired: DesiredState) -> None:
    services = services_of(desired)

    def check(step: Step) -> None:
        if not isinstance(step, StopContainer):
            return
        container = step.container
        assert container.app_id not in {each.id for each in desired.rejections}
        service = services.get((container.app_id, container.service))
        if service is None or not service.running:
            return
        if has_new_ground(world, desired, container.app_id):
            return
        mine = world.current.of_service(container.app_id, container.service)
        keep = best(mine, service)
        assert keep is None or container.id != keep.id

    bring(world, desired, check)


@many
@given(a_world(), a_target())
def test_each_strategy_keeps_its_order(world: World, desired: DesiredState) -> None:
    services = services_of(desired)

    def check_stop(container: Container, service: DesiredService) -> None:
        mine = world.current.of_service(service.app_id, service.service)
        keep = best(mine, service)
        if service.strategy.kills_first and service.image not in world.current.references():
            others = {e.image for e in _of_app(desired, service.app_id).services}
            late = {e.image for e in services.values() if e.strategy.kills_first}
            assert others - late <= world.current.references()
            return
        assert service.image in world.current.references()
        if container.name == service.container_name:
            return  # its successor needs its name
        assert keep is not None
        if service.strategy is Strategy.HAND_OVER:
            fit = keep.id in world.current.handed_over or is_finished(keep, service.restarts)
            assert fit or not keep.state.is_up

    def check(step: Step) -> None:
        if isinstance(step, StopContainer):
            container = step.container
            service = services.get((container.app_id, container.service))
            if service is None or not service.running:
                return
            if not has_new_ground(world, desired, container.app_id):
                check_stop(container, service)
        if isinstance(step, FetchImage):
            mine = world.current.of_service(step.app_id, step.service)
            service = services[step.app_id, step.service]
            assert not (service.strategy.kills_first and mine and best(mine, service) is None)

    bring(world, desired, check)


def _of_app(desired: DesiredState, app_id: int) -> Any:
    return next(each for each in desired.apps if each.id == app_id)


@many
@given(a_world(), a_target())
def test_dependencies_start_before(world: World, desired: DesiredState) -> None:
    apps = {each.id: each for each in desired.apps}

    def check(step: Step) -> None:
        if isinstance(step, StartContainer):
            app = apps[step.service.app_id]
            # While images are on their way, what ran is kept running as it was.
            if all(each.image in world.current.references() for each in app.services):
                for each in step.service.depends_on:
                    assert is_ready(each, app, world.current), step.service.service

    bring(world, desired, check)


@many
@given(a_world(), a_target())
def test_a_restart_comes_before_what_needs_it_and_once(world: World, desired: DesiredState) -> None:
    restarted: set[str] = set()

    def check(step: Step) -> None:
        if isinstance(step, RestartHost):
            ids = {each.id for each in step.containers}
            assert not ids & restarted
            restarted.update(ids)
        if isinstance(step, StartContainer):
            mine = world.current.of_service(step.service.app_id, step.service.service)
            (new,) = [each for each in mine if each.name == step.service.container_name]
            if new.state is ContainerState.CREATED:
                assert new.boot != step.service.boot or not new.boot
        if isinstance(step, ReviveContainer):
            found = world.by_id(step.container.id)
            assert found.state is not ContainerState.CREATED or not found.boot

    bring(world, desired, check)


@many
@given(a_world(), a_target())
def test_dependencies_stop_after(world: World, desired: DesiredState) -> None:
    """Whatever is stopped, nothing runs that needs it, but for what stays as it is."""
    services = services_of(desired)

    def is_needed_by(container: Container) -> list[Container]:
        return [
            each
            for each in world.current.containers
            if each.app_id == container.app_id
            and each.service != container.service
            and container.service in each.depends_on
            and each.state.is_up
            and each.service not in _needs(container, world.current)  # a circle has no order
        ]

    def has_successor(container: Container) -> bool:
        service = services.get((container.app_id, container.service))
        if service is None:
            return False
        mine = world.current.of_service(container.app_id, container.service)
        keep = best(mine, service)
        return keep is not None and keep.state is not ContainerState.CREATED

    def check(step: Step) -> None:
        if not isinstance(step, StopContainer):
            return
        service = services.get((step.container.app_id, step.container.service))
        references = world.current.references()
        if service is not None and service.image not in references:
            return  # it makes room for its image
        if service is not None and service.running and has_successor(step.container):
            return
        for each in is_needed_by(step.container):
            user = services.get((each.app_id, each.service))
            assert user is not None
            assert has_successor(each) or user.strategy is Strategy.HAND_OVER

    bring(world, desired, check)


def _needs(container: Container, current: CurrentState) -> set[str]:
    """Services that a container needs, directly or not, as far as they are up."""
    found: set[str] = set()
    left = [container]
    while left:
        for name in left.pop().depends_on:
            if name not in found:
                found.add(name)
                left += [e for e in current.of_service(container.app_id, name) if e.state.is_up]
    return found


@many
@given(a_world(), a_target())
def test_nothing_is_removed_that_is_used_or_not_ours(world: World, desired: DesiredState) -> None:
    def check(step: Step) -> None:
        if isinstance(step, RemoveImage):
            assert step.reference.startswith("r/v2/")
            assert step.reference not in {each.image for each in world.current.containers}
        if isinstance(step, CreateContainer):
            assert step.service.image in world.current.references()

    bring(world, desired, check)
