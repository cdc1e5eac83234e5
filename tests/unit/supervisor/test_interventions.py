"""What is asked at the device, against the model of an engine."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor import interventions
from gantry.supervisor.desired import DesiredState
from gantry.supervisor.intervene import Interventions
from gantry.supervisor.interventions import Action, Intervention
from gantry.supervisor.locks import LockedError, Locks
from gantry.supervisor.plan import plan
from gantry.supervisor.state import ContainerState
from gantry.supervisor.store import Store
from tests.unit.supervisor.engine_model import Model, desire, kinds

KEEPS = {"composition": {"volumes": ["v:/v"]}}


def with_all(model: Model, desired: DesiredState, *asked: Intervention) -> list[str]:
    """What is done until all is as it must be, with these in force."""
    done: list[str] = []
    left: tuple[Intervention, ...] = asked
    for _ in range(20):
        left = interventions.in_force(left, desired, model.current)
        steps = one_round(model, interventions.apply(desired, left))
        if not steps:
            return done
        done += steps
    raise AssertionError("no end")


def one_round(model: Model, desired: DesiredState) -> list[str]:
    """Carry out one plan."""
    steps = plan(model.current, desired, model.current.references())
    for step in steps:
        model.do(step)
    return kinds(steps)


def test_a_restart_replaces_the_containers_that_there_were() -> None:
    model, desired = Model(), desire({"a": {}, "b": {"composition": {"depends_on": ["a"]}}})
    model.settle(desired)
    before = {each.id for each in model.current.containers}
    asked = interventions.restart(desired.apps[0], model.current)
    assert with_all(model, desired, asked) == [
        *("StopContainer", "RemoveContainer", "CreateContainer"),  # b, which needs a
        *("StopContainer", "RemoveContainer", "CreateContainer", "StartContainer"),
        "StartContainer",
    ]
    assert not before & {each.id for each in model.current.containers}
    assert interventions.is_carried_out(asked, desired, model.current)
    one = interventions.restart(desired.apps[0], model.current, ["b"])
    [kept] = model.up("a")
    with_all(model, desired, one)
    assert model.up("a") == [kept]


def test_a_stop_holds_until_it_is_started_or_something_else_is_wanted() -> None:
    model, desired = Model(), desire({"a": {}, "b": {}})
    model.settle(desired)
    asked = interventions.stop(desired.apps[0], ["a"])
    assert with_all(model, desired, asked) == ["StopContainer"]
    assert with_all(model, desired, asked) == []
    assert interventions.is_carried_out(asked, desired, model.current)
    newer = desire({"a": {}, "b": {}}, "bbb2")
    assert interventions.in_force([asked], newer, model.current) == ()
    both = interventions.stop(desired.apps[0])
    [left] = interventions.started([both], 1, ["a"])
    assert left.services == {"b"}
    assert interventions.started([both], 1) == ()
    assert interventions.started([both], 2) == (both,)


def test_a_purge_removes_the_volumes_once_nobody_uses_them() -> None:
    model, desired = Model(), desire({"a": KEEPS})
    model.settle(desired)
    asked = interventions.purge(desired.apps[0], model.current)
    assert with_all(model, desired, asked) == [
        "StopContainer",
        "RemoveContainer",
        "RemoveVolume",
        "CreateVolume",
        "CreateContainer",
        "StartContainer",
    ]
    assert interventions.is_carried_out(asked, desired, model.current)
    assert model.current.volumes == {"1_v"}


def test_they_are_remembered() -> None:
    model, desired = Model(), desire({"a": KEEPS})
    model.settle(desired)
    app = desired.apps[0]
    asked = (
        interventions.stop(app),
        interventions.restart(app, model.current, force=True),
        interventions.purge(app, model.current),
    )
    assert interventions.from_document(interventions.to_document(asked)) == asked
    assert interventions.from_document(None) == ()
    assert interventions.forced(asked, desired, model.current) == {1}


def test_asking_waits_until_it_is_done_and_says_when_it_is_locked(tmp_path: Path) -> None:
    model, desired = Model(), desire({"a": {}})
    model.settle(desired)
    remembered: list[Any] = []

    async def remember(documents: list[Any]) -> None:
        remembered.append(documents)

    async def scenario() -> None:
        store = Store(tmp_path / "database.sqlite")
        await store.open()
        locks = Locks(tmp_path, store)
        woken = asyncio.Event()
        one = Interventions(locks, woken.set, remember)
        lease = await locks.lease(1, 60.0, "lab")
        asked = interventions.stop(desired.apps[0])
        with pytest.raises(LockedError, match="locked by lab"):
            await one.ask(asked)
        await locks.release(lease.lease)
        waiting = asyncio.create_task(one.ask(asked))
        await asyncio.wait_for(woken.wait(), 60)
        applied = await one.applied(desired, model.current)
        assert not applied.apps[0].services[0].running
        assert one.is_stopped(desired.apps[0], "a")
        model.settle(applied)
        assert not waiting.done()
        await one.applied(desired, model.current)
        await asyncio.wait_for(waiting, 60)
        assert remembered[-1][0]["action"] == Action.STOP
        await one.start(1)
        assert (await one.applied(desired, model.current)) == desired
        assert remembered[-1] == []
        # A restart is over when the new one has begun.
        again = asyncio.create_task(one.ask(interventions.restart(desired.apps[0], model.current)))
        await asyncio.sleep(0)
        while not again.done():
            one_round(model, await one.applied(desired, model.current))
            await asyncio.sleep(0)
        assert model.current.containers[0].state is ContainerState.RUNNING
        await store.close()

    asyncio.run(scenario())
