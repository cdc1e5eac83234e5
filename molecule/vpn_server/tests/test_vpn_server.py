"""The device's own VPN server: nothing while it is off, a tunnel for who has a profile."""

import time
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

On = Callable[[str], Host]

STATE = "/mnt/state/vpn-server"
OFF = ["vpn-server-off", "vpn-server-switched", "vpn-server-refused"]


def wait(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


def listening(host: Host) -> set[str]:
    """Sockets of OpenVPN, as `udp 0.0.0.0:1194`."""
    lines = host.check_output("ss -Hlnptu").splitlines()
    return {f"{row[0]} {row[4]}" for row in map(str.split, lines) if "openvpn" in row[-1]}


def units(host: Host) -> tuple[str, str, str]:
    """Whether the server is enabled, whether it runs, and whether openvpn.service is enabled."""
    enabled = host.run("systemctl is-enabled openvpn-server@gantry").stdout.strip()
    active = host.run("systemctl is-active openvpn-server@gantry").stdout.strip()
    return enabled, active, host.run("systemctl is-enabled openvpn").stdout.strip()


def pings(laptop: Host, address: str) -> bool:
    return laptop.run(f"ping -c 1 -W 1 {address}").rc == 0


class Laptop:
    """Somebody's computer with OpenVPN and a profile in a file."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def connect(self, profile: str) -> None:
        self.disconnect()
        self.host.check_output(f"umask 077; cat > /root/device.ovpn <<'END'\n{profile}\nEND\n")
        self.host.check_output(
            "systemd-run --quiet --unit laptop openvpn --config /root/device.ovpn "
            "--connect-retry 1 2"
        )

    def disconnect(self) -> None:
        self.host.run("systemctl stop laptop; systemctl reset-failed laptop")

    def log(self) -> str:
        return self.host.check_output("journalctl --no-pager --output=cat --unit laptop")


@pytest.fixture
def laptop(on: On) -> Iterator[Laptop]:
    made = Laptop(on("vpn-server-laptop"))
    yield made
    made.disconnect()


def address_of(host: Host) -> str:
    return host.check_output("ip -4 -o address show eth0").split()[3].partition("/")[0]


@pytest.mark.parametrize("name", OFF)
def test_off_means_no_port_no_process_no_interface(on: On, name: str) -> None:
    host = on(name)
    untouched = name == "vpn-server-refused"
    assert units(host) == ("disabled", "inactive", "enabled" if untouched else "disabled")
    assert listening(host) == set()
    assert "openvpn" not in host.check_output("ps -e -o comm")
    assert not host.interface("vpn-server").exists


def test_off_has_made_no_keys(on: On) -> None:
    assert not on("vpn-server-off").file(STATE).exists
    assert not on("vpn-server-chroot").file(STATE).exists
    refused = on("vpn-server-off").run("gantry-vpn-server client laptop")
    assert refused.rc == 1
    assert refused.stderr.strip() == (
        "gantry-vpn-server: the VPN server was never started: "
        "systemctl enable --now openvpn-server@gantry.service"
    )


def test_what_was_refused_changed_nothing(on: On) -> None:
    host = on("vpn-server-refused")
    assert not host.file("/etc/openvpn/server/gantry.conf").exists
    assert not host.file("/usr/local/sbin/gantry-vpn-server").exists


def test_switched_off_keeps_its_keys(on: On) -> None:
    assert on("vpn-server-switched").file(f"{STATE}/ca.crt").exists


def test_on_means_one_port_and_keys_of_its_own(on: On) -> None:
    host = on("vpn-server-on")
    assert units(host) == ("enabled", "active", "disabled")
    assert listening(host) == {"udp 0.0.0.0:1194"}
    found = host.check_output(f"cd {STATE} && stat --format='%a %U %n' . *").splitlines()
    assert found == [
        "711 root .",
        "600 root ca.crt",
        "600 root ca.key",
        "755 root revoked",
        "600 root server.crt",
        "600 root server.key",
        "600 root tls-crypt.key",
    ]
    pid = host.check_output("systemctl show openvpn-server@gantry --property=MainPID --value")
    status = host.file(f"/proc/{pid}/status").content_string
    fields = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
    assert set(fields["Uid"]) == {"65534"}
    assert int(fields["CapEff"][0], 16) == 1 << 12  # CAP_NET_ADMIN
    assert fields["NoNewPrivs"] == ["1"]


def test_an_image_is_switched_on_without_keys(on: On) -> None:
    host = on("vpn-server-chroot")
    assert host.run("systemctl is-enabled openvpn-server@gantry").stdout.strip() == "enabled"


def test_a_profile_connects_until_it_is_revoked(on: On, laptop: Laptop) -> None:
    host = on("vpn-server-on")
    address = address_of(host)
    profile = host.check_output(f"gantry-vpn-server client laptop --remote {address}")
    other = host.check_output(f"gantry-vpn-server client other --remote {address}")
    laptop.connect(profile)
    wait(lambda: pings(laptop.host, "10.114.110.1"), "the tunnel")
    assert host.check_output("gantry-vpn-server revoke laptop") == "laptop can connect no more"
    wait(lambda: "VERIFY CRL: depth=0, CN=laptop" in server_log(host), "the refusal")
    assert not pings(laptop.host, "10.114.110.1")
    laptop.connect(other)
    wait(lambda: pings(laptop.host, "10.114.110.1"), "the other's tunnel")


def server_log(host: Host) -> str:
    return host.check_output("journalctl --no-pager --output=cat --unit openvpn-server@gantry")


def test_another_servers_profile_does_not_connect(on: On, laptop: Laptop) -> None:
    host, stranger = on("vpn-server-on"), on("vpn-server-switched")
    profile = stranger.check_output(
        f"gantry-vpn-server client stranger --remote {address_of(host)}"
    )
    profile = profile.replace("proto tcp", "proto udp").replace(" 1195\n", " 1194\n")
    laptop.connect(profile)
    wait(lambda: "tls-crypt unwrap" in server_log(host), "the refusal")
    assert not pings(laptop.host, "10.114.110.1")


def test_somebody_switches_it_on_by_hand(on: On, laptop: Laptop) -> None:
    host = on("vpn-server-switched")
    host.check_output("systemctl enable --now openvpn-server@gantry")
    # Over TCP it listens a moment after it is there for systemd.
    wait(lambda: listening(host) == {"tcp 0.0.0.0:1195"}, "the server")
    profile = host.check_output(f"gantry-vpn-server client laptop --remote {address_of(host)}")
    laptop.connect(profile)
    wait(lambda: pings(laptop.host, "10.9.8.1"), "the tunnel")
    host.check_output("systemctl disable --now openvpn-server@gantry")
    assert listening(host) == set()


def test_after_a_boot_it_serves_with_the_same_keys(on: On, reboot: Callable[[Host], None]) -> None:
    host = on("vpn-server-on")
    before = host.check_output(f"sha256sum {STATE}/*.key {STATE}/*.crt")
    reboot(host)
    # systemd has started all there is, and this at once: it was not tried again.
    assert units(host) == ("enabled", "active", "disabled")
    tries = host.check_output("systemctl show openvpn-server@gantry --property=NRestarts --value")
    assert tries == "0"
    assert listening(host) == {"udp 0.0.0.0:1194"}
    assert host.interface("vpn-server").addresses[:1] == ["10.114.110.1"]
    assert host.check_output(f"sha256sum {STATE}/*.key {STATE}/*.crt") == before
    assert host.run("gantry-vpn-server init").stdout == f"{STATE} has the server's keys already\n"
