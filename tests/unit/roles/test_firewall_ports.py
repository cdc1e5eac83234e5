"""The sets of open ports, by variant and with applications' ports; and what is no port."""

import importlib.util
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[3] / "roles/firewall/filter_plugins/firewall.py"
spec = importlib.util.spec_from_file_location("firewall_filters", PLUGIN)
assert spec
assert spec.loader
firewall = importlib.util.module_from_spec(spec)
spec.loader.exec_module(firewall)


@pytest.mark.parametrize(
    ("variant", "tcp"),
    [
        ("production", ["22222"]),
        ("development", ["2377", "22222", "48484"]),
        ("standalone", ["2377", "22222"]),
    ],
)
def test_a_variant_has_exactly_its_ports(variant: str, tcp: list[str]) -> None:
    assert firewall.open_ports(variant, []) == {"tcp": tcp, "udp": ["5353"]}


def test_ports_of_applications_come_to_them() -> None:
    ports = ["tcp/80", "udp/5000-5010", "tcp/443"]
    assert firewall.open_ports("production", ports) == {
        "tcp": ["80", "443", "22222"],
        "udp": ["5000-5010", "5353"],
    }


@pytest.mark.parametrize(
    ("ports", "tcp"),
    [
        (["tcp/80", "tcp/80"], ["80", "22222"]),
        (["tcp/80", "tcp/81"], ["80-81", "22222"]),
        (["tcp/80-90", "tcp/85-100", "tcp/82"], ["80-100", "22222"]),
        (["tcp/22000-23000"], ["22000-23000"]),
        (["tcp/1-65535"], ["1-65535"]),
        (["tcp/90-90"], ["90", "22222"]),
    ],
)
def test_sets_have_no_overlaps(ports: list[str], tcp: list[str]) -> None:
    assert firewall.open_ports("production", ports)["tcp"] == tcp


@pytest.mark.parametrize(
    "port",
    [
        "80",
        80,
        "tcp/0",
        "tcp/65536",
        "tcp/99999",
        "sctp/80",
        "TCP/80",
        "tcp/90-80",
        "tcp/80-",
        "tcp/80,81",
        "tcp/http",
        "tcp/80; accept",
        "tcp/80\n",
        "",
    ],
)
def test_what_is_no_port_is_named(port: object) -> None:
    [problem] = firewall.problems([port, "tcp/80"], [], "10.114.102.1")
    assert problem == (
        f"firewall_application_ports: {port} is no port: write tcp/80, or udp/5000-5010 for a range"
    )


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = firewall.problems(["tcp/0", "udp/x"], ['br"; accept', "br-*", "docker0"], "resolver")
    assert len(found) == 4
    assert found[2] == "'br\"; accept' is no name of an interface"
    assert found[3] == "firewall_resolver is resolver: it must be an IPv4 address"
