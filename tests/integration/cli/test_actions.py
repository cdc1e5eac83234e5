"""Actions on devices: a real api, and supervisors behind a CONNECT proxy."""

import json
import os
import pty
import secrets
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.integration.api.conftest import Api, Fleet, make_config, own_database, running
from tests.integration.api.tunnels import Network, Reachable, network, reachable, until
from tests.integration.cli.conftest import GANTRY, Operator, fleet_of, make_operator
from tests.integration.logs.conftest import Service
from tests.ports import free_port

NO_LOGS = cast(Service, SimpleNamespace(url="http://127.0.0.1:9"))


@pytest.fixture(scope="module")
def net_and_api(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Network, Api]]:
    with own_database(postgres) as url:
        config = make_config(url, free_port())
        with network(config["service_keys"]["vpn"]) as net:
            config["vpn_proxy_port"] = net.port
            with running(config, tmp_path_factory.mktemp("api")) as api:
                yield net, api


@pytest.fixture(scope="module")
def person(
    net_and_api: tuple[Network, Api], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Operator, Fleet]:
    made = make_operator(net_and_api[1], NO_LOGS, tmp_path_factory.mktemp("operator"))
    fleet = fleet_of(net_and_api[1], made)
    fleet.release()
    return made, fleet


@pytest.fixture
def operator(person: tuple[Operator, Fleet]) -> Operator:
    return person[0]


@pytest.fixture
def robot(
    net_and_api: tuple[Network, Api], person: tuple[Operator, Fleet]
) -> tuple[str, Reachable]:
    """A device that is offline, and its name."""
    net, api = net_and_api
    name = f"robot-{secrets.token_hex(3)}"
    device = person[1].register(device_name=name)
    return name, reachable(api, net, device, is_connected=False)


Robot = tuple[str, Reachable]


def state(operator: Operator, number: str) -> Any:
    found = [each for each in operator.json("actions") if each["id"] == int(number)]
    return found[0]["status"]


def test_an_action_is_kept_until_the_device_comes(operator: Operator, robot: Robot) -> None:
    name, device = robot
    ended = operator.ended("device", "reboot", name, "--expires", "2h")
    assert ended.returncode == 0, ended.stderr
    number = ended.stdout.strip()
    assert f"reboot on {name}: {name} is offline; kept until 20" in ended.stderr
    assert f"`gantry actions cancel {number}` takes it back" in ended.stderr
    (row,) = operator.json("actions", "-d", name, "--pending")
    assert (row["id"], row["device"], row["action"]) == (int(number), name, "reboot")
    assert (row["status"], row["service"], row["force"]) == ("pending", None, False)
    assert "kept until" in operator.run("actions")
    device.come()
    until(lambda: state(operator, number) == "done")
    assert device.supervisor.heard == ["reboot"]
    assert operator.json("actions", "-d", name, "--pending") == []
    (told,) = [each for each in operator.json("actions") if each["id"] == int(number)]
    assert told["result_status"] == 202


def test_it_is_waited_for(operator: Operator, robot: Robot) -> None:
    name, device = robot
    with operator.running("device", "identify", name, "--wait") as waiting:
        number = waiting.stdout.readline().strip()
        assert "is offline; kept until" in waiting.stderr.readline()
        assert waiting.stderr.readline() == f"action {number}: pending\n"
        assert waiting.poll() is None
        device.come()
        assert waiting.wait(30) == 0
        assert f"identify on {name}: done" in waiting.stderr.read()
    assert device.supervisor.heard == ["blink"]


def test_who_waits_may_stop_waiting(operator: Operator, robot: Robot) -> None:
    name, _ = robot
    with operator.running("device", "update", name, "--wait") as waiting:
        number = waiting.stdout.readline().strip()
        waiting.stderr.readline()
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130
        assert f"action {number} stays" in waiting.stderr.read()
    assert state(operator, number) == "pending"


def test_a_lock_fails_it_unless_it_is_forced(operator: Operator, robot: Robot) -> None:
    name, device = robot
    device.come()
    device.supervisor.is_locked = True
    ended = operator.ended("device", "restart", name, "--service", "main", "--wait")
    assert ended.returncode == 1, ended.stderr
    assert f"restart-service main on {name}: failed" in ended.stderr
    assert "an update lock is held" in ended.stderr
    assert device.supervisor.heard == []
    operator.run("device", "restart", name, "-s", "main", "--force", "--wait")
    (heard,) = device.supervisor.heard
    assert heard.startswith("restart ")
    assert heard.endswith(" main")


def test_all_that_one_can_ask_for(operator: Operator, robot: Robot) -> None:
    name, device = robot
    device.come()
    for words in (
        ("restart", name),
        ("stop-service", name, "main"),
        ("start-service", name, "main"),
        ("update", name),
        ("purge", name, "--yes"),
        ("shutdown", name, "--yes"),
    ):
        operator.run("device", *words, "--wait")
    heard = [each.split(" ")[0] for each in device.supervisor.heard]
    assert heard == ["restart", "stop", "start", "update", "purge", "shutdown"]


def test_what_was_not_begun_can_be_taken_back(operator: Operator, robot: Robot) -> None:
    name, device = robot
    number = operator.run("device", "reboot", name).strip()
    operator.run("actions", "cancel", number)
    assert state(operator, number) == "cancelled"
    again = operator.ended("actions", "cancel", number)
    assert again.returncode == 1
    assert f"{number} is cancelled" in again.stderr
    device.come()
    operator.run("device", "identify", name, "--wait")
    assert device.supervisor.heard == ["blink"]
    operator.run("actions", "cancel", "999999", code=3)


def test_now_or_not_at_all(operator: Operator, robot: Robot) -> None:
    name, device = robot
    ended = operator.ended("device", "reboot", name, "--now")
    assert ended.returncode == 5
    assert "VPN" in ended.stderr
    assert operator.json("actions", "-d", name) == []
    device.come()
    said = operator.ended("device", "restart", name, "-s", "main", "--now")
    assert said.returncode == 0, said.stderr
    assert f"restart-service main on {name}: done" in said.stderr
    operator.run("device", "purge", name, "--now", "--yes")
    operator.run("device", "identify", name, "--now")
    assert [each.split(" ")[0] for each in device.supervisor.heard] == ["restart", "purge", "blink"]
    device.supervisor.is_locked = True
    locked = operator.ended("device", "reboot", name, "--now")
    assert locked.returncode == 1
    assert "an update lock is held" in locked.stderr
    assert operator.json("actions", "-d", name) == []
    operator.run("device", "reboot", name, "--now", "--wait", code=2)


@pytest.mark.parametrize("action", ["purge", "shutdown"])
def test_what_cannot_be_undone_is_asked_for(operator: Operator, robot: Robot, action: str) -> None:
    name, _ = robot
    ended = operator.ended("device", action, name)
    assert ended.returncode == 2
    assert "add --yes" in ended.stderr
    for answer, count in ((b"n\n", 0), (b"y\n", 1)):
        master, slave = pty.openpty()
        command = [*GANTRY, "device", action, name]
        os.write(master, answer)
        subprocess.run(command, stdin=slave, stdout=slave, stderr=slave, env=operator.variables)
        shown = os.read(master, 10_000).decode()
        os.close(slave)
        os.close(master)
        assert name in shown
        assert len(operator.json("actions", "-d", name)) == count


def test_usage(operator: Operator, robot: Robot) -> None:
    name, _ = robot
    assert operator.ended("device", "reboot", name, "--expires", "soon").returncode == 2
    refused = operator.ended("device", "reboot", name, "--expires", "60d")
    assert refused.returncode == 1
    assert "30 days" in refused.stderr
    unknown = operator.ended("device", "stop-service", name, "camera")
    assert unknown.returncode == 1
    assert "no service 'camera'" in unknown.stderr
    operator.run("device", "reboot", "nobody's", code=3)


def test_the_journal(operator: Operator, robot: Robot) -> None:
    name, device = robot
    ended = operator.ended("device", "journal", name)
    assert ended.returncode == 5
    device.come()
    with operator.running("device", "journal", name, "-f", "-u", "NetworkManager") as following:
        for number in range(1, 6):
            assert following.stdout.readline() == f"line {number}\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 0
        assert "Traceback" not in following.stderr.read()


def test_a_public_url(operator: Operator, robot: Robot) -> None:
    name, device = robot
    ended = operator.ended("device", "public-url", name)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--on gives it one" in ended.stderr
    url = f"https://{device.device.uuid}.devices.devbots.gantry.internal:8443\n"
    assert operator.run("device", "public-url", name, "--on") == url
    assert operator.run("device", "public-url", name) == url
    (row,) = [each for each in operator.json("devices") if each["name"] == name]
    assert row["is_web_accessible"] is True
    assert operator.run("device", "public-url", name, "--off") == ""
    operator.run("device", "public-url", name, code=1)


def test_the_list_says_who_can_be_reached(operator: Operator, robot: Robot) -> None:
    name, device = robot

    def line() -> str:
        (found,) = [each for each in operator.run("devices").splitlines() if name in each]
        return found

    assert " up " not in line()
    assert " down " not in line()
    device.come()
    assert " up " in line()
    (row,) = [each for each in operator.json("devices") if each["name"] == name]
    assert row["is_vpn_connected"] is True
    assert isinstance(row["vpn_since"], str)
    device.go()
    assert " down " in line()


def test_login_keeps_where_tunnels_begin(operator: Operator) -> None:
    kept = json.loads(operator.session.read_text())
    assert kept["tunnel"] == "tunnel.devbots.gantry.internal:1194"


def test_ports_that_members_reach(
    operator: Operator, person: tuple[Operator, Fleet], robot: Robot
) -> None:
    name, slug = robot[0], person[1].application["slug"]

    def shown() -> list[str | None]:
        return [each["ports"] for each in operator.json("ports", "-d", name)]

    assert shown() == [None, None]
    operator.run("ports", "set", "22222,80", "-a", slug)
    assert shown() == [None, "80,22222"]
    assert "as its fleet" in operator.run("ports", "-d", name)
    operator.run("ports", "set", "none", "-d", name)
    assert shown() == ["", "80,22222"]
    operator.run("ports", "set", "all", "-d", name)
    assert shown() == ["1-65535", "80,22222"]
    wrong = operator.ended("ports", "set", "ssh", "-d", name)
    assert wrong.returncode != 0
    assert "such as 80,8000-8010" in wrong.stderr
    operator.run("ports", "clear", "-d", name)
    operator.run("ports", "clear", "-a", slug)
    assert shown() == [None, None]
