"""The Pulumi CLI with its docker provider and the built-in engine make the same fleet."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet_under_test import FleetUnderTest, make_fleet, remove_fleet

pytestmark = pytest.mark.skipif(
    shutil.which("pulumi") is None,
    reason="the Pulumi CLI is not installed: nothing to compare the built-in engine with",
)

SERVICES = ("postgres", "nats", "registry", "api", "logs", "builder", "git", "proxy")
# What differs from one making to the next, whoever makes: ids, times, addresses, paths of the
# engine, and the secrets of a fleet that was made anew.
VOLATILE = re.compile(
    r"^(Id|Created|State|ResolvConfPath|HostnamePath|HostsPath|LogPath|GraphDriver|RestartCount|ExecIDs"
    r"|SandboxID|SandboxKey|EndpointID|NetworkID|Gateway|IPAddress|IPPrefixLen|MacAddress|CreatedAt|Containers"
    r"|IPAM|DNSNames)$"
)
CONTAINER_ID = re.compile(r"^[0-9a-f]{12}$")


def stable(value: Any) -> Any:
    """`docker inspect` without what is volatile, and with sets in one order."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in sorted(value.items()) if not VOLATILE.match(k)}
    if isinstance(value, list):
        kept = [stable(v) for v in value if not CONTAINER_ID.match(str(v))]
        return sorted(kept, key=lambda each: json.dumps(each, sort_keys=True))
    return value


def inspected(fleet: FleetUnderTest) -> dict[str, Any]:
    """What Docker says of each container, network and volume of the fleet, by name."""
    found: dict[str, Any] = {}
    label = ["--filter", f"label=gantry.fleet={fleet.name}"]
    for kind, listing, form in (
        ("container", ["ls", "-a"], "{{.Names}}"),
        ("network", ["ls"], "{{.Name}}"),
        ("volume", ["ls"], "{{.Name}}"),
    ):
        names = fleet.run("docker", kind, *listing, *label, "--format", form).stdout.split()
        for name in sorted(names):
            (document,) = json.loads(fleet.run("docker", kind, "inspect", name).stdout)
            found[f"{kind} {name}"] = stable(document)
    return found


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two documents differ: `path: value of one != value of the other`."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(set(one) | set(other))
        found = (differences(one.get(key), other.get(key), f"{path}/{key}") for key in keys)
        return [line for lines in found for line in lines]
    return [] if one == other else [f"{path}: {one!r} != {other!r}"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetUnderTest]:
    made = make_fleet("paritybots", tmp_path)
    remove_fleet(made)
    try:
        yield made
    finally:
        remove_fleet(made)


@pytest.mark.timeout(900)
def test_both_engines_make_the_same_fleet(fleet: FleetUnderTest) -> None:
    fleet.gantry("up", fleet.name, "--engine", "pulumi")
    by_pulumi = inspected(fleet)
    assert {f"container gantry-{fleet.name}-{each}" for each in SERVICES} <= set(by_pulumi)
    again = fleet.gantry("preview", fleet.name, "--engine", "pulumi")
    assert "unchanged" in again
    assert not re.search(r"to (create|update|replace|delete)", again)
    fleet.gantry("destroy", fleet.name, "--yes", "--engine", "pulumi")

    fleet.gantry("up", fleet.name, "--engine", "builtin")
    assert differences(by_pulumi, inspected(fleet)) == []
    assert "no change" in fleet.gantry("preview", fleet.name, "--engine", "builtin")
    fleet.gantry("destroy", fleet.name, "--yes", "--engine", "builtin")
