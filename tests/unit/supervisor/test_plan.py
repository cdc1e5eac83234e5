"""The planner, against a small model of an engine that does what steps say."""

import dataclasses
from typing import Any

import pytest

from gantry.supervisor.desired import DesiredApp, DesiredState, Rejection
from gantry.supervisor.plan import is_settled, plan
from gantry.supervisor.state import ContainerState, EngineImage, Health
from gantry.supervisor.steps import RemoveImage, RemoveVolume, Step, StopContainer
from tests.unit.supervisor.engine_model import Model, desire, kinds


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
    model.change(name, state=ContainerState.EXITED, exit_code=1)
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
    model.change(name, state=ContainerState.EXITED, exit_code=exit_code)
    assert kinds(plan(model.current, desired, frozenset())) == ["StartContainer"] * started
    assert is_settled(desired.apps[0], model.current) is not started


def test_dependencies_come_first_and_circles_do_not_wait() -> None:
    healthy = {"depends_on": {"db": {"condition": "service_healthy"}}}
    desired = desire({"app": {"composition": healthy}, "db": {}})
    model = Model()
    model.settle(desired)
    assert [each.service for each in model.current.containers] == ["db"]
    model.change(model.current.containers[0].name, health=Health.HEALTHY)
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


def test_what_needs_another_goes_before_it_though_its_next_release_does_not() -> None:
    """It waits for a third one, which is not healthy yet; the other is replaced meanwhile."""
    model = Model()
    model.settle(desire({"a": {"composition": {"depends_on": ["z"]}}, "b": {}, "z": {}}))
    healthy = {"depends_on": {"b": {"condition": "service_healthy"}}}
    changed = {"environment": {"X": "1"}}
    other = {"composition": healthy, **changed}
    new: dict[str, dict[str, Any]] = {"a": other, "b": changed, "z": changed}
    steps = plan(model.current, desire(new, "bbb2"), frozenset())
    stopped = {each.container.service for each in steps if isinstance(each, StopContainer)}
    assert stopped == {"a", "b"}


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
    model.set(images=(*model.current.images, foreign, used))
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
    model.set(networks=(network,))
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


def strategy(name: str) -> dict[str, Any]:
    return {"labels": {"io.balena.update.strategy": name}}


OLD, NEW = {"image": "r/v2/a@sha256:1"}, {"image": "r/v2/a@sha256:2"}


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        (
            "download-then-kill",
            "FetchImage CreateContainer StopContainer RemoveContainer StartContainer RemoveImage",
        ),
        (
            "kill-then-download",
            "StopContainer RemoveContainer FetchImage CreateContainer StartContainer RemoveImage",
        ),
        (
            "delete-then-download",
            "StopContainer RemoveContainer FetchImage RemoveImage CreateContainer StartContainer",
        ),
    ],
)
def test_the_order_of_a_strategy(name: str, steps: str) -> None:
    model = Model()
    model.settle(desire({"a": {**OLD, **strategy(name)}}))
    assert kinds(model.settle(desire({"a": {**NEW, **strategy(name)}}, "bbb2"))) == steps.split()


def test_who_goes_before_its_image_goes_when_all_others_are_here() -> None:
    model = Model()
    kills = strategy("kill-then-download")
    model.settle(desire({"a": {**OLD, **kills}, "b": {}}))
    new = desire({"a": {**NEW, **kills}, "b": {"image": "r/v2/b@sha256:2"}}, "bbb2")
    steps = plan(model.current, new, frozenset())
    assert kinds(steps) == ["FetchImage"]
    model.do(steps[0])
    assert kinds(plan(model.current, new, frozenset())) == ["StopContainer", "RemoveContainer"]
    model.settle(new)


def test_what_is_as_it_must_be_is_not_stopped_though_its_image_lost_its_name() -> None:
    for name in ("kill-then-download", "delete-then-download"):
        model = Model()
        desired = desire({"a": {**OLD, **strategy(name)}})
        model.settle(desired)
        model.set(images=())
        assert kinds(model.settle(desired)) == ["FetchImage"]


def test_old_and_new_run_side_by_side_until_it_has_been_handed_over() -> None:
    model = Model()
    model.settle(desire({"a": {**OLD, **strategy("hand-over")}}))
    [old] = model.up("a")
    new = desire({"a": {**NEW, **strategy("hand-over")}}, "bbb2")
    model.settle(new)
    assert len(model.up("a")) == 2
    assert not is_settled(new.apps[0], model.current)
    [young] = set(model.up("a")) - {old}
    model.set(handed_over=frozenset({young}))
    assert kinds(model.settle(new)) == ["StopContainer", "RemoveContainer"]
    assert model.up("a") == [young]


def test_what_an_interrupted_update_stopped_runs_while_the_next_one_downloads() -> None:
    model = Model()
    first = desire({"a": OLD, "job": {"composition": {"restart": "no"}}})
    model.settle(first)
    for each in model.current.containers:
        model.change(each.name, state=ContainerState.EXITED, exit_code=0)
    new = desire({"a": NEW, "job": {"environment": {"X": "1"}}}, "bbb2")
    steps = plan(model.current, new, frozenset())
    assert kinds(steps) == ["FetchImage", "ReviveContainer"]
    assert steps[1].lane == "service 1 a"
    rejected = desire({"a": {"composition": {"volumes": ["/etc:/etc"]}}}, "ccc3")
    assert kinds(plan(model.current, rejected, frozenset())) == ["ReviveContainer"]


def test_services_stop_before_what_they_depend_on() -> None:
    needs_db = {"composition": {"depends_on": ["db"]}}
    needs_mid = {"composition": {"depends_on": ["mid"]}}
    changed = {"environment": {"X": "1"}}
    model = Model()
    model.settle(desire({"web": needs_mid, "mid": needs_db, "db": {}}))
    new: dict[str, Any] = {
        "web": {**needs_mid, **changed},
        "mid": {**needs_db, **changed},
        "db": changed,
    }
    stops = [each for each in model.settle(desire(new, "bbb2")) if isinstance(each, StopContainer)]
    assert [each.container.service for each in stops] == ["web", "mid", "db"]
    # Who is not replaced runs on.
    only: dict[str, Any] = {**new, "db": {"environment": {"X": "2"}}}
    stops = [each for each in model.settle(desire(only, "ccc3")) if isinstance(each, StopContainer)]
    assert [each.container.service for each in stops] == ["db"]
    gone = model.settle(DesiredState((DesiredApp("uuid2", 2, "none", None),)))
    assert [e.container.service for e in gone if isinstance(e, StopContainer)] == [
        "web",
        "mid",
        "db",
    ]


def test_images_that_nothing_wants_go_at_once_when_the_disk_is_full() -> None:
    model = Model()
    model.settle(desire({"a": OLD}))
    model.set(images=(*model.current.images, EngineImage("x", ("r/v2/half@sha256:9",))))
    new = desire({"a": NEW}, "bbb2")
    owned = model.current.references()
    assert kinds(plan(model.current, new, owned)) == ["FetchImage"]
    in_use = tuple(
        dataclasses.replace(each, in_use="r/v2/a" in each.references[0])
        for each in model.current.images
    )
    model.set(images=in_use)
    steps = plan(model.current, new, owned, short_of_room=True)
    assert steps[1:] == (RemoveImage("r/v2/half@sha256:9"),)


def test_volumes_of_others_stay() -> None:
    model = Model()
    empty = DesiredState((DesiredApp("uuid1", 1, "none", None),))
    model.set(volumes=frozenset({"1_local", "1_kept"}))
    assert plan(model.current, empty, frozenset(), frozenset({"1_local"})) == (
        RemoveVolume("1_local"),
    )
