"""A Raspberry Pi OS becomes a device of a fleet and lives as one, on a whole emulated machine.

The tests build on one another: each goes on with the machine as the one before left it.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.test_first_push import POST, PROTOCOL
from tests.fleet_under_test import ROOT, FleetUnderTest, Repository, wait_for
from tests.vm.machine import ADDRESS, HOST_ADDRESS, Machine

APPLICATION = "docker ps --quiet --filter label=io.balena.service-name=main"


@pytest.fixture(autouse=True)
def timed(request: pytest.FixtureRequest) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"    {request.node.name}: {time.monotonic() - start:.0f} s", flush=True)


@pytest.fixture(scope="module")
def example(fleet: FleetUnderTest) -> Repository:
    repository = fleet.repository("example")
    shutil.copytree(ROOT / "examples" / "opentrons-api", repository.folder, dirs_exist_ok=True)
    return repository


@dataclass(frozen=True, slots=True)
class Run:
    """A playbook's run: what it printed, and its recap's counts (ok, changed, failed …)."""

    status: int
    output: str

    @property
    def counts(self) -> dict[str, int]:
        (recap,) = re.findall(rf"^{ADDRESS}\s*: (ok=.*)$", self.output, re.MULTILINE)
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap)}


def play(cloud: FleetUnderTest, machine: Machine, playbook: str, /, **settings: Any) -> Run:
    """`ansible-playbook` as an operator types it, on the machine alone."""
    file = cloud.workspace / "settings.json"
    file.write_text(json.dumps(settings))
    words = [str(ROOT / ".venv" / "bin" / "ansible-playbook"), playbook]
    words += ["-i", f"{ADDRESS},", "-u", "pi", "-e", f"@{file}"]
    environment = cloud.environment | {
        "ANSIBLE_SSH_COMMON_ARGS": f"-F {machine.ssh_config}",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    output: list[str] = []
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            output.append(line)
            if line.startswith(("TASK", "changed:", "fatal:")):
                print("   ", line.rstrip()[:110], flush=True)
    return Run(process.returncode, "".join(output))


def provision(fleet: FleetUnderTest, machine: Machine, /, **settings: Any) -> Run:
    """provision.yml with what this machine and network need; it must end well."""
    run = play(
        fleet,
        machine,
        "provision.yml",
        fleet=fleet.name,
        fleet_address=HOST_ADDRESS,
        # qemu's board is none that we know.
        device_config_forced_device_type="raspberrypi3-64",
        operator_keys=[machine.key.with_suffix(".pub").read_text().strip()],
        registration_seconds=1800,
        **settings,
    )
    assert run.status == 0, run.output
    return run


def the_device(fleet: FleetUnderTest, application: str = "") -> dict[str, Any]:
    (device,) = fleet.gantry_json("devices", "-a", application or fleet.name)
    found: dict[str, Any] = device
    return found


def logged(fleet: FleetUnderTest) -> list[str]:
    text = fleet.gantry("logs", the_device(fleet)["name"], "-n", "5000", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    return [str(row["message"]) for row in rows if not row.get("isSystem")]


def test_it_boots_as_a_plain_system(machine: Machine) -> None:
    machine.wait_for_login("pi")
    said = machine.ssh("uname -m; dpkg --print-architecture; id -un", user="pi").stdout
    assert said.split() == ["aarch64", "arm64", "pi"]
    state = machine.ssh("systemctl is-system-running --wait", user="pi", check=False)
    assert state.stdout.strip() == "running"


def test_provision_makes_a_device_of_it(fleet: FleetUnderTest, machine: Machine) -> None:
    run = provision(fleet, machine)
    assert run.counts["changed"] > 0
    device = the_device(fleet)
    assert device["is_online"]
    assert device["device_type"] == "raspberrypi3-64"
    assert machine.ssh("systemctl is-system-running --wait").stdout.strip() == "running"
    # Port 22 is closed now; root alone comes in.
    assert machine.ssh("true", user="pi", check=False).returncode == 255


def test_once_more_changes_nothing(fleet: FleetUnderTest, machine: Machine) -> None:
    assert provision(fleet, machine).counts["changed"] == 0
    assert the_device(fleet)["is_online"]


def test_the_example_runs_there(
    fleet: FleetUnderTest, machine: Machine, example: Repository
) -> None:
    commit = example.commit("the example")
    example.push(timeout=1800)
    fleet.wait_until_runs(the_device(fleet)["name"], commit, seconds=2400)
    container = machine.ssh(APPLICATION).stdout.strip()
    assert machine.ssh(f"docker exec {container} uname -m").stdout.strip() == "aarch64"
    machine.ssh(f"docker exec -i {container} sh -c 'cat > /tmp/post.py'", stdin=POST)
    posted = machine.ssh(f"docker exec -i {container} python3 /tmp/post.py", stdin=PROTOCOL)
    assert "Picking up tip from A1" in posted.stdout
    wait_for("a line of the application", lambda: logged(fleet), 120)


def test_it_comes_back_after_a_reboot(fleet: FleetUnderTest, machine: Machine) -> None:
    before = len(logged(fleet))
    uuid = the_device(fleet)["uuid"]
    machine.reboot()
    wait_for("the application", lambda: machine.ssh(APPLICATION, check=False).stdout, 900)
    wait_for("the device to be online", lambda: the_device(fleet)["is_online"], 300)
    assert the_device(fleet)["uuid"] == uuid
    wait_for("its new lines", lambda: len(logged(fleet)) > before, 600)
    failed = machine.ssh("systemctl list-units --failed --no-legend --plain").stdout
    assert failed == ""


def test_what_the_supervisor_takes_is_measured(machine: Machine) -> None:
    """Figures for docs/benchmarks.md, on a real processor's page tables and allocator, with nothing
    to do but its fleet's own poll interval."""
    pid = machine.ssh("docker inspect --format '{{.State.Pid}}' gantry_supervisor").stdout.strip()
    machine.ssh("sleep 90")  # a release that has just begun is watched for a minute
    ticks = f"cut -d' ' -f14,15 /proc/{pid}/stat; sleep 120; cut -d' ' -f14,15 /proc/{pid}/stat"
    before, after = (sum(map(int, line.split())) for line in machine.ssh(ticks).stdout.splitlines())
    status = machine.ssh(f"cat /proc/{pid}/status; cat /proc/{pid}/smaps_rollup").stdout
    found = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines()
             if line.endswith(" kB")}  # fmt: skip
    print(f"    supervisor: {found['VmRSS'] / 1024:.1f} MB resident, {found['Pss'] / 1024:.1f} PSS")
    print(f"    supervisor: {(after - before) / 120:.2f} % of a core")
    print("   ", machine.ssh("free -m | sed -n 2p").stdout.strip())
    assert found["VmRSS"] > 0
    assert after >= before


def test_a_supervisor_that_is_not_to_be_had_leaves_the_old_one(
    fleet: FleetUnderTest, machine: Machine
) -> None:
    inspect = "docker inspect --format '{{.Id}} {{.State.StartedAt}}' gantry_supervisor"
    before = machine.ssh(inspect).stdout
    run = play(fleet, machine, "playbooks/update-supervisor.yml", version="99.0.0")
    assert run.status != 0
    assert "supervisor:99.0.0" in run.output
    assert "Traceback" not in run.output
    assert machine.ssh(inspect).stdout == before


def test_a_factory_reset_keeps_who_it_is(fleet: FleetUnderTest, machine: Machine) -> None:
    device = the_device(fleet)
    machine.ssh("touch /mnt/state/a-file /mnt/data/a-file")
    refused = play(fleet, machine, "playbooks/factory-reset.yml")
    assert "Say so with -e confirm=yes" in refused.output
    run = play(fleet, machine, "playbooks/factory-reset.yml", confirm="yes")
    assert run.status == 0, run.output
    assert machine.ssh("ls /mnt/state/a-file /mnt/data/a-file", check=False).stdout == ""
    fleet.wait_until_runs(device["name"], device["commit"], seconds=2400)
    assert the_device(fleet)["uuid"] == device["uuid"]


def test_it_moves_to_another_fleet_and_says_so(fleet: FleetUnderTest, machine: Machine) -> None:
    fleet.gantry("fleets", "create", "otherbots", "--type", "raspberrypi3-64")
    run = provision(fleet, machine, application="otherbots")
    assert f"{ADDRESS} moves from https://api.{fleet.host}" in run.output
    moved = wait_for("the device there", lambda: the_device(fleet, "otherbots"), 60)
    assert moved["is_online"]
    wait_for("what it ran to end", lambda: not machine.ssh(APPLICATION).stdout, 300)
    wait_for("its old record to be offline", lambda: not the_device(fleet)["is_online"], 300)


def test_deprovisioned_it_is_nobodys(fleet: FleetUnderTest, machine: Machine) -> None:
    run = play(
        fleet, machine, "playbooks/deprovision.yml",
        fleet=fleet.name, application="otherbots", confirm="yes",
    )  # fmt: skip
    assert run.status == 0, run.output
    assert fleet.gantry_json("devices", "-a", "otherbots") == []
    assert machine.ssh("docker ps --all --quiet").stdout == ""
    assert "uuid" not in json.loads(machine.ssh("cat /mnt/boot/config.json").stdout)
    # It fails where there are none.
    listing = "systemctl list-unit-files 'gantry-supervisor*' --no-legend"
    assert machine.ssh(listing, check=False).stdout == ""
