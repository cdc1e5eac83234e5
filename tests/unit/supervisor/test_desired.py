"""From a target to what must be in the engine: strategies, requirements, joined networks."""

from typing import Any

import pytest

from gantry.supervisor import VERSION
from gantry.supervisor.desired import Dependency
from gantry.supervisor.requirements import satisfies
from gantry.supervisor.strategy import Strategy, read_strategy
from tests.unit.supervisor.engine_model import desire

REQUIRES = "io.balena.features.requires"


@pytest.mark.parametrize("family", ["balena", "resin"])
def test_the_strategy_is_a_label(family: str) -> None:
    labels = {
        f"io.{family}.update.strategy": "hand-over",
        f"io.{family}.update.handover-timeout": "1500",
    }
    assert read_strategy(labels) == (Strategy.HAND_OVER, 1.5, ())
    [service] = desire({"a": {"labels": labels}}).apps[0].services
    assert (service.strategy, service.handover_seconds) == (Strategy.HAND_OVER, 1.5)


def test_what_is_not_understood_is_told_and_left_out() -> None:
    labels = {"io.balena.update.strategy": "sudden", "io.balena.update.handover-timeout": "1m"}
    composition = {"container_name": "mine", "x-own": {}, "restart": "no"}
    app = desire({"a": {"labels": labels, "composition": composition}}).apps[0]
    assert app.services[0].strategy is Strategy.DOWNLOAD_THEN_KILL
    assert app.services[0].handover_seconds == 60.0
    assert app.notices == (
        "service a: label io.balena.update.strategy is 'sudden': use one of download-then-kill, "
        "kill-then-download, delete-then-download, hand-over",
        "service a: label io.balena.update.handover-timeout is '1m': give whole milliseconds",
        "service a: field 'container_name' of docker-compose.yml is not known here and left out",
    )


@pytest.mark.parametrize(
    ("version", "wanted", "is_met"),
    [
        ("1.2.3", ">=1.2.3", True),
        ("1.2.3", "> 1.2.3", False),
        ("1.2.3", ">=1.0.0 <1.2.3", False),
        ("1.2.3", "^1.1", True),
        ("0.2.3", "^0.1", False),
        ("0.2.3", "^0.2.1", True),
        ("1.2.3", "~1.2", True),
        ("1.3.0", "~1.2.9", False),
        ("1.9.0", "~1", True),
        ("1.2.3", "1.2.x", True),
        ("1.2.3", "1.x || 3", True),
        ("2.0.0", "1.x || 3", False),
        ("3.4.5", "1.x||3", True),
        ("1.5.0", "1.2.3 - 1.5", True),
        ("1.6.0", "1.2.3 - 1.5", False),
        ("9.9.9", "*", True),
        ("9.9.9", "", True),
        ("1.2.3", "<=1.2", True),
        ("1.3.0", "<=1.2", False),
        ("1.3.0", ">1.2", True),
        ("1.2.9", ">1.2", False),
        ("1.2.3", "soon", False),
        ("1.2.3-rc1", "v1.2.3", True),
    ],
)
def test_ranges_of_versions(version: str, wanted: str, is_met: bool) -> None:
    assert satisfies(version, wanted) is is_met


def test_a_release_that_requires_another_device_is_rejected() -> None:
    fine = {
        f"{REQUIRES}.sw.supervisor": f">={VERSION}",
        f"{REQUIRES}.hw.device-type": "raspberrypi3-64",
        f"{REQUIRES}.arch.sw": "aarch64",
    }
    assert desire({"a": {"labels": fine}}).rejections == ()
    for name, value in (
        ("sw.supervisor", ">999"),
        ("hw.device-type", "jetson-nano"),
        ("arch.sw", "amd64"),
        ("sw.l4t", "32"),
    ):
        desired = desire({"a": {"labels": {f"{REQUIRES}.{name}": value}}, "b": {}})
        assert f"{REQUIRES}.{name} is '{value}'" in desired.rejections[0].reason
        optional = {f"{REQUIRES}.{name}": value, "io.balena.features.optional": "1"}
        waits = {"depends_on": ["a"]}
        desired = desire({"a": {"labels": optional}, "b": {"composition": waits}})
        [service] = desired.apps[0].services
        assert (service.service, service.depends_on) == ("b", ())
        assert "service a is left out" in desired.apps[0].notices[0]


@pytest.mark.parametrize(
    ("requires", "lacks"),
    [
        (None, ""),
        ([], ""),
        ([{"type": "sw.supervisor"}, {"type": "sw.supervisor", "version": f"<={VERSION}"}], ""),
        ([{"type": "hw.device-type", "slug": "raspberrypi3-64", "name": "a Pi"}], ""),
        ([{"type": "arch.sw", "slug": "aarch64"}, {"type": "sw.os"}], ""),
        ([{"type": "sw.os", "slug": "debian", "version": ">=12"}], ""),
        ([{"type": "sw.kernel", "slug": "linux", "version": ">=6.12.30 <7"}], ""),
        ([{"or": [{"type": "sw.os", "slug": "balena-os"}, {"type": "arch.sw"}]}], ""),
        ([{"type": "sw.supervisor", "version": ">999"}], "sw.supervisor >999"),
        ([{"type": "sw.supervisor", "slug": "x"}], "sw.supervisor x"),
        ([{"type": "sw.os", "slug": "balena-os"}], "sw.os balena-os"),
        ([{"type": "sw.kernel", "version": "<6.12.34"}], "sw.kernel <6.12.34"),
        ([{"type": "hw.device-type", "slug": "raspberrypi4-64"}], "hw.device-type raspberrypi4-64"),
        ([{"type": "hw.device-type", "version": "1"}], "hw.device-type 1"),
        ([{"type": "sw.l4t", "version": 32.2}], "sw.l4t 32.2"),
        ([{"type": "arch.sw", "data": {"bits": 64}}], "arch.sw with data"),
        (
            [{"type": "arch.sw"}, {"or": [{"type": "sw.l4t"}, {"type": "arch.sw", "slug": "rpi"}]}],
            "sw.l4t or arch.sw rpi",
        ),
    ],
)
def test_contracts(requires: object, lacks: str) -> None:
    contract = {"type": "sw.container", "slug": "x", "requires": requires}
    rejections = desire({"a": {"contract": contract}}).rejections
    wanted = [f"service a: its contract requires {lacks}, which this device does not meet"]
    assert [each.reason for each in rejections] == (wanted if lacks else [])
    optional = {"io.balena.features.optional": "1"}
    desired = desire({"a": {"contract": contract, "labels": optional}, "b": {}})
    names = [each.service for each in desired.apps[0].services]
    assert names == (["b"] if lacks else ["a", "b"])


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        (["x"], "contract is ['x']: an object is expected"),
        ({"requires": "all"}, "requires is 'all': a list is expected"),
        ({"requires": ["sw.os"]}, "requires is 'sw.os': an object is expected"),
        ({"requires": [{"version": "1"}]}, "type is None: a text is expected"),
        ({"requires": [{"or": [{"type": "sw.os"}, {"type": "sw.x"}]}]}, "type is 'sw.x': give one"),
    ],
)
def test_a_contract_that_is_none_is_said(contract: object, reason: str) -> None:
    [rejection] = desire({"a": {"contract": contract}}).rejections
    assert rejection.reason.startswith("service a: contract")
    assert reason in rejection.reason


def test_a_service_in_the_network_of_another() -> None:
    def services(environment: str) -> dict[str, dict[str, Any]]:
        joined = {"network_mode": "service:vpn", "ports": ["80:80"]}
        return {
            "app": {"composition": joined},
            "vpn": {"environment": {"X": environment}},
        }

    vpn, app = desire(services("1")).apps[0].services
    assert app.body["HostConfig"]["NetworkMode"] == f"container:{vpn.container_name}"
    assert "PortBindings" not in app.body["HostConfig"]
    assert app.depends_on == (Dependency("vpn"),)
    # With the other's container, its network goes.
    assert desire(services("2")).apps[0].services[1].config_hash != app.config_hash
    lost = desire({"app": {"composition": {"network_mode": "service:vpn"}}})
    assert "there is no service vpn with a network of its own" in lost.rejections[0].reason


@pytest.mark.parametrize(
    "composition",
    [
        {"depends_on": {"b": 5}},
        {"healthcheck": {"test": "true", "interval": float("inf")}},
        {"stop_grace_period": float("nan")},
    ],
)
def test_what_makes_no_container_is_a_rejection_and_ends_no_loop(
    composition: dict[str, Any],
) -> None:
    found = desire({"a": {"composition": composition}})
    assert found.apps == ()
    [rejection] = found.rejections
    assert rejection.reason.startswith("service a: ")
