"""The simulator's pure parts: who devices are, what their engine becomes, what is measured."""

import math
import os
import socket
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gantry.simulator import engine, results
from gantry.simulator.figures import Figures, Histogram, Kind, Phase, quantile
from gantry.simulator.identities import identities
from gantry.simulator.loopback import NotLoopbackError, require_loopback
from gantry.simulator.machine import Machine
from gantry.simulator.servers import Usage, look
from gantry.simulator.simulation import Plan, Sample, Simulation
from gantry.supervisor.cloud import CloudError
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.metrics import changed_enough
from gantry.supervisor.observe import owned_images
from gantry.supervisor.plan import plan
from gantry.supervisor.report import Rhythm
from gantry.supervisor.state import CurrentState
from gantry.supervisor.status import report_apps, settled_commits
from gantry.supervisor.target import read_target

DOCUMENT = {"apiEndpoint": "http://127.0.0.1:1", "applicationId": 5, "apiKey": "k" * 32}
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


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://[::1]/x", "http://localhost"])
def test_this_machine_is_a_target(url: str) -> None:
    require_loopback(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://192.0.2.1", "192.0.2.1 leads to 192.0.2.1"),
        ("https://0.0.0.0:1", "loopback only"),
        ("http://nowhere.invalid", "is not known here"),
        ("ftp://127.0.0.1", "is no URL"),
        ("", "is no URL"),
    ],
)
def test_nothing_else_is(url: str, said: str) -> None:
    with pytest.raises(NotLoopbackError, match=said):
        require_loopback(url)


def test_one_address_elsewhere_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with two addresses can only be had from a resolver: it is stood in for."""
    found = [(2, 1, 6, "", ("127.0.0.1", 0)), (2, 1, 6, "", ("198.51.100.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotLoopbackError, match=r"api\.example leads to 198\.51\.100\.7"):
        require_loopback("https://api.example")


def test_logs_go_nowhere_else_either() -> None:
    document = DOCUMENT | {"logsEndpoint": "http://192.0.2.1"}
    some = Plan(devices=1, duration=1, ramp=0)
    Simulation(document, some, print)
    with pytest.raises(NotLoopbackError):
        Simulation(document, replace(some, lines=1.0), print)


def test_a_seed_gives_the_same_devices_and_none_gives_others() -> None:
    first = list(identities(DOCUMENT, 3, seed=7))
    assert first == list(identities(DOCUMENT, 3, seed=7))
    assert first != list(identities(DOCUMENT, 3, seed=8))
    names = {each.uuid for each in first} | {each.device_key for each in first}
    assert len(names) == 6
    assert {len(str(each)) for each in names} == {32}
    chance = [each.uuid for each in identities(DOCUMENT | {"uuid": "a" * 32}, 2, seed=None)]
    assert len({*chance, "a" * 32}) == 3


def target(commit: str, image: str, names: tuple[str, ...] = ("main",)) -> DesiredState:
    def service(number: int) -> dict[str, Any]:
        reference = f"registry/v2/{image}{number}@sha256:{image}"
        return {"id": number, "image_id": number, "image": reference, "environment": {"A": image}}

    services = {name: service(number) for number, name in enumerate(names, 1)}
    release = {"id": 1, "services": services, "volumes": {"data": {}}, "networks": {"net": {}}}
    app = {"id": 5, "name": "app", "releases": {commit: release}}
    return desired_state(read_target({"d": {"name": "d", "apps": {"u": app}}}, "d"), DEVICE)


def follow(current: CurrentState, desired: DesiredState) -> tuple[CurrentState, int]:
    """Until the planner asks for nothing more; and how many rounds that took."""
    rounds = 0
    while steps := plan(current, desired, owned_images(current, {"registry"})):
        for step in steps:
            assert engine.seconds(step, Random(1)) >= 0  # noqa: S311
            current = engine.after(current, step)
        rounds += 1
        assert rounds < 10, steps
    return current, rounds


def test_the_engine_arrives_at_each_release_and_keeps_nothing_of_the_old() -> None:
    first = target("aaa", "x", ("main", "second"))
    current, rounds = follow(CurrentState(), first)
    assert rounds > 0
    assert settled_commits(current, first) == {5: "aaa"}
    assert sorted(each.service for each in current.containers) == ["main", "second"]
    second = target("bbb", "y")
    current, _ = follow(current, second)
    assert settled_commits(current, second) == {5: "bbb"}
    assert [each.commit for each in current.containers] == ["bbb"]
    assert current.references() == {"registry/v2/y1@sha256:y"}
    assert "5_data" in current.volumes
    report = report_apps(current, second, {}, {}, {5: "bbb"})
    assert report["u"]["releases"]["bbb"]["update_status"] == "done"
    assert report["u"]["releases"]["bbb"]["services"]["main"]["status"] == "Running"


def test_a_release_of_the_same_image_renames_what_runs() -> None:
    current, _ = follow(CurrentState(), target("aaa", "x"))
    (before,) = current.containers
    current, _ = follow(current, target("bbb", "x"))
    (after,) = current.containers
    assert (after.id, after.commit) == (before.id, "bbb")


def test_figures_of_a_machine_wander_and_some_are_worth_a_report() -> None:
    machine = Machine(Random(3))  # noqa: S311
    looks = [machine.read() for _ in range(50)]
    assert all(0 < int(each["cpu_usage"]) < 100 for each in looks)
    worth = sum(changed_enough(new, looks[0]) for new in looks)
    assert 0 < worth < 50


def test_quantiles_are_true_to_two_percent() -> None:
    histogram = Histogram()
    chance = Random(1)  # noqa: S311
    values = [chance.lognormvariate(-4, 1) for _ in range(5000)]
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert math.isclose(histogram.quantile(share), quantile(values, share), rel_tol=0.021)
    assert histogram.most == max(values)
    assert Histogram().quantile(0.99) == quantile([], 0.99) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_errors_are_counted_by_kind_and_not_as_answers() -> None:
    figures = Figures()
    with figures.measured(Kind.STATE):
        pass
    for status in (503, 503, None):
        with pytest.raises(CloudError), figures.measured(Kind.STATE):
            raise CloudError("no", status) from OSError("gone")
    assert figures.errors == {"state: 503": 2, "state: OSError": 1}
    assert figures.histogram(Kind.STATE).count == 1
    assert figures.histogram(Kind.STATE, Phase.STEADY).count == 0
    assert (figures.total(), figures.peak()) == (4, 4)


def test_results_tell_peaks_of_the_time_after_a_release() -> None:
    figures = Figures()
    figures.requests[Kind.STATE].update({1: 50, 10: 3})
    figures.requests[Kind.REPORT].update({10: 4})
    figures.announcements.update({1: 9, 11: 2})
    release = figures.release("c" * 40)
    release.begun = 9.5
    release.seen += [0.1, 0.2]
    simulation = Simulation(DOCUMENT, Plan(devices=2, duration=1, ramp=0), print)
    simulation.figures = figures
    found = results.results(simulation)
    assert found["peak_requests_per_second"] == 50
    (told,) = found["releases"].values()
    assert (told["peak_requests_per_second"], told["peak_announcements_per_second"]) == (7, 2)
    assert told["seen"] == {"devices": 2, "p50": 0.1, "p95": 0.2, "p99": 0.2, "max": 0.2}
    assert found["errors"] == {}
    assert any("after ccccccc: at most 7" in line for line in results.lines(found))


def test_memory_of_all_servers_is_that_of_one_moment() -> None:
    mib = 1024**2
    samples = [
        Sample(0.0, Phase.START, {"a": Usage(5 * mib, 1.0), "b": Usage(1 * mib, 0.0)}),
        Sample(10.0, Phase.STEADY, {"a": Usage(2 * mib, 6.0), "b": Usage(3 * mib, 0.0)}),
    ]
    found = results.servers(samples)
    assert found["memory"] == {"a": 5, "b": 3}
    assert found["memory_together"] == 6
    assert found["cores"] == {"steady": {"a": 0.5, "b": 0.0}}
    assert results.servers([]) == {}


def test_a_process_of_this_machine_can_be_looked_at() -> None:
    found = look({"me": os.getpid()})["me"]
    assert found.memory > 1024**2
    assert found.processor > 0


def test_time_that_goes_faster_shortens_every_pause() -> None:
    assert Rhythm().faster(10.0).pace * 10 == Rhythm().pace
    assert Rhythm().faster(1.0) == Rhythm()
