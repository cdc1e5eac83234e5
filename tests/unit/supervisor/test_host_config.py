"""Host name and proxy: the family's bodies, redsocks.conf, and what a loss of power leaves."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.supervisor.config import ConfigFile
from gantry.supervisor.host import HostRequestError, bootfiles, proxy
from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.door import Door
from tests.host_door import ROOT, HostDoor

sys.path.append(str(ROOT / "roles/network/files"))
import network_hook  # type: ignore[import-not-found]

# The published example of PATCH /v1/device/host-config.
PUBLISHED = {
    "network": {
        "proxy": {
            "type": "http-connect",
            "ip": "myproxy.example.com",
            "port": 8123,
            "login": "username",
            "password": "password",
            "noProxy": ["152.10.30.4", "253.1.1.0/16"],
            "dns": "1.1.1.1:53",
        },
        "hostname": "mynewhostname",
    }
}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[HostDoor]:
    one = HostDoor(tmp_path)
    yield one
    one.close()


@pytest.fixture
def host(door: HostDoor, tmp_path: Path) -> DeviceHost:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config.json").write_text('{"uuid": "abc", "unknown": {"kept": 1}}')
    return DeviceHost(Door(door.path), ConfigFile(tmp_path / "boot/config.json"))


def config(tmp_path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / "boot/config.json").read_text())
    return document


def network(host: DeviceHost) -> dict[str, Any]:
    body: dict[str, Any] = asyncio.run(host.host_config())
    assert set(body) == {"network"}
    found: dict[str, Any] = body["network"]
    return found


def patch(host: DeviceHost, **fields: Any) -> None:
    asyncio.run(host.set_host_config({"network": fields}))


def test_without_settings_there_is_a_name_alone(host: DeviceHost) -> None:
    assert network(host) == {"hostname": "quiet-robot"}


def test_the_published_example_is_written_and_read_back(host: DeviceHost, tmp_path: Path) -> None:
    asyncio.run(host.set_host_config(PUBLISHED))
    assert config(tmp_path) == {
        "uuid": "abc",
        "unknown": {"kept": 1},
        "hostname": "mynewhostname",
    }
    assert network(host) == {
        "hostname": "quiet-robot",  # the host takes it up by itself, if it is one
        "proxy": {
            "type": "http-connect",
            "ip": "myproxy.example.com",
            "port": "8123",
            "login": "username",
            "password": "password",
            "dns": "1.1.1.1:53",
            "noProxy": ["152.10.30.4", "253.1.1.0/16"],
        },
        "dns": "1.1.1.1:53",
    }
    # What the host makes of it: the role's own program reads the same file.
    conf = network_hook.redsocks_conf((tmp_path / "boot/system-proxy/redsocks.conf").read_text())
    for line in ("type = http-connect;", "ip = myproxy.example.com;", 'login = "username";'):
        assert line in conf
    listed = network_hook.direct((tmp_path / "boot/system-proxy/no_proxy").read_text())
    assert "152.10.30.4/32" in listed


def test_what_is_not_named_stays(host: DeviceHost, tmp_path: Path) -> None:
    asyncio.run(host.set_host_config(PUBLISHED))
    patch(host, hostname="other")
    patch(host, proxy={"port": "1080"})
    patch(host, proxy={"noProxy": ["10.9.9.9"]})
    found = network(host)["proxy"]
    assert (found["type"], found["port"], found["noProxy"]) == (
        "http-connect",
        "1080",
        ["10.9.9.9"],
    )
    assert config(tmp_path)["hostname"] == "other"


@pytest.mark.parametrize("empty", [{}, None, False])
def test_what_is_empty_goes(host: DeviceHost, tmp_path: Path, empty: object) -> None:
    asyncio.run(host.set_host_config(PUBLISHED))
    patch(host, proxy=empty, hostname="")
    assert "hostname" not in config(tmp_path)
    assert network(host) == {"hostname": "quiet-robot"}


def test_dns_and_exceptions_go_alone(host: DeviceHost) -> None:
    asyncio.run(host.set_host_config(PUBLISHED))
    patch(host, proxy={"dns": False, "noProxy": []})
    found = network(host)
    assert "dns" not in found
    assert not {"dns", "noProxy"} & set(found["proxy"])
    patch(host, proxy={"dns": True})
    assert network(host)["dns"] == "8.8.8.8:53"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "has no network"),
        ({"network": {"hostname": "a b"}}, "letters, digits"),
        ({"network": {"hostname": "-a"}}, "letters, digits"),
        ({"network": {"hostname": "x" * 64}}, "at most 63"),
        ({"network": {"proxy": "socks5"}}, "no object"),
        ({"network": {"proxy": {"type": "socks5"}}}, "has no ip, port"),
        ({"network": {"proxy": {"type": "ftp", "ip": "a", "port": 1}}}, "one of socks4"),
        ({"network": {"proxy": {"ip": "a;}"}}}, "IPv4 address or a host name"),
        ({"network": {"proxy": {"port": 99999}}}, "1 to 65535"),
        ({"network": {"proxy": {"local_ip": "1.2.3.4"}}}, "none of type"),
        ({"network": {"proxy": {"dns": "nowhere"}}}, "ADDRESS:PORT"),
        ({"network": {"proxy": {"noProxy": ["example.com"]}}}, "no IPv4 address"),
        ({"network": {"proxy": {"noProxy": "10.0.0.1"}}}, "no list"),
        ({"network": {"proxy": {"password": 'a"; } redsocks {'}}}, "control characters"),
    ],
)
def test_what_is_not_in_order_changes_nothing(
    host: DeviceHost, tmp_path: Path, body: dict[str, Any], problem: str
) -> None:
    before = sorted((each, each.read_bytes()) for each in tmp_path.glob("boot/**/*.*"))
    with pytest.raises(HostRequestError, match=problem) as caught:
        asyncio.run(host.set_host_config(body))
    assert "redsocks {" not in str(caught.value)  # it may be a password
    assert sorted((each, each.read_bytes()) for each in tmp_path.glob("boot/**/*.*")) == before


def test_update_locks_are_asked_with_force_or_without(door: HostDoor, tmp_path: Path) -> None:
    asked: list[bool] = []

    @asynccontextmanager
    async def hold(force: bool) -> Any:
        asked.append(force)
        if not force:
            raise PermissionError("locked")
        yield

    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config.json").write_text("{}")
    host = DeviceHost(Door(door.path), ConfigFile(tmp_path / "boot/config.json"), hold)
    with pytest.raises(PermissionError):
        patch(host, hostname="other")
    assert config(tmp_path) == {}
    asyncio.run(host.set_host_config({"network": {"hostname": "other"}}, force=True))
    assert (config(tmp_path), asked) == ({"hostname": "other"}, [False, True])


def test_a_redsocks_conf_that_somebody_wrote_is_read() -> None:
    text = """
    // the site's
    base { log = stderr; daemon = off; }
    redsocks { type=socks5; ip = 10.0.0.1 ; port = 1080; # the old one
      password = "a b;c"; local_port = 1; }
    """
    assert proxy.parse_redsocks(text) == {
        "type": "socks5",
        "ip": "10.0.0.1",
        "port": "1080",
        "password": "a b;c",
    }


_PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='"\\')
    | st.just(" "),
    min_size=1,
    max_size=40,
)


@given(login=_PASSWORDS, password=_PASSWORDS)
def test_logins_are_read_back_as_they_were(login: str, password: str) -> None:
    change = proxy.read_change(
        {
            "network": {
                "proxy": {
                    "type": "socks5",
                    "ip": "a",
                    "port": 1,
                    "login": login,
                    "password": password,
                }
            }
        }
    )
    wanted = proxy.merged({}, change.proxy or {})
    assert proxy.parse_redsocks(proxy.redsocks_conf(wanted)) == wanted
    assert network_hook.redsocks_conf(proxy.redsocks_conf(wanted))


class PowerLostError(Exception):
    """The world ends here."""


@pytest.mark.parametrize("point", ["before write", "half written", "written", "renamed"])
@pytest.mark.parametrize("there", [True, False])
def test_a_loss_of_power_leaves_the_old_file_or_the_new(
    tmp_path: Path, point: str, there: bool
) -> None:
    path = tmp_path / "config.txt"
    if there:
        path.write_bytes(b"old")

    def stop(name: str) -> None:
        if name == point:
            raise PowerLostError

    with pytest.raises(PowerLostError):
        bootfiles.write(path, b"new content", stop)
    if there:
        assert path.read_bytes() == (b"new content" if point == "renamed" else b"old")
        bootfiles.recover(path)
        assert path.read_bytes() == (b"new content" if point == "renamed" else b"old")
    # And whatever lies about then is in nobody's way.
    assert bootfiles.write(path, b"third") is True
    assert bootfiles.write(path, b"third") is False
    assert bootfiles.read(path) == b"third"
    assert [each.name for each in tmp_path.iterdir()] == ["config.txt"]


def test_a_renaming_that_was_broken_off_is_ended(tmp_path: Path) -> None:
    (tmp_path / "config.txt.tmp").write_bytes(b"whole")
    bootfiles.recover(tmp_path / "config.txt")
    assert (tmp_path / "config.txt").read_bytes() == b"whole"


def test_a_boot_partition_without_room_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(bootfiles.BootFileError, match="mounted for writing and have room"):
        bootfiles.write(tmp_path / "file" / "config.txt", b"new")
