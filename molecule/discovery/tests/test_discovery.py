"""What a device answers to and announces on its network, asked from another host of it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

On = Callable[[str], Host]
VARIANTS = ("production", "development", "standalone")
OPEN = VARIANTS[1:]


def eventually(seen: Callable[[], Any], wanted: Any, seconds: int = 120) -> None:
    """Announcements take a moment."""
    end = time.monotonic() + seconds
    while (found := seen()) != wanted and time.monotonic() < end:
        time.sleep(0.5)
    assert found == wanted


def address(host: Host) -> str:
    return host.check_output("hostname -I").split()[0]


def resolved(host: Host, name: str) -> str:
    """What a name means to a host of the network; '' for nothing."""
    return host.run("avahi-resolve -4 -n %s", name).stdout.strip().partition("\t")[2]


def announced(host: Host, kind: str) -> dict[str, tuple[str, set[str]]]:
    """Services of a kind by name: port, and texts."""
    lines = host.check_output("avahi-browse -p -r -t %s", kind).splitlines()
    rows = [line.split(";", 9) for line in lines if line.startswith("=;eth0;IPv4;")]
    return {row[3]: (row[8], set(row[9].replace('"', "").split())) for row in rows}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_answers_to_its_name(on: On, name: str) -> None:
    asking = on("discovery-production" if name != "production" else "discovery-standalone")
    eventually(lambda: resolved(asking, f"{name}.local"), address(on(f"discovery-{name}")))
    # Programs that know nothing of Avahi find it too.
    assert address(on(f"discovery-{name}")) in asking.check_output(f"getent hosts {name}.local")


def test_development_answers_to_the_alias_and_production_does_not(on: On) -> None:
    unit = "systemctl is-active gantry-alias.service"
    assert on("discovery-production").run(unit).stdout.strip() == "inactive"
    running = [on(f"discovery-{name}") for name in OPEN]
    # The one that was first has it; the other asks again and again.
    eventually(
        lambda: resolved(on("discovery-production"), "resin.local") in map(address, running), True
    )
    owner = next(each for each in running if address(each) == resolved(running[0], "resin.local"))
    other = next(each for each in running if each is not owner)
    said = other.check_output("journalctl -u gantry-alias --no-pager --output cat")
    assert "has another device resin.local?" in said


def test_the_alias_follows_the_address(on: On) -> None:
    device = on("discovery-development")
    on("discovery-standalone").check_output("systemctl stop gantry-alias.service")
    device.check_output("systemctl restart gantry-alias.service")
    asking = on("discovery-production")
    old = address(device)
    eventually(lambda: resolved(asking, "resin.local"), old)
    new = old.rsplit(".", 1)[0] + ".200"
    width = device.check_output("ip -4 -oneline address show dev eth0 | grep -o '/[0-9]*'")[1:]
    route = device.check_output("ip route show default")
    # A lease of another address: the old one goes first, and its route with it.
    change = "ip address flush dev eth0 && ip address add %s/%s dev eth0 && ip route add " + route
    try:
        device.check_output(change, new, width)
        eventually(lambda: resolved(asking, "resin.local"), new)
    finally:
        device.check_output(change, old, width)
    eventually(lambda: resolved(asking, "resin.local"), old)


def test_what_is_announced_by_variant(on: On) -> None:
    asking = on("discovery-production")
    kind = {
        f"device-type={asking.check_output('cat /etc/gantry/device.json | python3 -c %s', TYPE)}"
    }
    wanted = {
        name: (
            "22222",
            kind | {f"variant={name}"} | ({"engine-port=2377"} if name in OPEN else set()),
        )
        for name in VARIANTS
    }
    eventually(lambda: announced(asking, "_gantry-device._tcp"), wanted)
    assert set(announced(asking, "_ssh._tcp")) == set(VARIANTS)
    # The types that local push tools browse, and the workstations.
    for service in ("_resin-device._sub._ssh._tcp", "_balena-device._sub._ssh._tcp"):
        assert set(announced(asking, service)) == set(OPEN)
    stations = {name.partition("\\032")[0] for name in announced(asking, "_workstation._tcp")}
    assert stations == set(OPEN)


TYPE = "import json, sys; print(json.load(sys.stdin)['deviceType'])"


@pytest.mark.parametrize("name", VARIANTS)
def test_it_listens_on_the_port_of_mdns_alone(on: On, name: str) -> None:
    lines = on(f"discovery-{name}").check_output("ss -Htulnp").splitlines()
    rows = [line.split() for line in lines if '"avahi-daemon"' in line]
    known = {(row[0], row[4]) for row in rows if row[4].endswith(":5353")}
    assert known == {("udp", "0.0.0.0:5353")}
    # The other one is where answers to its own questions come: it is only open while it asks.
    assert {row[0] for row in rows} == {"udp"}


def test_a_new_name_is_announced_without_a_restart(on: On) -> None:
    device, asking = on("discovery-standalone"), on("discovery-production")
    started = device.check_output("systemctl show -P ActiveEnterTimestamp avahi-daemon")
    device.check_output("hostnamectl set-hostname workbench")
    try:
        assert device.check_output("gantry-config apply discovery") == "discovery: workbench.local"
        assert device.check_output("gantry-config apply discovery") == ""
        eventually(lambda: resolved(asking, "workbench.local"), address(device))
        eventually(lambda: "workbench" in announced(asking, "_gantry-device._tcp"), True)
        assert device.check_output("systemctl show -P ActiveEnterTimestamp avahi-daemon") == started
    finally:
        device.check_output("hostnamectl set-hostname standalone; gantry-config apply discovery")


def test_after_a_boot_it_is_there_again(on: On, reboot: Callable[[Host], None]) -> None:
    device = on("discovery-development")
    reboot(device)
    assert device.check_output("systemctl list-units --failed --no-legend --plain") == ""
    eventually(
        lambda: resolved(on("discovery-production"), f"{device.check_output('hostname')}.local"),
        address(device),
    )


def test_in_a_chroot_units_are_enabled_and_nothing_runs(on: On) -> None:
    chroot = on("discovery-chroot")
    wanted = chroot.file("/etc/systemd/system/multi-user.target.wants").listdir()
    assert {"avahi-daemon.service", "gantry-alias.service"} <= set(wanted)
    assert chroot.run("ps -C avahi-daemon -o comm=").stdout == ""
