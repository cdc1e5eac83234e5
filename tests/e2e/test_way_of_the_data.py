"""What a user does with a fleet that runs, in the order that they do it, to its end."""

import json
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.applications import write_ballast, write_broken, write_ticker
from tests.e2e.conftest import quickstart
from tests.e2e.looks import DEVICE, application_container, logged
from tests.fleet_under_test import ROOT, FleetUnderTest, Repository, wait_for

# What does not grow by itself while a fleet runs.
KEPT_TABLES = ["user", "user__has__public_key", "application", "device", "release", "image"]
LATE = "alphabots-2"


@pytest.fixture(scope="module")
def ticker(alpha: FleetUnderTest) -> Repository:
    return alpha.repository("ticker")


def ticks(messages: list[str], version: str) -> list[int]:
    """The numbers that the ticker of this version printed, from its last start on."""
    start = max(n for n, line in enumerate(messages) if line.startswith(f"version {version} "))
    found = (re.fullmatch(r"tick (\d+)", line) for line in messages[start:])
    return [int(match[1]) for match in found if match]


def test_a_second_up_changes_nothing(alpha: FleetUnderTest) -> None:
    ids = ("docker", "ps", "--no-trunc", "-q", "--filter", f"label=gantry.fleet={alpha.name}")
    before = alpha.run(*ids).stdout
    started = time.monotonic()
    output = quickstart(alpha, "up")
    print(f"second up: {time.monotonic() - started:.1f} s")
    assert "pushed already" in output
    assert alpha.run(*ids).stdout == before


def test_a_variable_restarts_the_service_with_it(alpha: FleetUnderTest) -> None:
    before = application_container(alpha, DEVICE)
    alpha.gantry("env", "set", "OT_SMOOTHIE_ID=smoothie-e2e")

    def changed() -> str | None:
        container = application_container(alpha, DEVICE)
        return container if container and container != before else None

    container = wait_for("a new container", changed, 120)
    environment = alpha.in_device(DEVICE, "docker", "exec", container, "env").splitlines()
    assert "OT_SMOOTHIE_ID=smoothie-e2e" in environment
    uuid = alpha.device(DEVICE)["uuid"]
    assert {f"RESIN_DEVICE_UUID={uuid}", f"BALENA_DEVICE_UUID={uuid}"} <= set(environment)


def test_a_second_push_replaces_the_release(alpha: FleetUnderTest, ticker: Repository) -> None:
    write_ticker(ticker.folder, "one")
    commit = ticker.commit("one")
    output = ticker.push("--force")
    assert commit[:7] in output
    alpha.wait_until_runs(DEVICE, commit)
    wait_for("the ticker's lines", lambda: "tick 3" in logged(alpha, DEVICE), 60)
    first = next(line for line in logged(alpha, DEVICE) if line.startswith("version one"))
    assert "on aarch64" in first
    assert alpha.device(DEVICE)["uuid"] in first


def test_a_failing_push_is_rejected_and_changes_nothing(
    alpha: FleetUnderTest, ticker: Repository
) -> None:
    before = application_container(alpha, DEVICE)
    target = alpha.device(DEVICE)["target_commit"]
    write_broken(ticker.folder)
    broken = ticker.commit("broken")
    output = ticker.push(check=False)
    assert "the flux capacitor is missing" in output
    assert "rejected" in output
    ticker.git("reset", "-q", "--hard", "HEAD~1")
    assert ticker.git("ls-remote", alpha.name, "main").split()[0] == target != broken
    releases = {each["commit"]: each["status"] for each in alpha.gantry_json("releases")}
    assert releases[broken] == "failed"
    assert alpha.device(DEVICE)["target_commit"] == target
    assert application_container(alpha, DEVICE) == before


def test_a_device_that_joins_late_downloads_at_boot(
    alpha: FleetUnderTest, ticker: Repository
) -> None:
    alpha.gantry("device", "run", "--fleet", alpha.name, "--name", LATE)
    alpha.wait_until_runs(LATE, ticker.git("rev-parse", "HEAD"), seconds=300)
    wait_for("its lines", lambda: "tick 3" in logged(alpha, LATE), 60)


def test_two_services_work_together_in_an_application_of_their_own(
    alpha: FleetUnderTest,
) -> None:
    name = "alphabots-pair"
    alpha.gantry("fleets", "create", "pairbots")
    repository = alpha.repository("pair", "pairbots")
    shutil.copytree(ROOT / "examples" / "two-services", repository.folder, dirs_exist_ok=True)
    commit = repository.commit("two services")
    output = repository.push()
    assert re.search(r"services +web,? worker", output), output
    joins = ("--application", "admin/pairbots", "--name", name)
    alpha.gantry("device", "run", "--fleet", alpha.name, *joins)
    alpha.wait_until_runs(name, commit, seconds=300)
    read = (
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1/readings').read().decode())"
    )

    def readings() -> str | None:
        answer = alpha.in_device(name, "python3", "-c", read, check=False)
        return answer if answer.startswith("[{") else None

    assert "number" in wait_for("readings from the worker by way of web", readings, 90)
    # The fleet's other devices go on with what is theirs.
    assert alpha.device(DEVICE)["commit"] != commit
    alpha.gantry("device", "stop", name)
    alpha.gantry("devices", "rm", name, "--yes")
    assert alpha.device(name) == {}


def test_a_device_killed_in_mid_download_finishes_after_its_start(
    alpha: FleetUnderTest, ticker: Repository
) -> None:
    write_ticker(ticker.folder, "two")
    write_ballast(ticker.folder, 150)
    commit = ticker.commit("two, with ballast")
    journal = ("journalctl", "-u", "gantry-supervisor", "--no-pager", "-o", "cat")
    seen = alpha.in_device(LATE, *journal).count("Downloading")
    pusher = threading.Thread(target=ticker.push)
    pusher.start()
    wait_for(
        "the download to begin",
        lambda: alpha.in_device(LATE, *journal).count("Downloading") > seen,
        600,
        every=0.2,
    )
    alpha.run("docker", "kill", f"gantry-device-{LATE}")
    pusher.join()
    assert alpha.device(LATE)["commit"] != commit
    alpha.run("docker", "start", f"gantry-device-{LATE}")
    alpha.wait_until_runs(LATE, commit, seconds=300)
    alpha.wait_until_runs(DEVICE, commit, seconds=60)
    alpha.gantry("device", "stop", LATE)


def test_api_and_logs_killed_come_back_and_no_line_is_lost(
    alpha: FleetUnderTest, ticker: Repository
) -> None:
    wait_for("the ticker", lambda: len(ticks(logged(alpha, DEVICE), "two")) > 20, 60)
    before = application_container(alpha, DEVICE)
    for service in ("api", "logs"):
        name = f"gantry-{alpha.name}-{service}"
        pid = alpha.run("docker", "inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
        alpha.run("kill", "-9", pid)
    alpha.run("docker", "stop", f"gantry-{alpha.name}-logs")
    time.sleep(10)
    alpha.run("docker", "start", f"gantry-{alpha.name}-logs")
    reached = time.monotonic()
    last = max(ticks(logged_when_back(alpha), "two"))

    def caught_up() -> bool:
        return max(ticks(logged_when_back(alpha), "two")) > last + 100

    wait_for("the lines of the outage", caught_up, 120, every=3)
    numbers = ticks(logged(alpha, DEVICE), "two")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    print(f"caught up {time.monotonic() - reached:.0f} s after the logs came back")
    assert application_container(alpha, DEVICE) == before
    # What is pushed after the outage arrives: state and streams are whole again. By delta, however
    # long it takes to make one.
    alpha.gantry("env", "set", "RESIN_SUPERVISOR_DELTA_WAIT_TIMEOUT=600000")
    write_ticker(ticker.folder, "three")
    commit = ticker.commit("three, with the same ballast")
    ticker.push()
    alpha.wait_until_runs(DEVICE, commit)


def test_what_differs_was_downloaded_and_is_told_of(
    alpha: FleetUnderTest, ticker: Repository, tmp_path: Path
) -> None:
    journal = alpha.in_device(DEVICE, "journalctl", "-u", "gantry-supervisor", "-o", "cat")
    assert "Downloading delta for image" in journal
    update = alpha.gantry_json("delta", "stats")[-1]
    assert update["release"] == ticker.git("rev-parse", "HEAD")
    assert update["state"] == "ready"
    assert update["downloads"] == 1
    assert update["whole"] > 150_000_000
    assert update["delta"] < 100_000
    # It takes room too, and is needed.
    space = alpha.gantry_json("registry", "space")["deltas"]
    assert (space["error"], space["goes"]) == (None, 0)
    assert space["count"] >= 1
    assert space["size"] >= update["delta"]
    picture = tmp_path / "updates.svg"
    assert update["release"][:7] in alpha.gantry("delta", "stats", "--svg", str(picture))
    assert f"{update['release'][:7]}</text>" in picture.read_text()
    # What comes next is small again.
    (ticker.folder / "ballast.bin").unlink()


def logged_when_back(fleet: FleetUnderTest) -> list[str]:
    """The log, as soon as the service answers."""

    def attempt() -> list[str] | None:
        done = fleet.gantry("logs", DEVICE, "-n", "5000", "--json", check=False)
        if not done.startswith("{"):
            return None
        return logged(fleet, DEVICE)

    return wait_for("the log service", attempt, 60)


def test_two_fleets_do_not_see_each_other(alpha: FleetUnderTest, beta: FleetUnderTest) -> None:
    beta.gantry("up", beta.name)
    outputs = json.loads(beta.gantry("outputs", beta.name, "--json", "--show-secrets"))
    introduce = (
        "import json, sys; from gantry.deployment import quickstart as q; "
        "o = json.load(sys.stdin); q.introduce(q.fleet_of(o['fleet'], o), o)"
    )
    beta.run_with_input(json.dumps(outputs), introduce)
    beta.gantry("device", "run", "--fleet", beta.name, "--name", "betabots-1")
    repository = beta.repository("ticker")
    write_ticker(repository.folder, "beta")
    commit = repository.commit("beta")
    repository.push()
    beta.wait_until_runs("betabots-1", commit, seconds=300)
    assert [each["name"] for each in beta.gantry_json("devices")] == ["betabots-1"]
    assert DEVICE in [each["name"] for each in alpha.gantry_json("devices")]
    assert "betabots-1" not in [each["name"] for each in alpha.gantry_json("devices")]
    assert commit not in [each["commit"] for each in alpha.gantry_json("releases")]
    assert not any("version beta" in line for line in logged(alpha, DEVICE))
    # The keys of one fleet open nothing of the other.
    image = beta.in_device("betabots-1", "docker", "ps", "--format", "{{.Image}}").splitlines()
    foreign = next(each for each in image if "/v2/" in each)
    edge = (f"gantry-{beta.name}-edge", f"gantry-device-{DEVICE}")
    alpha.run("docker", "network", "connect", *edge)
    refused = alpha.in_device(DEVICE, "docker", "pull", foreign, check=False)
    alpha.run("docker", "network", "disconnect", *edge)
    assert "unauthorized" in refused or "x509" in refused or "denied" in refused, refused
    session = json.loads((alpha.workspace / "config" / alpha.name / "session.json").read_text())
    answer = beta.ask("/v7/device", token=session["token"])
    assert answer == 401


def test_the_state_survives_destroy_and_up(alpha: FleetUnderTest, ticker: Repository) -> None:
    uuid = alpha.device(DEVICE)["uuid"]
    refused = alpha.gantry("destroy", alpha.name, "--yes", check=False)
    assert f"gantry device stop {DEVICE} --keep" in refused
    alpha.gantry("device", "stop", DEVICE, "--keep")
    alpha.gantry("destroy", alpha.name, "--yes")
    left = ("--filter", f"label=gantry.fleet={alpha.name}")
    services = alpha.run("docker", "ps", "-aq", *left, "--filter", "label=gantry.service").stdout
    assert services == ""
    output = quickstart(alpha, "up")
    assert "left as it is" in output
    found = alpha.device(DEVICE)
    assert found["uuid"] == uuid
    assert found["commit"] == ticker.git("rev-parse", "HEAD")
    assert any("version three" in line for line in logged(alpha, DEVICE))


def test_a_backup_brings_all_of_it_back(
    alpha: FleetUnderTest, ticker: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    before = alpha.device(DEVICE)
    password = (alpha.workspace / "config" / alpha.name / "admin-password").read_text()
    tables = row_counts(alpha)
    printed = alpha.gantry("backup", alpha.name, "--to", str(folder))
    assert "database" in printed
    assert f"{alpha.name} is in {folder}" in printed
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    assert "deployed" in alpha.gantry("restore", alpha.name, str(folder), check=False)

    alpha.gantry("device", "stop", DEVICE, "--keep")
    alpha.gantry("destroy", alpha.name, "--yes")
    refused = alpha.gantry("restore", alpha.name, str(folder), check=False)
    removal = next(line for line in refused.splitlines() if line.startswith("  docker volume rm "))
    alpha.run(*removal.split())

    alpha.gantry("restore", alpha.name, str(folder))
    quickstart(alpha, "up")
    found = alpha.wait_until_runs(DEVICE, before["commit"])
    assert found["uuid"] == before["uuid"]
    after = row_counts(alpha)
    assert {table: after[table] for table in KEPT_TABLES} == {
        table: tables[table] for table in KEPT_TABLES
    }
    assert (alpha.workspace / "config" / alpha.name / "admin-password").read_text() == password
    assert any("version three" in line for line in logged(alpha, DEVICE))
    assert ticker.git("ls-remote", alpha.name, "main").split()[0] == before["commit"]
    write_ticker(ticker.folder, "four")
    commit = ticker.commit("four")
    ticker.push()
    alpha.wait_until_runs(DEVICE, commit)


def row_counts(fleet: FleetUnderTest) -> dict[str, int]:
    """How many rows each table of the fleet's database has."""
    query = (
        "select table_name || ' ' || (xpath('/row/n/text()', query_to_xml("
        "format('select count(*) as n from %I', table_name), false, true, '')))[1]::text"
        " from information_schema.tables where table_schema = 'public'"
    )
    database = ("docker", "exec", f"gantry-{fleet.name}-postgres", "psql", "-U", "postgres")
    lines = fleet.run(*database, "-d", "gantry", "-Atc", query).stdout.splitlines()
    return {table: int(count) for table, count in (line.split() for line in lines)}


def test_down_leaves_only_the_data(alpha: FleetUnderTest) -> None:
    quickstart(alpha, "down")
    left = ("--filter", f"label=gantry.fleet={alpha.name}")
    assert alpha.run("docker", "ps", "-aq", *left).stdout == ""
    assert alpha.run("docker", "network", "ls", "-q", *left).stdout == ""
    assert alpha.run("docker", "volume", "ls", "-q", *left).stdout != ""
