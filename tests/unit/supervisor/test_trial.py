"""Trials of releases: what is good, what is rejected, what is left alone."""

import asyncio
import json
import random
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor import trial
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.journal import Journal
from gantry.supervisor.plan import plan
from gantry.supervisor.rollback import Rollback, read_end
from gantry.supervisor.state import (
    Container,
    ContainerState,
    CurrentState,
    EngineImage,
    EngineNetwork,
    Health,
)
from gantry.supervisor.status import report_apps
from gantry.supervisor.steps import FetchImage, RemoveImage
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetApp, TargetState, read_target
from gantry.supervisor.trial import End, Record, Rules, Trial
from tests.unit.supervisor.test_reports import DEVICE

RULES = Rules(timeout=30.0, settle=10.0, crashes=3)
STEP = 2.0


def target(commit: str, *, variables: dict[str, str] | None = None, **services: Any) -> TargetState:
    """One application; services are compositions. Their images are others with each release,
    unless they say which."""
    release = {
        "id": sum(commit.encode()),
        "services": {
            name: {
                "id": 1,
                "image_id": 2,
                "image": f"r/v2/{name}@sha256:{composition.get('image', commit)}",
                "environment": variables or {},
                "composition": {k: v for k, v in composition.items() if k != "image"},
            }
            for name, composition in (services or {"main": {}}).items()
        },
    }
    apps = {"u": {"id": 1, "name": "bots", "releases": {commit: release}}}
    return read_target({"d": {"name": "n", "apps": apps}}, "d")


def of(state: TargetState) -> TargetApp:
    return state.apps[0]


class Device:
    """A device whose engine does as it is told: the services of what is followed run, unless a
    test says how they do."""

    def __init__(self, record: Record | None = None) -> None:
        self.record = record or Record()
        self.does: dict[tuple[str, str], dict[str, Any]] = {}
        self.missing: set[str] = set()
        self.ends: list[End] = []
        self.time = 0.0

    def aim(self, state: TargetState, rules: Rules = RULES) -> None:
        self.target = state
        self.rules = rules
        self.record = trial.aimed(self.record, of(state), rules)

    @property
    def followed(self) -> str:
        app = of(trial.followed(self.target, {"u": self.record}))
        assert app.release is not None
        return app.release.commit

    def current(self) -> CurrentState:
        [app] = desired_state(trial.followed(self.target, {"u": self.record}), DEVICE).apps
        containers = []
        for each in app.services:
            how = {
                "state": ContainerState.RUNNING,
                **self.does.get((each.commit, each.service), {}),
            }
            if how["state"] is None:
                continue
            containers.append(
                Container(
                    each.container_name,
                    each.container_name,
                    1,
                    each.service,
                    each.commit,
                    each.config_hash,
                    **{key: value for key, value in how.items() if key != "dies"},
                )
            )
            if "dies" in how:
                self.ends.append(End(1, each.service, each.config_hash, how["dies"]))
        images = tuple(
            EngineImage(each.image, (each.image,))
            for each in app.services
            if each.image not in self.missing
        )
        return CurrentState(tuple(containers), images)

    def look(self, seconds: float = STEP, current: CurrentState | None = None) -> None:
        current = current or self.current()
        [app] = desired_state(self.target, DEVICE).apps
        best = replace(self.target, apps=(self.record.good,) if self.record.good else ())
        was = next(iter(desired_state(best, DEVICE).apps), None)
        self.time += seconds
        self.record = trial.advance(
            self.record, of(self.target), app, current, self.ends, seconds, self.rules, was
        )
        self.ends = []

    def restart(self) -> None:
        """Have the supervisor start anew: it has what was written."""
        stored = json.loads(json.dumps(trial.written({"u": self.record})))
        self.record = trial.read_records(stored)["u"]
        self.aim(self.target, self.rules)

    def run(self, seconds: float) -> float:
        """Look until the trial is over, or for so long; how long it took."""
        start = self.time
        while self.record.trial is not None and self.time - start < seconds:
            self.look()
        return self.time - start


def good(commit: str = "aaa", **services: Any) -> Device:
    """A device on which this release is good."""
    device = Device()
    device.aim(target(commit, **services))
    device.run(60)
    assert device.record.good is not None
    return device


RESTARTING = {"state": ContainerState.RESTARTING, "exit_code": 3, "dies": 3}
UNHEALTHY = {"health": Health.UNHEALTHY}


def test_a_release_that_is_well_for_the_time_is_good() -> None:
    device = Device()
    device.aim(target("aaa"))
    assert device.run(60) == pytest.approx(RULES.settle + STEP)
    assert device.record == Record(of(target("aaa")))
    device.does["aaa", "main"] = RESTARTING  # days later
    device.aim(target("aaa"))
    device.run(1000)
    assert (device.record.rejected, device.followed) == (None, "aaa")


def test_a_crash_loop_goes_back_soon_and_is_not_tried_again() -> None:
    device = good()
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb"))
    assert device.followed == "bbb"
    assert device.run(60) == RULES.crashes * STEP
    assert device.record.rejected is not None
    assert device.record.rejected.reason == "service 'main' ended 3 times, last with status 3"
    assert device.followed == "aaa"
    # The same target again, and after a new start of the supervisor: nothing changes.
    stored = json.loads(json.dumps(trial.written({"u": device.record})))
    device.record = trial.read_records(stored)["u"]
    device.aim(target("bbb"))
    device.run(100)
    assert device.followed == "aaa"
    # Another release, or other variables of this one: it is tried.
    device.aim(target("ccc"))
    assert device.followed == "ccc"
    device.aim(target("bbb"))
    device.run(100)
    device.does.clear()
    device.aim(target("bbb", variables={"NEEDED": "1"}))
    assert device.followed == "bbb"
    device.run(100)
    assert device.record == Record(of(target("bbb", variables={"NEEDED": "1"})))


def test_a_failing_health_check_goes_back_when_the_time_is_over() -> None:
    device = good()
    device.does["bbb", "main"] = UNHEALTHY
    device.aim(target("bbb"))
    assert RULES.timeout < device.run(100) <= RULES.timeout + 2 * STEP
    assert device.record.rejected is not None
    assert "service 'main' fails its health check" in device.record.rejected.reason


def test_a_slow_start_is_waited_for() -> None:
    device = good()
    device.does["bbb", "main"] = {"health": Health.STARTING}
    device.aim(target("bbb"))
    device.run(10 * RULES.timeout)  # as long as its start period
    assert device.followed == "bbb"
    device.does["bbb", "main"] = {"health": Health.HEALTHY}
    device.run(60)
    assert device.record.good == of(target("bbb"))


def test_a_few_crashes_at_the_start_are_forgiven() -> None:
    device = good()
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb"))
    device.look()
    device.look()
    device.does.clear()
    device.run(60)
    assert device.record.good == of(target("bbb"))


def test_who_is_well_for_moments_only_is_rejected() -> None:
    device = good()
    device.aim(target("bbb"), replace(RULES, crashes=1000))
    for _ in range(30):
        for how in ({}, {}, RESTARTING):
            device.does["bbb", "main"] = how
            device.look()
    assert device.record.rejected is not None


def test_services_that_end_by_design_are_no_failure() -> None:
    once = {"restart": "no"}
    device = good()
    device.does["bbb", "job"] = {"state": ContainerState.EXITED, "exit_code": 0, "dies": 0}
    device.does["bbb", "loop"] = {"state": ContainerState.RESTARTING, "exit_code": 0, "dies": 0}
    device.aim(target("bbb", job=once, loop={}, main={}))
    device.run(60)
    assert device.record.good is not None
    assert device.record.good.release is not None
    assert device.record.good.release.commit == "bbb"


@pytest.mark.parametrize("restart", ["no", "on-failure:3"])
def test_a_job_that_failed_for_good_is_not_waited_for(restart: str) -> None:
    device = good()
    device.does["bbb", "job"] = {"state": ContainerState.EXITED, "exit_code": 7}
    device.aim(target("bbb", job={"restart": restart}, main={}))
    assert device.run(60) == STEP
    assert device.record.rejected is not None
    assert device.record.rejected.reason == "service 'job' ended with status 7"


@pytest.mark.parametrize("state", [None, ContainerState.CREATED])
def test_what_cannot_be_created_or_started_is_rejected(state: ContainerState | None) -> None:
    device = good()
    device.does["bbb", "odd"] = {"state": state}
    device.aim(target("bbb", main={}, odd={}))
    device.run(100)
    assert device.record.rejected is not None
    assert "service 'odd' could not be" in device.record.rejected.reason


def test_downloads_locks_and_dependencies_do_not_count() -> None:
    device = good()
    dependent = {"depends_on": {"db": {"condition": "service_healthy"}}}
    state = target("bbb", db={}, main=dependent)
    device.aim(state)
    device.missing = {"r/v2/db@sha256:bbb"}
    device.does = {("bbb", "db"): {"state": None}, ("bbb", "main"): {"state": None}}
    device.run(1000)
    device.missing = set()
    device.does["bbb", "db"] = {"health": Health.STARTING}
    device.run(1000)
    assert (device.followed, device.record.rejected) == ("bbb", None)
    device.does = {("bbb", "db"): {"health": Health.HEALTHY}}
    device.run(100)
    assert device.record.good == of(state)


def test_an_old_container_that_may_not_be_stopped_yet_holds_the_clock() -> None:
    device = good()
    device.aim(target("bbb"))
    [old] = desired_state(target("aaa"), DEVICE).apps[0].services
    [app] = desired_state(device.target, DEVICE).apps
    running = Container("1", "n", 1, "main", "aaa", old.config_hash, ContainerState.RUNNING)
    locked = CurrentState((running,), (EngineImage("i", (app.services[0].image,)),))
    for _ in range(100):
        device.record = trial.advance(
            device.record, of(device.target), app, locked, (), STEP, RULES
        )
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))


SAME = {"image": "same"}
ILL = [
    RESTARTING,
    UNHEALTHY,
    {"health": Health.STARTING, "dies": 1},
    {"state": ContainerState.EXITED, "exit_code": 1},
    {"state": ContainerState.CREATED},
]


def before_the_change(device: Device, how: dict[str, Any], *, a_is_new: bool) -> CurrentState:
    """The good release's containers, of which b does so; the images of the new one that are not
    `missing` are here."""
    old = device.record.good
    assert old is not None
    [app] = desired_state(replace(device.target, apps=(old,)), DEVICE).apps
    containers = []
    for each in app.services:
        if each.service == "a" and a_is_new:
            continue
        does = {"state": ContainerState.RUNNING, **(how if each.service == "b" else {})}
        if "dies" in does:
            device.ends.append(End(1, each.service, each.config_hash, does.pop("dies")))
        name = each.container_name
        containers.append(
            Container(name, name, 1, each.service, each.commit, each.config_hash, **does)
        )
    return replace(device.current(), containers=tuple(containers))


@pytest.mark.parametrize("how", ILL)
@pytest.mark.parametrize("waits_for", ["an image", "a lock"])
def test_an_ill_service_that_stays_does_not_reject_what_has_not_begun(
    how: dict[str, Any], waits_for: str
) -> None:
    device = good("aaa", a={}, b=SAME)
    device.aim(target("bbb", a={}, b=SAME))
    device.missing = {"r/v2/a@sha256:bbb"} if waits_for == "an image" else set()
    for _ in range(100):
        device.look(current=before_the_change(device, how, a_is_new=False))
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))
    # Then a is judged, and b as little as before.
    device.missing = set()
    device.does["bbb", "b"] = how
    device.run(100)
    assert device.record == Record(of(device.target))


@pytest.mark.parametrize("how", ILL)
def test_what_a_release_that_never_was_good_left_is_not_judged_before_its_turn(
    how: dict[str, Any],
) -> None:
    device = good("aaa", a={}, b={})
    device.aim(target("ccc", a={}, b=SAME))
    other = Device(Record(of(target("bbb", a={}, b=SAME))))
    other.aim(device.target)
    device.missing = {"r/v2/a@sha256:ccc"}
    for _ in range(100):
        there = before_the_change(other, how, a_is_new=False)
        device.ends, other.ends = other.ends, []
        device.look(current=replace(there, images=device.current().images))
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))
    # Once it is this release's, it is this release's fault.
    device.missing = set()
    device.does["ccc", "b"] = how
    device.run(1000)
    assert device.record.rejected is not None
    assert "service 'b'" in device.record.rejected.reason


def test_a_changed_service_is_judged_beside_an_ill_one_that_stays() -> None:
    device = good("aaa", a={}, b=SAME)
    device.does["bbb", "a"] = device.does["bbb", "b"] = RESTARTING
    device.aim(target("bbb", a={}, b=SAME))
    device.run(100)
    assert device.record.rejected is not None
    assert "service 'a' ended 3 times" in device.record.rejected.reason


def test_a_service_whose_network_changes_is_judged() -> None:
    device = good("aaa", a={}, b=SAME)
    device.does["bbb", "b"] = UNHEALTHY
    changed = target("bbb", a={}, b=SAME)
    [app] = changed.apps
    assert app.release is not None
    release = replace(app.release, networks={"default": {"internal": True}})
    device.aim(replace(changed, apps=(replace(app, release=release),)))
    device.run(100)
    assert device.record.rejected is not None
    assert "service 'b' fails its health check" in device.record.rejected.reason


def test_a_release_that_changes_no_service_is_good_once_it_is_there() -> None:
    device = good("aaa", a=SAME, b=SAME)
    device.aim(target("bbb", a=SAME, b=SAME))
    for _ in range(100):
        device.look(current=before_the_change(device, UNHEALTHY, a_is_new=False))
    assert device.record.good == of(target("aaa", a=SAME, b=SAME))
    device.does["bbb", "b"] = UNHEALTHY
    assert device.run(60) == pytest.approx(RULES.settle + STEP)
    assert device.record == Record(of(device.target))


def test_a_new_service_waits_for_the_image_of_another() -> None:
    device = good("aaa", b=SAME)
    device.aim(target("bbb", a={}, b=SAME, c={}))
    device.missing = {"r/v2/c@sha256:bbb"}
    for _ in range(100):
        device.look(current=before_the_change(device, {}, a_is_new=True))
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))


def test_the_first_release_and_variables_have_nothing_to_go_back_to() -> None:
    device = Device()
    device.does["aaa", "main"] = RESTARTING
    device.aim(target("aaa"))
    device.run(1000)
    assert (device.followed, device.record.rejected) == ("aaa", None)
    device = good()
    device.does["aaa", "main"] = RESTARTING
    device.aim(target("aaa", variables={"WRONG": "1"}))
    device.run(1000)
    assert (device.followed, device.record.rejected) == ("aaa", None)
    assert device.record.good == of(target("aaa"))
    # A new release after those wrong variables still goes back to what was good.
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb", variables={"WRONG": "1"}))
    device.run(1000)
    assert of(trial.followed(device.target, {"u": device.record})) == of(target("aaa"))


def test_switched_off_nothing_is_rejected_and_what_was_is_tried() -> None:
    device = good()
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb"))
    device.run(100)
    assert device.followed == "aaa"
    off = replace(RULES, enabled=False)
    device.aim(target("bbb"), off)
    assert device.followed == "bbb"
    device.run(1000)
    assert device.followed == "bbb"
    assert trial.kept_images(device.target, {"u": device.record}, off) == frozenset()


def test_a_release_that_takes_the_device_down_is_rejected() -> None:
    device = good()
    device.aim(target("bbb"))
    for _ in range(RULES.crashes):
        device.look()
        device.restart()
    device.look()
    assert device.record.rejected is not None
    assert "started 4 times" in device.record.rejected.reason


def test_starts_before_anything_of_the_release_ran_do_not_count() -> None:
    device = good("aaa", a={}, b=SAME)
    device.aim(target("bbb", a={}, b=SAME))
    for night in range(10 * RULES.crashes):
        device.missing = {"r/v2/a@sha256:bbb"} if night % 2 else set()
        device.look(current=before_the_change(device, RESTARTING, a_is_new=False))
        device.restart()
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))
    # Nor those in which only what stays ran: a waits.
    device.missing = {"r/v2/a@sha256:bbb"}
    for state in (None, ContainerState.CREATED):
        device.does["bbb", "a"] = {"state": state}
        for _ in range(10 * RULES.crashes):
            device.look()
            device.restart()
    assert device.record.trial == Trial(trial.fingerprint(of(device.target)))
    # Once it ran they do, before the first look even.
    device.missing = set()
    device.does.clear()
    device.look()
    for _ in range(RULES.crashes):
        device.restart()
    device.look()
    assert device.record.rejected is not None
    assert "started 4 times" in device.record.rejected.reason


def test_images_of_the_good_release_are_kept_and_the_planner_goes_back() -> None:
    device = good()
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb"))
    kept = trial.kept_images(device.target, {"u": device.record}, RULES)
    assert kept == {"r/v2/main@sha256:aaa"}
    there = at_its_goal(device)
    owned = there.references()
    wanted = desired_state(device.target, DEVICE)
    assert plan(there, wanted, owned - kept) == ()
    assert plan(there, wanted, owned) == (RemoveImage("r/v2/main@sha256:aaa"),)
    device.run(100)
    [back] = desired_state(trial.followed(device.target, {"u": device.record}), DEVICE).apps
    steps = plan(there, DesiredState((back,)), owned - kept)
    assert "StartContainer" in [type(each).__name__ for each in steps]
    assert not any(isinstance(each, FetchImage) for each in steps)
    label = {"labels": {"io.balena.update.strategy": "delete-then-download"}}
    device.aim(read_target({"d": {"apps": {"u": _labelled("ccc", label)}}}, "d"))
    assert trial.kept_images(device.target, {"u": device.record}, RULES) == frozenset()


def at_its_goal(device: Device) -> CurrentState:
    """An engine that has all of what is followed, and the good release's image."""
    device.does.clear()
    [app] = desired_state(device.target, DEVICE).apps
    good = [EngineImage(each, (each,)) for each in ["r/v2/main@sha256:aaa"]]
    found = device.current()
    device.does["bbb", "main"] = RESTARTING
    return replace(
        found,
        images=(*good, *found.images),
        networks=tuple(
            EngineNetwork(each.name, each.name, app.id, each.config_hash) for each in app.networks
        ),
        volumes=frozenset(each.name for each in app.volumes),
    )


def _labelled(commit: str, label: dict[str, Any]) -> dict[str, Any]:
    service = {"id": 1, "image_id": 2, "image": "r/v2/main@sha256:c", **label}
    return {"id": 1, "name": "b", "releases": {commit: {"id": 9, "services": {"main": service}}}}


def test_the_report_marks_the_rejected_release() -> None:
    device = good()
    device.does["bbb", "main"] = RESTARTING
    device.aim(target("bbb"))
    device.run(100)
    records = {"u": device.record}
    desired = desired_state(trial.followed(device.target, records), DEVICE)
    apps = report_apps(device.current(), desired, {}, {}, {1: "aaa"})
    found = trial.marked(apps, device.target, records)["u"]
    assert found["release_uuid"] == "aaa"
    assert found["releases"]["bbb"] == {"update_status": "rejected", "services": {}}
    assert found["releases"]["aaa"]["update_status"] == "done"
    assert "bbb" not in apps["u"]["releases"]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_one_of_both_is_followed_and_the_trial_ends(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 (a test's dice)
    device = good("aaa", one={}, two={"restart": "on-failure:2"})
    device.aim(target("bbb", one={}, two={"restart": "on-failure:2"}))
    hows: list[dict[str, Any]] = [
        {},
        RESTARTING,
        UNHEALTHY,
        {"state": ContainerState.CREATED},
        {"state": ContainerState.EXITED, "exit_code": 0},
        {"state": ContainerState.EXITED, "exit_code": 1},
        {"health": Health.HEALTHY},
    ]
    for _ in range(200):
        for name in ("one", "two"):
            device.does["bbb", name] = dice.choice(hows)
        if device.record.trial is None:
            break
        device.look()
    assert device.record.trial is None
    assert device.followed == ("aaa" if device.record.rejected else "bbb")


def test_rules_come_from_configuration_variables() -> None:
    assert trial.rules({}) == Rules(True, 180.0, 60.0, 10)
    name = "BALENA_SUPERVISOR_ROLLBACK"
    found = trial.rules(
        {
            name: "0",
            f"{name}_TIMEOUT": "30000",
            "RESIN_SUPERVISOR_ROLLBACK_SETTLE": "1500",
            f"{name}_CRASHES": "many",
        }
    )
    assert found == Rules(False, 30.0, 1.5, 10)
    assert trial.rules({f"{name}_CRASHES": "0"}).crashes == 1


def test_ends_are_read_from_the_engines_events() -> None:
    labels = {
        "io.balena.app-id": "1",
        "io.balena.service-name": "main",
        "io.gantry.config-hash": "h",
        "exitCode": "137",
    }
    event = {"Type": "container", "Action": "die", "Actor": {"ID": "c", "Attributes": labels}}
    assert read_end(event) == End(1, "main", "h", 137)
    assert read_end({**event, "Action": "start"}) is None
    assert read_end({"Action": "die", "Actor": {"Attributes": {**labels, "exitCode": ""}}}) is None
    assert read_end({}) is None


def test_what_was_remembered_wrongly_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "database.sqlite")
        await store.open()
        await store.put("releases", {"u": {"good": {"id": "no number"}}})
        said: list[str] = []
        chores: list[Coroutine[Any, Any, None]] = []
        rollback = Rollback(
            store, Journal(lambda text, _: said.append(text)), lambda: None, lambda: None,
            chores.append, lambda state: desired_state(state, DEVICE),
        )  # fmt: skip
        await rollback.load()
        state = target("aaa")
        assert rollback.aim(state) == state
        for each in chores:
            await each
        assert (await store.get("releases"))["u"]["trial"]["lives"] == 0
        await store.close()

    asyncio.run(scenario())


def test_lives_are_remembered_from_the_first_container_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "database.sqlite")
        await store.open()
        old, new = target("aaa", a={}, b=SAME), target("bbb", a={}, b=SAME)
        chores: list[Coroutine[Any, Any, None]] = []
        device = Device()
        device.aim(new)

        async def lives(current: CurrentState | None) -> int:
            """How many are written after another start of the supervisor, and this look."""
            rollback = Rollback(
                store, Journal(lambda *_: None), lambda: None, lambda: None,
                chores.append, lambda state: desired_state(state, DEVICE),
            )  # fmt: skip
            await rollback.load()
            assert rollback.aim(new) == new
            if current is not None:
                rollback.observed(current, desired_state(new, DEVICE))
            while chores:
                await chores.pop(0)
            return int((await store.get("releases"))["u"]["trial"]["lives"])

        await store.put("releases", trial.written({"u": Record(of(old))}))
        stays = replace(device.current(), containers=())
        assert [await lives(each) for each in [None, stays] * 12] == [0] * 24
        assert [await lives(each) for each in (device.current(), None, stays)] == [1, 2, 3]
        await store.close()

    asyncio.run(scenario())
