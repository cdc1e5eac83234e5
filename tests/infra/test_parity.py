"""The Pulumi CLI with its docker provider and the built-in engine make the same fleet."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fleet_under_test import GANTRY, FleetUnderTest, make_fleet, remove_fleet

pytestmark = pytest.mark.skipif(
    shutil.which("pulumi") is None,
    reason="the Pulumi CLI is not installed: nothing to compare the built-in engine with",
)

SERVICES = (
    "postgres",
    "nats",
    "registry",
    "deltas",
    "api",
    "logs",
    "builder",
    "git",
    "vpn-1",
    "balancer",
    "proxy",
)
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
            if kind == "container":
                found[f"files of {name}"] = uploaded(name)
    return found


def uploaded(container: str) -> list[str]:
    """Name, mode and owner of each configuration file: `docker inspect` does not tell of them."""
    done = subprocess.run(
        ["docker", "cp", f"{container}:/etc/gantry", "-"], stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return sorted(f"{each.name} {each.mode:o} {each.uid}:{each.gid}" for each in archive)


def identities(fleet: FleetUnderTest) -> set[str]:
    label = f"label=gantry.fleet={fleet.name}"
    listed = fleet.run("docker", "ps", "-q", "--no-trunc", "--filter", label).stdout
    return set(listed.split())


def give_memory(fleet: FleetUnderTest, megabytes: int) -> None:
    """Settings that change the proxy's container and nothing else."""
    path = fleet.workspace / "stacks" / f"Pulumi.{fleet.name}.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["gantry:memory"] = json.dumps({"proxy": megabytes})
    path.write_text(yaml.safe_dump(stack))


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
def test_both_engines_make_and_change_the_same_fleet(fleet: FleetUnderTest) -> None:
    seen = {engine: made_and_changed(fleet, engine) for engine in ("pulumi", "builtin")}
    for by_pulumi, by_us in zip(seen["pulumi"], seen["builtin"], strict=True):
        assert {f"container gantry-{fleet.name}-{each}" for each in SERVICES} <= set(by_pulumi)
        assert differences(by_pulumi, by_us) == []


def made_and_changed(fleet: FleetUnderTest, engine: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one engine makes, and what it makes of that when a setting changes."""

    def up() -> dict[str, Any]:
        fleet.gantry("up", fleet.name, "--engine", engine)
        assert_no_change(fleet, engine)
        return inspected(fleet)

    give_memory(fleet, 512)
    made, before = up(), identities(fleet)
    give_memory(fleet, 640)
    changed = up()
    assert identities(fleet) == before, "a container was replaced for its memory"
    assert len(differences(made, changed)) == 2
    fleet.gantry("destroy", fleet.name, "--yes", "--engine", engine)
    return made, changed


def assert_no_change(fleet: FleetUnderTest, engine: str) -> None:
    foreseen = fleet.gantry("preview", fleet.name, "--engine", engine)
    assert ("unchanged" if engine == "pulumi" else "no change") in foreseen
    assert not re.search(r"to (create|update|replace|delete)", foreseen), foreseen


@pytest.mark.timeout(600)
def test_fleet_moves_to_the_pulumi_cli_by_the_commands_that_are_printed(
    fleet: FleetUnderTest,
) -> None:
    fleet.gantry("up", fleet.name, "--engine", "builtin")
    before = identities(fleet)
    refused = fleet.gantry("up", fleet.name, "--engine", "pulumi", check=False)
    commands = re.findall(r"^  (.*)$", refused, re.MULTILINE)
    assert len(commands) == 4, refused
    config = fleet.workspace / "config"
    environment = fleet.environment | {
        "PATH": f"{GANTRY.parent}:{os.environ['PATH']}",
        # As `make setup` prints them.
        "PULUMI_BACKEND_URL": f"file://{config / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(config / "pulumi-passphrase"),
    }
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True, cwd=fleet.workspace, env=environment)
    assert_no_change(fleet, "pulumi")
    fleet.gantry("up", fleet.name, "--engine", "pulumi")
    assert identities(fleet) == before
    fleet.gantry("destroy", fleet.name, "--yes", "--engine", "pulumi")
    assert not identities(fleet)
