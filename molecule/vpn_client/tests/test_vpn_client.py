"""A tunnel to a real OpenVPN server: for whom there is one, for whom not, and what ends it."""

import itertools
import json
import re
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

On = Callable[[str], Host]

SERVER = "100.64.0.1"
SECRETS = ("5ecre7-0f-th3-dev1ce", "n0t-what-the-cloud-kn0ws")
SANDBOX = {
    "CapabilityBoundingSet": "cap_net_admin",
    "DevicePolicy": "closed",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "ReadWritePaths": "",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
}


def wait(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


def pings(host: Host) -> bool:
    return host.run(f"ping -c 1 -W 1 -I resin-vpn {SERVER}").rc == 0


def state(host: Host) -> str:
    return host.run("systemctl is-active gantry-vpn").stdout.strip()


def journal(host: Host) -> str:
    return host.check_output("journalctl --no-pager --output=cat --unit gantry-vpn")


def assert_off(host: Host) -> None:
    assert state(host) == "inactive"
    assert not host.interface("resin-vpn").exists
    assert not host.run("ls -A /run/gantry/vpn 2> /dev/null").stdout
    assert "openvpn" not in host.check_output("ps -e -o comm")


def change(host: Host, **keys: object) -> None:
    """Somebody writes config.json; None takes a key away. The path unit sees it."""
    path = "/mnt/boot/config.json"
    config = json.loads(host.file(path).content_string) | keys
    text = json.dumps({key: value for key, value in config.items() if value is not None})
    host.check_output(f"umask 077; cat > {path}.new <<'END'\n{text}\nEND\nmv {path}.new {path}")


def test_a_registered_device_has_a_tunnel(on: On) -> None:
    host = on("vpn-client-registered")
    wait(lambda: pings(host), "the tunnel")
    [address] = [each for each in host.interface("resin-vpn").addresses if "." in each]
    assert address.startswith("100.64.")
    wait(lambda: on("vpn-client-cloud").run(f"ping -c 1 -W 1 {address}").rc == 0, "the way back")


def test_the_tunnel_changes_neither_routes_nor_names(on: On) -> None:
    host = on("vpn-client-registered")
    wait(lambda: pings(host), "the tunnel")
    routes = host.check_output("ip -4 route show dev resin-vpn").splitlines()
    assert [each.split()[0] for each in routes] == ["100.64.0.0/10"]
    assert host.check_output("ip -4 route show default").count("default") == 1
    assert "192.0.2.53" not in host.file("/etc/resolv.conf").content_string


def test_the_sandbox_is_exactly_this(on: On) -> None:
    host = on("vpn-client-registered")
    text = host.check_output("systemctl show gantry-vpn --property=%s", ",".join(SANDBOX))
    assert dict(line.split("=", 1) for line in text.splitlines()) == SANDBOX
    pid = host.check_output("systemctl show gantry-vpn --property=MainPID --value")
    status = host.file(f"/proc/{pid}/status").content_string
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert int(fields["CapEff"], 16) == 1 << 12  # CAP_NET_ADMIN
    assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")
    assert host.run(f"nsenter --target {pid} --mount cat /mnt/boot/config.json").rc != 0


def test_the_key_is_where_only_root_reads_it(on: On) -> None:
    for name in ("vpn-client-registered", "vpn-client-wrong-key"):
        host = on(name)
        found = host.check_output("stat --format='%a %U %n' /run/gantry/vpn /run/gantry/vpn/*")
        assert found.splitlines() == [
            "700 root /run/gantry/vpn",
            "600 root /run/gantry/vpn/auth",
            "600 root /run/gantry/vpn/ca.crt",
            "600 root /run/gantry/vpn/pause",
            "600 root /run/gantry/vpn/remote.conf",
            "600 root /run/gantry/vpn/retry.conf",
        ]
        everything = host.check_output(
            "journalctl --no-pager --output=export; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ "
            "2> /dev/null | tr '\\0' '\\n'; systemctl show gantry-vpn"
        )
        assert not [each for each in SECRETS if each in everything]


def test_a_wrong_key_is_refused_said_and_tried_again(on: On) -> None:
    host = on("vpn-client-wrong-key")
    wait(lambda: journal(host).count("AUTH_FAILED") >= 5, "five refusals")
    assert state(host) in ("activating", "active")
    assert not host.interface("resin-vpn").exists
    said = [int(each) for each in re.findall(r"it is tried again in (\d+) s", journal(host))]
    bounds = [1, 2, 4, 8] + [15] * len(said)
    wrong = [
        (each, bound)
        for each, bound in zip(said, bounds, strict=False)
        if not (bound + 1) // 2 <= each <= bound
    ]
    assert wrong == []


def test_a_key_that_is_put_right_connects(on: On) -> None:
    host = on("vpn-client-wrong-key")
    cloud = on("vpn-client-cloud")
    line = "ffffffffffffffffffffffffffffffff:n0t-what-the-cloud-kn0ws"
    cloud.check_output(f"echo {line} >> /etc/openvpn/server/devices")
    wait(lambda: pings(host), "the tunnel")
    cloud.check_output(f"sed -i /{line}/d /etc/openvpn/server/devices")


def test_a_server_that_went_away_is_found_again(on: On) -> None:
    host, cloud = on("vpn-client-registered"), on("vpn-client-cloud")
    wait(lambda: pings(host), "the tunnel")
    before = host.check_output("systemctl show gantry-vpn --property=MainPID")
    cloud.check_output("systemctl stop openvpn-server@cloud")
    wait(lambda: not host.interface("resin-vpn").exists, "the end of the tunnel")
    assert state(host) == "active"
    cloud.check_output("systemctl start openvpn-server@cloud")
    wait(lambda: pings(host), "the tunnel")
    assert host.check_output("systemctl show gantry-vpn --property=MainPID") == before
    # By lot, before the process began: what all devices of a server wait is not the same.
    first = int(host.file("/run/gantry/vpn/retry.conf").content_string.split()[1])
    assert 1 <= first <= 4
    assert first <= pauses(host)[0] < first + 3


def pauses(host: Host) -> list[float]:
    """For how long OpenVPN has waited each time between a loss and the next try, in seconds."""
    lines = host.check_output(
        "journalctl --no-pager --output=short-unix --unit gantry-vpn | "
        "grep -E 'process restarting|Attempting to establish'"
    ).splitlines()
    return [
        float(after.split()[0]) - float(before.split()[0])
        for before, after in itertools.pairwise(lines)
        if "process restarting" in before and "Attempting" in after
    ]


def test_a_line_that_is_dead_without_a_word_is_noticed(on: On) -> None:
    host, cloud = on("vpn-client-registered"), on("vpn-client-cloud")
    wait(lambda: pings(host), "the tunnel")
    cloud.check_output(
        "nft 'table inet dead { chain input { type filter hook input priority 0; "
        "tcp dport 443 drop; }; chain output { type filter hook output priority 0; "
        "tcp sport 443 drop; }; }'"
    )
    try:
        # The silence is 60 s here: no server pushes a shorter one.
        wait(lambda: not host.interface("resin-vpn").exists, "the end of the tunnel", 90)
    finally:
        cloud.check_output("nft delete table inet dead")
    wait(lambda: pings(host), "the tunnel")


def test_a_certificate_that_is_renewed_needs_nothing_of_the_device(on: On) -> None:
    host, cloud = on("vpn-client-registered"), on("vpn-client-cloud")
    wait(lambda: pings(host), "the tunnel")
    before = host.check_output("systemctl show gantry-vpn --property=MainPID")
    cloud.check_output(f"issue {server_name(host)}")
    cloud.check_output("systemctl restart openvpn-server@cloud")
    wait(lambda: not host.interface("resin-vpn").exists, "the end of the tunnel")
    wait(lambda: pings(host), "the tunnel")
    assert host.check_output("systemctl show gantry-vpn --property=MainPID") == before


def server_name(host: Host) -> str:
    return str(json.loads(host.file("/mnt/boot/config.json").content_string)["vpnEndpoint"])


def test_another_server_of_the_same_authority_is_refused(on: On) -> None:
    host, cloud = on("vpn-client-registered"), on("vpn-client-cloud")
    cloud.check_output("issue registry.devbots.gantry.internal")
    cloud.check_output("systemctl restart openvpn-server@cloud")
    wait(lambda: "VERIFY X509NAME ERROR" in journal(host), "the refusal")
    assert not host.interface("resin-vpn").exists
    cloud.check_output(f"issue {server_name(host)}")
    cloud.check_output("systemctl restart openvpn-server@cloud")
    wait(lambda: pings(host), "the tunnel")


def test_a_new_authority_is_taken_from_config_json(on: On) -> None:
    host, cloud = on("vpn-client-registered"), on("vpn-client-cloud")
    cloud.check_output(f"issue {server_name(host)} authority")
    cloud.check_output("systemctl restart openvpn-server@cloud")
    wait(lambda: "certificate verify failed" in journal(host), "the refusal")
    assert not pings(host)
    authority = cloud.check_output("base64 --wrap=0 /etc/openvpn/server/ca.crt")
    for name in ("vpn-client-registered", "vpn-client-wrong-key", "vpn-client-new"):
        change(on(name), balenaRootCA=authority)
    wait(lambda: pings(host), "the tunnel")


def test_the_data_channel_is_openvpns_own_and_authenticated(on: On) -> None:
    host = on("vpn-client-registered")
    wait(lambda: pings(host), "the tunnel")
    [link] = json.loads(host.check_output("ip -json -details link show resin-vpn"))
    assert link["linkinfo"]["info_kind"] == "tun"
    used = set(re.findall(r"Data Channel: .*?cipher '([A-Z0-9-]+)'", journal(host)))
    assert used == {"AES-256-GCM"}


def test_what_the_supervisor_switches_off_stays_off(on: On) -> None:
    """As its door does it: a mark, and the unit stopped. New settings do not start it."""
    host = on("vpn-client-registered")
    wait(lambda: pings(host), "the tunnel")
    host.check_output("mkdir -p /run/gantry/off && touch /run/gantry/off/vpn")
    host.check_output("systemctl stop gantry-vpn")
    change(host, vpnPort=443)
    change(host, vpnPort=444)
    said = "journalctl --no-pager --output=cat --unit gantry-config"
    wait(lambda: "once SUPERVISOR_VPN_CONTROL" in host.check_output(said), "the new settings")
    assert state(host) == "inactive"
    assert not host.interface("resin-vpn").exists
    change(host, vpnPort="443")
    host.check_output("rm /run/gantry/off/vpn && systemctl start gantry-vpn")
    wait(lambda: pings(host), "the tunnel")


def test_the_tunnel_comes_when_the_device_is_registered_and_goes_with_its_identity(on: On) -> None:
    host = on("vpn-client-new")
    assert_off(host)
    change(host, deviceId=8, apiKey=None)
    wait(lambda: pings(host), "the tunnel")
    change(host, deviceApiKey=None, uuid=None, deviceId=None)
    wait(lambda: state(host) == "inactive", "the end of the tunnel")
    wait(lambda: not host.interface("resin-vpn").exists, "the end of the tunnel")
    assert_off(host)


def test_settings_that_cannot_be_used_leave_the_tunnel_as_it_is(on: On) -> None:
    host = on("vpn-client-registered")
    wait(lambda: pings(host), "the tunnel")
    change(host, vpnPort=99999)
    said = "vpn: vpnPort is 99999: give a number from 1 to 65535"
    log = "journalctl --no-pager --output=cat --unit gantry-config"
    wait(lambda: said in host.check_output(log), "the message")
    assert pings(host)
    change(host, vpnPort=443)
    wait(lambda: host.run("gantry-config apply vpn").rc == 0, "settings in order")
    assert pings(host)


def test_standalone_and_unbooted_hosts_have_none(on: On) -> None:
    assert_off(on("vpn-client-standalone"))
    chroot = on("vpn-client-chroot")
    assert "openvpn" not in chroot.check_output("ps -e -o comm")
    for name in ("vpn-client-standalone", "vpn-client-chroot"):
        enabled = on(name).run("systemctl is-enabled gantry-vpn openvpn").stdout.split()
        assert enabled[0] == "static"


def test_the_tunnel_is_back_after_a_boot(on: On, reboot: Callable[[Host], None]) -> None:
    host = on("vpn-client-registered")
    reboot(host)
    host.check_output("mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200")
    wait(lambda: pings(host), "the tunnel")


@pytest.mark.parametrize("name", ["vpn-client-registered", "vpn-client-standalone"])
def test_nothing_failed(on: On, name: str) -> None:
    host = on(name)
    failed = host.check_output("systemctl list-units --failed --no-legend --plain")
    assert failed == ""
