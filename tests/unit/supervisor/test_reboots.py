"""Services that start after a restart of the host: label `io.balena.update.requires-reboot`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor import interventions
from gantry.supervisor.desired import DesiredApp, DesiredState, desired_state
from gantry.supervisor.exclusion import disturbed_apps, without_disturbance
from gantry.supervisor.host import HostAwayError, HostError
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.restart import MOST, Restarts
from gantry.supervisor.journal import Journal
from gantry.supervisor.local import LocalMode
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.plan import is_settled, plan
from gantry.supervisor.reboots import UpdateReboots
from gantry.supervisor.standing import Standing, standing
from gantry.supervisor.state import ContainerState, CurrentState
from gantry.supervisor.steps import RestartHost, Step
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetState, read_target
from tests.host_door import HostDoor
from tests.unit.supervisor.engine_model import DEVICE, Model, desire, kinds

REBOOT = "--no-block reboot"
LABEL = "io.balena.update.requires-reboot"
LABELS = {"labels": {LABEL: "1"}}
NEW: dict[str, Any] = {"environment": {"X": "1"}}


def made(desired: DesiredState) -> Model:
    """An engine that is at its goal but for the restart of the host."""
    model = Model()
    for _ in range(10):
        steps = plan(model.current, desired, frozenset())
        if kinds(steps) == ["RestartHost"]:
            return model
        for step in steps:
            model.do(step)
    raise AssertionError(f"no restart is wanted: {steps}")


def waiting(step: Step) -> list[str]:
    assert isinstance(step, RestartHost)
    return [each.service for each in step.containers]


@pytest.mark.parametrize(
    ("value", "waits"), [("1", True), ("true", True), ("0", False), ("", False), ("maybe", False)]
)
def test_the_label_says_it(value: str, waits: bool) -> None:
    for service in ({"labels": {LABEL: value}}, {"composition": {"labels": {LABEL: value}}}):
        (found,) = desire({"a": service}).apps[0].services
        assert found.boot == (DEVICE.boot if waits else None)


def test_a_boot_is_no_new_configuration() -> None:
    target = read_target(
        {"d": {"apps": {"u": {"id": 1, "name": "bots", "releases": {"aaa1": release()}}}}}, "d"
    )
    found = [
        desired_state(target, replace(DEVICE, boot=boot)).apps[0].services[0]
        for boot in ("one", "two", "")
    ]
    assert len({each.config_hash for each in found}) == 1
    assert [each.boot for each in found] == ["one", "two", None]
    assert found[0].at_once().body == found[2].body


def release() -> dict[str, Any]:
    service = {"id": 1, "image_id": 2, "image": "r/v2/a@sha256:1", **LABELS}
    return {"id": 5, "services": {"a": service}}


def test_a_first_start_waits_for_a_restart() -> None:
    model = Model()
    desired = desire({"a": LABELS, "b": {}})
    steps = model.settle(desired)
    order = [each for each in kinds(steps) if each in ("StartContainer", "RestartHost")]
    assert order == ["StartContainer", "RestartHost", "StartContainer"]
    assert [waiting(each) for each in steps if isinstance(each, RestartHost)] == [["a"]]
    assert is_settled(desired.apps[0], model.current)


def test_one_restart_is_for_all() -> None:
    needs = {"composition": {"depends_on": ["a"]}}
    shares = {"composition": {"network_mode": "service:a"}}
    steps = Model().settle(
        desire({"a": LABELS, "b": {**LABELS, **needs}, "c": {**LABELS, **shares}})
    )
    restarts = [each for each in steps if isinstance(each, RestartHost)]
    assert [waiting(each) for each in restarts] == [["a", "b", "c"]]
    assert [each.lane for each in steps if type(each).__name__ == "StartContainer"] == [
        "service 1 a",
        "service 1 b",
        "service 1 c",
    ]


@pytest.mark.parametrize("strategy", ["download-then-kill", "hand-over"])
def test_what_runs_has_its_place_until_the_restart(strategy: str) -> None:
    labels = {"labels": {LABEL: "1", "io.balena.update.strategy": strategy}}
    model = Model()
    model.settle(desire({"a": labels}))
    (old,) = model.up("a")
    new = desire({"a": {**labels, **NEW}}, "bbb2")
    for step in plan(model.current, new, frozenset()):
        model.do(step)
    assert model.up("a") == [old]
    steps = plan(model.current, new, frozenset())
    assert [waiting(each) for each in steps] == [["a"]]
    # The same again, for as long as a lock is in the way or the host refuses.
    assert plan(model.current, new, frozenset()) == steps
    model.restart()
    assert "RestartHost" not in kinds(plan(model.current, new, frozenset()))
    model.set(handed_over=frozenset(each.id for each in model.current.containers))
    assert "RestartHost" not in kinds(model.settle(new))
    (now,) = model.up("a")
    assert now != old


def test_the_way_back_needs_no_restart() -> None:
    """The release was withdrawn before the host was restarted for it."""
    model = Model()
    before = desire({"a": LABELS})
    model.settle(before)
    (old,) = model.up("a")
    for step in plan(model.current, desire({"a": {**LABELS, **NEW}}, "bbb2"), frozenset()):
        model.do(step)
    assert kinds(model.settle(before)) == ["RemoveContainer"]
    assert model.up("a") == [old]


def test_power_that_is_lost_is_a_restart_wherever_that_is() -> None:
    """A boot between any two steps: the host is restarted at most once for a container."""
    desired = desire({"a": LABELS, "b": {"composition": {"depends_on": ["a"]}}})
    for lost_after in range(12):
        model = Model()
        done: list[Step] = []
        for _ in range(30):
            steps = plan(model.current, desired, frozenset())
            if not steps:
                break
            for step in steps:
                model.do(step)
                done.append(step)
                if len(done) == lost_after:
                    model.restart()
                    break
        assert is_settled(desired.apps[0], model.current)
        assert kinds(done).count("RestartHost") <= 1


def test_downloads_hold_up_their_own_application_alone() -> None:
    model = made(DesiredState((*desire({"a": LABELS}).apps, *desire({"c": LABELS}, app=2).apps)))
    more = desire({"a": LABELS, "b": {}}, "bbb2")
    both = DesiredState((*more.apps, *desire({"c": LABELS}, app=2).apps))
    steps = plan(model.current, both, frozenset())
    assert kinds(steps) == ["FetchImage", "RestartHost"]
    assert waiting(steps[-1]) == ["c"]


def test_what_is_stopped_by_hand_waits_for_no_restart() -> None:
    desired = desire({"a": LABELS})
    model = made(desired)
    stopped = interventions.apply(desired, [interventions.stop(desired.apps[0])])
    assert plan(model.current, stopped, frozenset()) == ()


def test_any_lock_is_in_the_way_of_a_restart() -> None:
    both = DesiredState((*desire({"a": LABELS}).apps, *desire({"b": {}}, app=2).apps))
    model = made(both)
    steps = plan(model.current, both, frozenset())
    assert disturbed_apps(steps, model.current) == {1, 2}
    assert without_disturbance(steps, frozenset({2})) == ()
    assert without_disturbance(steps, frozenset()) == steps


def test_a_trial_does_not_judge_what_waits() -> None:
    desired = desire({"a": LABELS})
    model = made(desired)
    (app,) = desired.apps
    assert standing(app.services[0], app, model.current, {}, False) == (Standing.WAITING, "")
    model.restart()
    assert standing(app.services[0], app, model.current, {}, False)[0] is Standing.UNWELL


def test_what_a_developer_tries_restarts_no_host(tmp_path: Path) -> None:
    service = {"serviceName": "a", "imageId": 2, "image": "gantry-local/a:1", **LABELS}
    app = {"name": "localapp", "commit": "c0ffee", "services": {"3": service}}

    async def scenario() -> None:
        store = Store(tmp_path / "database")
        await store.open()
        router = LogRouter(lambda _line: None)
        mode = LocalMode(store, Journal(lambda _text, _service: None), router, "development")
        mode.follow({"BALENA_SUPERVISOR_LOCAL_MODE": "1"})
        fleet = TargetState("crane", {}, ())
        await mode.take(mode.read({"local": {"apps": {"1": app}}}, fleet), frozenset())
        (found,) = desired_state(mode.goal(fleet), DEVICE).apps
        assert found.services[0].body["Labels"][LABEL] == "1"
        assert found.services[0].boot is None
        await store.close()

    asyncio.run(scenario())


class Bench:
    """A host with a real door, and a supervisor's memory of it over several lives."""

    def __init__(self, home: Path, door: HostDoor) -> None:
        self.home = home
        self.door = door
        self.path = door.path
        self.boot = DEVICE.boot
        self.said: list[str] = []

    def live(self, work: Callable[[UpdateReboots, Store], Awaitable[None]]) -> None:
        async def run() -> None:
            store = Store(self.home / "database")
            await store.open()
            journal = Journal(lambda text, _service: self.said.append(text))
            restarts = Restarts(store, self.boot, "update_restart")
            reboots = UpdateReboots(store, restarts, Door(self.path), journal)
            await reboots.open()
            try:
                await work(reboots, store)
            finally:
                await store.close()

        asyncio.run(run())

    def reboots(self) -> int:
        return self.door.calls.count(REBOOT)

    def restart(self, step: RestartHost) -> None:
        """Have the host restarted, and end with it."""

        async def work(reboots: UpdateReboots, _store: Store) -> None:
            before = self.reboots()
            restarting = asyncio.create_task(reboots.restart(step))
            async with asyncio.timeout(60):
                while self.reboots() == before:
                    await asyncio.wait({restarting}, timeout=0.05)
                    if restarting.done():
                        restarting.result()
            assert not restarting.done(), "the locks are given back while the host goes down"
            restarting.cancel()

        self.live(work)

    def applied(self, desired: DesiredState, current: CurrentState) -> DesiredApp:
        """One application, in another life of the supervisor."""
        found: list[DesiredApp] = []

        async def work(reboots: UpdateReboots, _store: Store) -> None:
            found.extend((await reboots.applied(desired, current)).apps)

        self.live(work)
        return found[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    door = HostDoor(tmp_path / "host")
    yield Bench(tmp_path, door)
    door.close()


def awaiting(desired: DesiredState) -> tuple[Model, RestartHost]:
    """An engine in which all waits for the host's restart."""
    model = made(desired)
    (step,) = plan(model.current, desired, frozenset())
    assert isinstance(step, RestartHost)
    return model, step


def test_the_host_is_restarted_and_the_log_says_for_what(bench: Bench) -> None:
    _, step = awaiting(desire({"a": LABELS, "b": LABELS}))
    bench.restart(step)
    assert bench.said == ["The host is restarted for service 'a', service 'b'"]


def test_what_ran_before_and_is_made_anew_is_no_update(bench: Bench) -> None:
    desired = desire({"a": LABELS})
    model, _ = awaiting(desired)
    assert bench.applied(desired, model.current).services[0].boot == DEVICE.boot
    model.restart()
    model.settle(desired)
    assert bench.applied(desired, model.current).services[0].boot is None
    # A purge, a restart by hand or local mode took its container; the supervisor began anew.
    assert bench.applied(desired, CurrentState()).services[0].boot is None
    again = DesiredState((bench.applied(desired, CurrentState()),))
    assert "RestartHost" not in kinds(Model().settle(again))
    # Another configuration is an update, and so is the way back from it.
    new = desire({"a": {**LABELS, **NEW}}, "bbb2")
    assert bench.applied(new, model.current).services[0].boot == DEVICE.boot
    model.settle(new)
    assert bench.applied(new, model.current).services[0].boot is None
    assert bench.applied(desired, model.current).services[0].boot == DEVICE.boot


def test_what_is_gone_is_forgotten(bench: Bench) -> None:
    desired = desire({"a": LABELS})
    model = Model()
    model.settle(desired)
    bench.applied(desired, model.current)
    bench.applied(desire({"b": {}}, "bbb2"), CurrentState())
    assert bench.applied(desired, CurrentState()).services[0].boot == DEVICE.boot


def test_local_mode_forgets_nothing(bench: Bench) -> None:
    desired = desire({"a": LABELS})
    model = Model()
    model.settle(desired)
    bench.applied(desired, model.current)
    bench.applied(desire({"a": {}}, app=3), CurrentState())
    assert bench.applied(desired, CurrentState()).services[0].boot is None


def test_a_restart_without_another_boot_is_not_tried_for_ever(bench: Bench) -> None:
    """As on a virtual device, whose boot is that of its host."""
    desired = desire({"a": LABELS})
    model, step = awaiting(desired)
    for _ in range(MOST):
        bench.restart(step)
    started: list[Step] = []

    async def work(reboots: UpdateReboots, _store: Store) -> None:
        await reboots.restart(step)
        found = await reboots.applied(desired, model.current)
        started.extend(plan(model.current, found, frozenset()))

    bench.live(work)
    assert bench.reboots() == MOST
    assert "no other boot came of it" in bench.said[-1]
    assert kinds(started) == ["StartContainer"]


def test_a_host_that_refuses_is_asked_again(bench: Bench) -> None:
    _, step = awaiting(desire({"a": LABELS}))
    bench.path = bench.home / "none"

    async def work(reboots: UpdateReboots, _store: Store) -> None:
        for _ in range(MOST + 1):
            with pytest.raises(HostAwayError, match="is shut"):
                await reboots.restart(step)

    bench.live(work)
    bench.path = bench.door.path
    bench.restart(step)


def test_a_restart_that_cannot_be_remembered_is_none(bench: Bench) -> None:
    """Where nothing can be remembered, nobody would know when to give up."""
    _, step = awaiting(desire({"a": LABELS}))

    async def work(reboots: UpdateReboots, store: Store) -> None:
        await store._run(lambda: store._database.execute("PRAGMA query_only = ON").fetchall())
        with pytest.raises(HostError, match="cannot be remembered"):
            await reboots.restart(step)

    bench.live(work)
    assert bench.reboots() == 0


def test_a_container_that_waits_is_not_revived() -> None:
    """Its release was rejected, and what ran before is gone."""
    model, _ = awaiting(desire({"a": LABELS}))
    rejected = desire({"a": {"composition": {"volumes": ["/etc:/etc"]}}}, "bbb2")
    assert plan(model.current, rejected, frozenset()) == ()
    model.change(model.current.containers[0].name, state=ContainerState.EXITED, exit_code=1)
    assert kinds(plan(model.current, rejected, frozenset())) == ["ReviveContainer"]
