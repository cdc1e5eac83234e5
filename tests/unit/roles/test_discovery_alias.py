"""publish_alias.py: which address `resin.local` gets."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "discovery" / "files" / "publish_alias.py"
DENIED = ("docker0", "br-????????????", "veth*")


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_alias", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def link(name: str, *addresses: str, scope: str = "global", kind: str = "ether") -> dict[str, Any]:
    infos = [{"family": "inet", "local": each, "scope": scope} for each in addresses]
    return {"ifname": name, "link_type": kind, "addr_info": infos}


LO = link("lo", "127.0.0.1", "10.114.102.1", kind="loopback")
WIRED, WIRELESS = link("eth0", "192.0.2.7"), link("wlan0", "198.51.100.7")


@pytest.mark.parametrize(
    ("routes", "links", "wanted"),
    [
        ([], [LO], ""),
        ([], [LO, WIRED], "192.0.2.7"),
        ([{"dev": "wlan0", "metric": 600}], [LO, WIRED, WIRELESS], "198.51.100.7"),
        (
            [{"dev": "wlan0", "metric": 600}, {"dev": "eth0", "metric": 100}],
            [LO, WIRED, WIRELESS],
            "192.0.2.7",
        ),
        # A route of the VPN's, whose device says nothing of the local network.
        ([{"dev": "resin-vpn"}], [LO, WIRED], "192.0.2.7"),
        ([], [LO, link("eth0", "169.254.3.4", scope="link"), WIRELESS], "198.51.100.7"),
        ([], [link("eth0", "192.0.2.7", "192.0.2.8")], "192.0.2.7"),
        ([], [link("docker0", "172.17.0.1"), link("br-0123456789ab", "172.18.0.1")], ""),
    ],
)
def test_the_address_is_that_of_the_best_default_route(
    program: ModuleType, routes: list[dict[str, Any]], links: list[dict[str, Any]], wanted: str
) -> None:
    assert program.address_of(routes, links, DENIED) == wanted
