"""The worst queries, on a database of 10,000 devices and 1,000,000 rows of history.

    .venv/bin/python -m tests.benchmarks.queries [--random 300] [--slowest 15]

Queries that clients of the family send, queries that are made to be bad, and random ones that the
grammar of the tests makes, as the administrator (who sees all), as a user of one organization, and
as a device. The api is a process; PostgreSQL is the fleet's image, settings and limit of memory.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from gantry.api.odata.resources import RESOURCES
from tests.benchmarks import machine
from tests.benchmarks.devices import CloudSide, cloud_side
from tests.odata_texts import SETTINGS, conditions, expansions

AIM_SECONDS = 2.0
PASSWORD = "long enough"
DEVICES = 10_000
SEED = Path(__file__).with_name("queries.sql")
HISTORY = (
    "audit_entry",
    "image_install",
    "service_install",
    "device_tag",
    "device_environment_variable",
    "release",
    "image",
    "release_image",
    "release_tag",
)

# What the family's SDK and CLI send, and what a bad day makes of it.
QUERIES: Mapping[str, str] = {
    "all devices": "device",
    "devices as a list shows them": "device?$select=uuid,device_name,is_online,status&$orderby="
    "device_name asc&$expand=is_of__device_type($select=slug),belongs_to__application($select="
    "app_name,slug),is_running__release($select=id,commit)",
    "one device with what it runs": "device(uuid='{uuid}')?$expand=image_install($select=id,"
    "download_progress,status,install_date;$filter=status ne 'deleted';$expand=image($select=id;"
    "$expand=is_a_build_of__service($select=id,service_name)),is_provided_by__release($select=id,"
    "commit)),device_tag,device_environment_variable",
    "devices with all that is installed": "device?$expand=image_install($expand=image($expand="
    "is_a_build_of__service),is_provided_by__release)&$top=100",
    "fleets with counts of devices": "application?$expand=owns__device/$count,"
    "should_be_running__release&$orderby=owns__device/$count desc",
    "fleets with devices that are online": "application?$select=slug&$filter=owns__device/any("
    "d:d/is_online eq true)&$expand=owns__device/$count($filter=is_online eq true)",
    "devices by a tag": "device?$filter=device_tag/any(t:t/tag_key eq 'tag1' and t/value eq 'v3')",
    "devices without a tag": "device?$filter=not(device_tag/any(t:t/tag_key eq 'tag9'))",
    "devices whose name holds": "device?$filter=contains(tolower(device_name),'bot-99')",
    "devices by what no index has": "device?$filter=cpu_usage gt 90 and memory_usage lt 500&"
    "$orderby=last_connectivity_event desc,device_name",
    "the last page of devices": "device?$orderby=os_version,device_name&$skip=9900&$top=100",
    "how many devices": "device/$count",
    "releases of a fleet": "release?$filter=belongs_to__application/slug eq 'bench/fleet1'&"
    "$orderby=created_at desc&$top=20&$expand=release_tag,contains__image($expand=image)",
    "releases by semver": "release?$filter=revision gt 100&$orderby=semver_major desc,revision",
    "releases with running devices": "release?$filter=is_running_on__device/any()&$expand="
    "is_running_on__device/$count&$select=commit",
    "all installs": "image_install",
    "installs by state": "image_install?$filter=status eq 'Running'&$orderby=install_date desc",
    "how many installs": "image_install/$count",
    "installs of devices that are online": "image_install?$filter=device/any(d:d/is_online eq true "
    "and d/belongs_to__application/any(a:a/slug eq 'bench/fleet1'))&$count=true",
    "installs by their service's name": "image_install?$filter=installs__image/"
    "is_a_build_of__service/service_name eq 'service1'&$orderby=install_date",
    "audit, newest": "audit_entry?$orderby=id desc&$top=100",
    "audit of a row": "audit_entry?$filter=resource eq 'device' and row eq 10007&$orderby=id desc",
    "audit by words": "audit_entry?$filter=contains(row_name,'99')&$orderby=row_name",
    "audit, counted": "audit_entry/$count?$filter=endswith(row_name,'1') and action ne 'delete'",
    "audit, oldest of all": "audit_entry?$orderby=created_at&$skip=500000&$top=10",
    "audit by day": "audit_entry?$filter=day(created_at) eq 3 and hour(created_at) eq 4",
    "variables of all devices": "device_environment_variable?$orderby=value",
    "variables by value": "device_environment_variable?$filter=startswith(value,'abc')&$expand="
    "device($select=uuid)",
    "any within any within all": "application?$filter=owns__device/any(d:d/image_install/all(i:"
    "i/is_provided_by__release/any(r:r/release_tag/any(t:t/value eq 'b3'))))",
    "counts within counts": "application?$expand=owns__device($select=uuid;$expand=image_install/"
    "$count,device_tag/$count;$top=500)",
    "devices by how much they have": "device?$filter=image_install/$count gt 29 and device_tag/"
    "$count ge 4&$orderby=image_install/$count desc",
    "services, all the way down": "service?$expand=is_built_by__image($expand=image_install/$count;"
    "$top=100)",
    "a whole page of everything": "device?$expand=belongs_to__application,is_of__device_type,"
    "device_tag,device_environment_variable,service_install($expand=installs__service),"
    "is_running__release&$top=1000",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """How long an answer took (seconds), how large it was (bytes), and its status."""

    caller: str
    name: str
    seconds: float
    size: int
    status: int


def seed(cloud: CloudSide, container: str) -> int:
    """Fill the database; returns the rows of history."""
    admin = cloud.fleet.user
    made = admin.post("/v7/user", json={"username": "robota", "password": PASSWORD})
    assert made.status_code == 201, made.text
    psql = ["docker", "exec", "-i", container, "psql", "-U", "postgres", "-d", "gantry"]
    command = [*psql, "--quiet", "--single-transaction", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(command, input=SEED.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    subprocess.run([*psql, "-c", "vacuum analyze"], check=True, capture_output=True)
    with psycopg.connect(cloud.api.config["database_url"].replace("+psycopg", "")) as database:
        counts = [
            database.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(each)))
            for each in HISTORY
        ]
        return sum(row[0] for each in counts for row in each)


def callers(cloud: CloudSide) -> dict[str, httpx.Client]:
    """Who asks: all see other rows."""
    device = cloud.fleet.register()
    return {
        "administrator": cloud.fleet.user,
        "user": cloud.api.login("robota", PASSWORD),
        "device": device.client,
    }


def ask(client: httpx.Client, caller: str, name: str, query: str) -> Sample:
    """One query, timed from outside."""
    began = time.monotonic()
    answer = client.get("/v7/" + quote(query, safe="/?&=$(),;':@"), timeout=60)
    return Sample(caller, name, time.monotonic() - began, len(answer.content), answer.status_code)


def known(clients: Mapping[str, httpx.Client]) -> Iterator[Sample]:
    """The queries above, as each caller; the better of two, for caches are warm in a fleet."""
    uuids = {
        caller: client.get("/v7/device?$top=1&$select=uuid").json()["d"][0]["uuid"]
        for caller, client in clients.items()
    }
    for name, query in QUERIES.items():
        for caller, client in clients.items():
            text = query.replace("{uuid}", uuids[caller])
            twice = [ask(client, caller, name, text) for _ in range(2)]
            yield min(twice, key=lambda each: each.seconds)


def random_ones(client: httpx.Client, count: int) -> list[Sample]:
    """Queries of the tests' grammar, over the tables of history."""
    names = ["device", "application", "release", "image_install", "audit_entry", "device_tag"]
    found: list[Sample] = []

    @st.composite
    def queries(draw: st.DrawFn) -> str:
        resource = RESOURCES[draw(st.sampled_from(names))]
        parts = [f"$filter={draw(conditions(resource))}"]
        if resource.navigations and draw(st.booleans()):
            parts.append(f"$expand={draw(expansions(resource))}")
        if draw(st.booleans()):
            parts.append(f"$orderby={draw(st.sampled_from(sorted(resource.fields)))} desc")
        return f"{resource.name}?{'&'.join(parts)}"

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), **SETTINGS)
    @given(queries())
    def run(query: str) -> None:
        found.append(ask(client, "administrator", query, query))

    run()
    return found


def report(samples: list[Sample], slowest: int) -> str:
    """The slowest, and all in three figures."""
    by_time = sorted(samples, key=lambda each: each.seconds, reverse=True)
    rows = [
        [
            each.name if len(each.name) < 100 else f"{each.name[:97]}…",
            each.caller,
            f"{each.seconds * 1000:.0f} ms",
            f"{each.seconds / AIM_SECONDS:.2f}",
            f"{each.size / 1024:.0f} KiB",
            str(each.status),
        ]
        for each in by_time[:slowest]
    ]
    head = ["query", "as", "time", "of 2 s", "answer", "status"]
    middle = by_time[len(by_time) // 2].seconds * 1000
    over = sum(each.seconds > AIM_SECONDS for each in samples)
    return (
        f"{machine.table(head, rows)}\n\n{len(samples)} queries: median {middle:.0f} ms, "
        f"{over} over {AIM_SECONDS:.0f} s\n"
    )


def main() -> int:
    """Take the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", type=int, default=300, help="random queries; default: 300")
    parser.add_argument("--slowest", type=int, default=15, help="rows of each table; default: 15")
    options = parser.parse_args()
    print(f"{machine.describe()}; {time.strftime('%Y-%m-%d')}\n", flush=True)
    before = machine.load()
    with tempfile.TemporaryDirectory() as folder, cloud_side(Path(folder)) as cloud:
        rows = seed(cloud, cloud.database)
        print(f"{DEVICES:,} devices, {rows:,} rows of history\n", flush=True)
        clients = callers(cloud)
        print(report(list(known(clients)), options.slowest), flush=True)
        print(report(random_ones(clients["administrator"], options.random), options.slowest))
    print(f"Load before and after: {before:.1f}, {machine.load():.1f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
