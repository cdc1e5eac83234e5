"""Reports: what is said, how often, and how little of it."""

import dataclasses
from pathlib import Path
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.desired import desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.metrics import Metrics, addresses, changed_enough, global_ipv6
from gantry.supervisor.observe import owned_images
from gantry.supervisor.progress import PullProgress
from gantry.supervisor.report import Pace, difference, without_progress
from gantry.supervisor.state import Container, ContainerState, CurrentState, EngineImage
from gantry.supervisor.status import overall, report_apps, settled_commits
from gantry.supervisor.target import read_target
from tests.unit.supervisor.engine_model import Model, desire

DEVICE = DeviceFacts(
    uuid="d",
    name_at_init="",
    device_type="",
    architecture="",
    os_version="",
    api_url="",
    device_key="",
    supervisor_keys={},
    supervisor_port=1,
    bridge_address="",
    docker_socket="",
    runtime_directory="",
    instance="device",
)


def test_a_burst_is_quick_and_then_the_pace_is_kept() -> None:
    now = [0.0]
    pace = Pace(3, 10.0, lambda: now[0])
    for _ in range(3):
        assert pace.wait() == 0.0
        pace.spend()
    assert pace.wait() == 10.0
    now[0] = 4.0
    assert pace.wait() == 6.0
    now[0] = 1000.0
    assert pace.wait() == 0.0


def test_only_differences_are_told() -> None:
    old = {"status": "Idle", "apps": {"u": {"releases": {}}}, "cpu_usage": 3}
    assert difference(old, None) == old
    assert difference(old, dict(old)) == {}
    new = {**old, "status": "Busy"}
    assert difference(new, old) == {"status": "Busy"}
    assert difference({**old, "apps": {}}, old) == {"apps": {}}
    apps = {"u": {"releases": {"a": {"services": {"m": {"download_progress": 3}}}}}}
    later = {"u": {"releases": {"a": {"services": {"m": {"download_progress": 9}}}}}}
    assert without_progress(apps) == without_progress(later)


def test_small_changes_of_figures_are_not_worth_a_report() -> None:
    old = {"cpu_usage": 10, "cpu_temp": 50, "memory_usage": 100}
    assert not changed_enough({**old, "cpu_usage": 29}, old)
    assert changed_enough({**old, "cpu_usage": 30}, old)
    assert changed_enough({**old, "memory_usage": 110}, old)
    assert changed_enough({**old, "cpu_temp": 45}, old)
    assert changed_enough({"cpu_temp": 45}, {})


def test_figures_of_this_machine(tmp_path: Path) -> None:
    found = Metrics(tmp_path).read()
    assert 0 <= int(found["cpu_usage"] or 0) <= 100
    assert 0 < int(found["memory_usage"] or 0) < int(found["memory_total"] or 0)
    assert 0 < int(found["storage_usage"] or 0) < int(found["storage_total"] or 0)
    ip_address, _ = addresses()
    assert "127.0.0.1" not in ip_address


def test_addresses_of_ipv6_that_last_and_reach_beyond_the_link_are_told() -> None:
    rows = (
        "20010db8000000000000000000000005 02 40 00 80     eth0",
        "fd000000000000000000000000000002 04 40 00 82     wlan0",
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0",  # of the link
        "20010db8000000000000000000000006 02 40 00 01     eth0",  # temporary
        "20010db8000000000000000000000007 02 40 00 a0     eth0",  # deprecated
        "20010db8000000000000000000000008 02 40 00 c0     eth0",  # tentative
        "20010db8000000000000000000000009 03 40 00 80     docker0",
        "00000000000000000000000000000001 01 80 10 80       lo",
    )
    assert global_ipv6("\n".join(rows) + "\n") == ["2001:db8::5", "fd00::2"]


def test_progress_never_goes_back() -> None:
    progress = PullProgress()
    messages: list[dict[str, Any]] = [
        {"status": "Pulling from v2/x", "id": "sha256:1"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Already exists", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 50, "total": 100}},
        {"status": "Download complete", "id": "a"},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Pulling fs layer", "id": "c"},
        {"status": "Pull complete", "id": "a"},
    ]
    percents = [progress.add(each) for each in messages]
    assert percents == sorted(percents)
    assert percents[3:6] == [67, 85, 92]


def test_the_apps_of_a_report() -> None:
    service = {"id": 1, "image_id": 2, "image": "r/v2/x@sha256:2"}
    app = {"id": 1, "name": "b", "releases": {"new": {"id": 5, "services": {"main": service}}}}
    desired = desired_state(read_target({"d": {"apps": {"u": app}}}, "d"), DEVICE)
    wanted = desired.apps[0].services[0]
    old = Container(
        "1", "n", 1, "main", "old", "other hash", ContainerState.RUNNING, image="r/v2/x@sha256:1"
    )
    current = CurrentState(containers=(old,))
    apps = report_apps(current, desired, {wanted.image: 40}, {}, {1: "old"})
    assert apps["u"]["release_uuid"] == "old"
    releases = apps["u"]["releases"]
    assert releases["old"]["services"]["main"] == {"image": old.image, "status": "Running"}
    assert releases["new"]["update_status"] == "downloading"
    assert releases["new"]["services"]["main"]["download_progress"] == 40
    assert overall(apps) == ("Downloading", 40)
    here = CurrentState(containers=(old,), images=(EngineImage("i", (wanted.image,)),))
    apps = report_apps(here, desired, {}, {}, {})
    assert apps["u"]["releases"]["new"]["update_status"] == "downloaded"
    assert settled_commits(here, desired) == {}
    new = Container(
        "2", wanted.container_name, 1, "main", "new", wanted.config_hash, ContainerState.RUNNING
    )
    done = dataclasses.replace(here, containers=(new,))
    apps = report_apps(done, desired, {}, {(1, "main"): "Starting"}, {1: "new"})
    assert apps["u"]["releases"]["new"]["services"]["main"]["status"] == "Starting"
    assert settled_commits(done, desired) == {1: "new"}
    crashing = dataclasses.replace(new, state=ContainerState.RESTARTING)
    apps = report_apps(dataclasses.replace(here, containers=(crashing,)), desired, {}, {}, {})
    assert apps["u"]["releases"]["new"]["services"]["main"]["status"] == "exited"


def test_images_of_others_are_not_ours() -> None:
    names = ("r:5/v2/x@sha256:1", "r:5/gantry/amd64-supervisor:1", "docker.io/v2/x:1")
    current = CurrentState(images=(EngineImage("i", names),))
    assert owned_images(current, ["r:5"]) == {names[0]}


def test_backoff_doubles_to_its_most() -> None:
    backoff = Backoff(5.0, 300.0)
    delays = [backoff.next() for _ in range(2000)]
    assert 3.75 <= delays[0] <= 5.0
    assert 7.5 <= delays[1] <= 10.0
    assert all(225.0 <= each <= 300.0 for each in delays[8:])
    backoff.reset()
    assert backoff.next() <= 5.0


def test_old_and_new_tell_of_a_hand_over() -> None:
    labels = {"labels": {"io.balena.update.strategy": "hand-over"}}
    model = Model()
    model.settle(desire({"a": labels}))
    desired = desire({"a": {**labels, "environment": {"X": "1"}}}, "bbb2")
    model.settle(desired)
    releases = report_apps(model.current, desired, {}, {}, {})["uuid1"]["releases"]
    assert releases["aaa1"]["services"]["a"]["status"] == "Handing over"
    assert releases["bbb2"]["services"]["a"]["status"] == "Awaiting handover"
    assert releases["bbb2"]["update_status"] == "applying changes"
