"""Connections, names and proxy of a device, as the boot partition has them."""

import json
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

BOOT = "/mnt/boot/system-connections"
FOLDERS = ("splash", "system-connections", "system-proxy")
INSTALLED = "/etc/NetworkManager/system-connections"
On = Callable[[str], Host]


@pytest.fixture
def pi(on: On) -> Host:
    return on("network-pi")


@pytest.fixture
def taken(on: On) -> Host:
    return on("network-taken")


def eventually(seen: Callable[[], object], wanted: object, seconds: int = 120) -> None:
    """Path units and NetworkManager take a moment."""
    end = time.monotonic() + seconds
    while (found := seen()) != wanted and time.monotonic() < end:
        time.sleep(0.5)
    assert found == wanted


def connections(host: Host) -> dict[str, str]:
    """Active connections by device."""
    shown = host.check_output("nmcli -t -e no -f DEVICE,NAME connection show --active")
    return dict(line.split(":", 1) for line in shown.splitlines())


def addresses(host: Host, device: str) -> list[str]:
    """IPv4 addresses of a device, with their widths; none where there is no device."""
    shown = host.run(f"ip -4 -json address show dev {device}").stdout
    return [
        f"{each['local']}/{each['prefixlen']}"
        for link in json.loads(shown or "[]")
        for each in link.get("addr_info", [])
    ]


def resolves(host: Host, name: str, within: str = "") -> str:
    """The first address of a name on the host, or within a network namespace; '' for none."""
    prefix = f"ip netns exec {within} " if within else ""
    found = host.run(f"{prefix}getent ahostsv4 {name}").stdout.split()
    return found[0] if found else ""


def put(host: Host, path: str, text: str) -> None:
    """Write a file."""
    host.check_output("umask 077; printf %%s %s > %s", text, path)


def config(host: Host, **keys: object) -> None:
    """Write the keys to config.json, as somebody who edits the boot partition."""
    put(host, "/mnt/boot/config.json", json.dumps(keys))


def listening(host: Host, program: str) -> set[str]:
    """Sockets of the device itself that a program listens on: protocol and address."""
    lines = host.check_output("ss -Htulnp").splitlines()
    rows = [line.split() for line in lines if f'"{program}"' in line]
    return {f"{row[0]} {row[4]}" for row in rows}


def test_nothing_failed(on: On) -> None:
    for name in ("network-pi", "network-taken", "network-kept"):
        assert on(name).check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_connection_files_of_the_boot_partition_are_active(pi: Host) -> None:
    assert connections(pi) == {"f0": "field", "office0": "office"}
    assert addresses(pi, "office0") == ["203.0.113.9/24"]
    (leased,) = addresses(pi, "f0")
    assert leased.startswith("192.0.2.1")


def test_installed_files_are_exactly_those_in_order_and_root_s_alone(pi: Host) -> None:
    folder = pi.file(INSTALLED)
    assert sorted(folder.listdir()) == ["field", "office.nmconnection"]
    for name in folder.listdir():
        file = pi.file(f"{INSTALLED}/{name}")
        assert (file.user, file.group, oct(file.mode)) == ("root", "root", "0o600")
    assert "\r" not in pi.file(f"{INSTALLED}/office.nmconnection").content_string


def test_a_bad_file_is_named_and_its_secret_is_not(pi: Host) -> None:
    done = pi.run("gantry-config apply connections")
    assert (done.rc, done.stdout) == (0, "")
    assert done.stderr.strip() == (
        "connections: passed over broken: line 8 is neither [section] nor key=value below one"
    )
    assert "secret-of-the-site" not in pi.check_output("journalctl --no-pager")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[connection]\ntype=nonsense\n", "invalid connection type"),
        ("[connection]\ntype=wifi\n", "ssid: property is missing"),
        ("[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\n", "cannot be empty"),
        (
            "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\naddress1=here\n",
            "ipv4.address1 is not understood",
        ),
        ("", "type"),
        ("x" * 70000, "70000 bytes are no connection"),
    ],
)
def test_what_networkmanager_would_not_take_is_not_installed(
    pi: Host, text: str, complaint: str
) -> None:
    path = f"{BOOT}/trial"
    put(pi, path, text)
    try:
        done = pi.run("gantry-config apply connections")
        said = next(part for part in done.stderr.split("; ") if "trial: " in part)
        assert complaint in said
        assert not pi.file(f"{INSTALLED}/trial").exists
    finally:
        pi.run(f"rm {path}")


def test_an_edited_file_is_applied_at_once_and_a_removed_one_goes(pi: Host) -> None:
    path = f"{BOOT}/office.nmconnection"
    kept = pi.file(path).content_string
    pi.check_output(f"sed -i s/203.0.113.9/203.0.113.77/ {path}")
    eventually(lambda: addresses(pi, "office0"), ["203.0.113.77/24"])
    pi.check_output(f"rm {path}")
    eventually(lambda: addresses(pi, "office0"), [])
    assert not pi.file(f"{INSTALLED}/office.nmconnection").exists
    put(pi, path, kept)
    eventually(lambda: addresses(pi, "office0"), ["203.0.113.9/24"])


def test_a_file_of_the_host_s_comes_back(pi: Host) -> None:
    own = "[connection]\nid=own\ntype=bridge\ninterface-name=own0\nautoconnect=false\n"
    put(pi, f"{INSTALLED}/own", own)
    put(pi, f"{BOOT}/own", own.replace("own0", "other0"))
    pi.check_output("gantry-config apply connections")
    assert "other0" in pi.file(f"{INSTALLED}/own").content_string
    pi.check_output(f"rm {BOOT}/own && gantry-config apply connections")
    assert pi.file(f"{INSTALLED}/own").content_string == own
    pi.check_output(f"rm {INSTALLED}/own && nmcli connection reload")


def test_without_the_folder_nothing_is_removed(pi: Host) -> None:
    pi.check_output(f"mv {BOOT} {BOOT}.away")
    try:
        done = pi.run("gantry-config apply connections")
        assert (done.rc, "all stay as they are" in done.stderr) == (1, True)
        assert connections(pi) == {"f0": "field", "office0": "office"}
    finally:
        pi.check_output(f"mv {BOOT}.away {BOOT}")


def states(host: Host, *units: str) -> list[str]:
    return host.run("systemctl is-active " + " ".join(units)).stdout.split()


def test_config_json_and_each_folder_have_a_watch_of_their_own(pi: Host) -> None:
    watches = {"gantry-config.path"} | {f"gantry-config@{folder}.path" for folder in FOLDERS}
    shown = pi.check_output("systemctl show --property=TriggeredBy --value gantry-config.service")
    assert set(shown.split()) == watches
    assert states(pi, *watches) == ["active"] * len(watches)


def test_config_json_is_seen_when_it_is_renamed_into_place_beside_missing_folders(
    pi: Host,
) -> None:
    """systemd arms the watch of what is missing anew at each file that is made beside it."""
    shown = "sed -n s/^interval=//p /run/NetworkManager/conf.d/gantry-settings.conf"
    assert not pi.file("/mnt/boot/splash").exists
    pi.check_output(f"mkdir /run/away && mv {BOOT} /mnt/boot/system-proxy /run/away")
    try:
        # Again and again: what was missed was missed now and then.
        for interval in range(10, 20):
            wanted = {"uri": "http://site.test/", "interval": str(interval)}
            put(pi, "/mnt/boot/new", json.dumps({"os": {"network": {"connectivity": wanted}}}))
            pi.check_output("mv /mnt/boot/new /mnt/boot/config.json")
            eventually(lambda: pi.check_output(shown), str(interval))
    finally:
        config(pi)
        pi.check_output("mv /run/away/* /mnt/boot && rmdir /run/away")
    eventually(lambda: states(pi, "gantry-config"), ["inactive"])
    assert connections(pi) == {"f0": "field", "office0": "office"}


LOST = """[Mount]
What=tmpfs
Where=/mnt/state
Type=tmpfs
Options=no-such-option
"""


def test_settings_are_applied_where_the_state_partition_is_lost(pi: Host) -> None:
    unit = "/run/systemd/system/mnt-state.mount"
    put(pi, unit, LOST)
    pi.check_output("systemctl daemon-reload")
    try:
        assert pi.run("systemctl start mnt-state.mount").rc == 1
        pi.check_output("systemctl start gantry-config.service")
        after = pi.check_output("systemctl show --property=After --value gantry-config.service")
        assert {"mnt-state.mount"} <= set(after.split())
    finally:
        pi.check_output(f"rm {unit} && systemctl daemon-reload && systemctl reset-failed")


def test_the_resolver_listens_for_host_and_containers_only(pi: Host) -> None:
    ours = {
        f"{kind} {address}:53"
        for kind in ("tcp", "udp")
        for address in ("127.0.0.2", "10.114.102.1")
    }
    assert listening(pi, "dnsmasq") == ours


def test_resolv_conf_is_on_a_tmpfs_and_leads_to_the_resolver(pi: Host) -> None:
    assert pi.file("/etc/resolv.conf").linked_to == "/run/gantry/dns/resolv.conf"
    assert pi.check_output("stat --file-system --format %T /run/gantry/dns") == "tmpfs"
    servers = pi.check_output("grep ^nameserver /etc/resolv.conf")
    assert servers == "nameserver 127.0.0.2"
    # As at a boot: the link is there, and what it leads to is not.
    pi.check_output("rm -r /run/gantry/dns && systemctl restart gantry-dns")
    assert pi.file("/etc/resolv.conf").linked_to == "/run/gantry/dns/resolv.conf"
    assert pi.check_output("grep ^nameserver /etc/resolv.conf") == servers


@pytest.mark.parametrize("within", ["", "app"])
def test_names_resolve_by_the_server_that_networkmanager_learnt(pi: Host, within: str) -> None:
    eventually(lambda: resolves(pi, "robot.site.test", within), "192.0.2.77")


@pytest.mark.parametrize("within", ["", "app"])
def test_the_fleet_s_names_need_no_server(pi: Host, within: str) -> None:
    for name in ("devbots.gantry.internal", "registry.devbots.gantry.internal"):
        assert resolves(pi, name, within) == "192.0.2.10"
    assert resolves(pi, "printer.site.example", within) == "198.51.100.7"


def test_no_server_is_asked_for_the_fleet_s_other_records(pi: Host) -> None:
    program = "import socket; socket.getaddrinfo('api.devbots.gantry.internal', 0, socket.AF_INET6)"
    # Not "Name or service not known": that is what the router's server would say.
    assert "No address associated with hostname" in pi.run("python3 -c %s", program).stderr


def test_dns_servers_of_config_json_are_asked_instead(pi: Host) -> None:
    pi.check_output(
        "dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --bind-interfaces --port=5353 "
        "--listen-address=127.0.0.9 --address=/both.test/192.0.2.200 --pid-file=/run/second.pid"
    )
    eventually(lambda: resolves(pi, "both.test"), "192.0.2.78")
    config(pi, dnsServers="127.0.0.9#5353")
    eventually(lambda: resolves(pi, "both.test"), "192.0.2.200")
    # A value that is none changes nothing, and is named.
    config(pi, dnsServers="ns.example")
    done = pi.run("gantry-config apply network")
    assert done.rc == 1
    assert "dnsServers: 'ns.example' is no address" in done.stderr
    assert resolves(pi, "both.test") == "192.0.2.200"
    config(pi, dnsServers="null")
    eventually(lambda: resolves(pi, "both.test"), "192.0.2.78")
    pi.check_output("kill $(cat /run/second.pid)")


def test_networkmanager_s_settings_of_config_json(pi: Host) -> None:
    def setting(key: str) -> str:
        return pi.check_output(
            "NetworkManager --print-config 2>/dev/null | sed -n '/connectivity/,/^$/p' "
            f"| sed -n 's/^{key}=//p'"
        )

    assert setting("enabled") == "false"
    wanted = {"uri": "http://site.test/", "interval": "300", "response": "fine"}
    config(pi, os={"network": {"connectivity": wanted, "wifi": {"randomMacAddressScan": True}}})
    pi.check_output("gantry-config apply network")
    assert setting("enabled") == "true"
    assert {key: setting(key) for key in wanted} == wanted
    shown = pi.check_output(
        "busctl get-property org.freedesktop.NetworkManager "
        "/org/freedesktop/NetworkManager org.freedesktop.NetworkManager ConnectivityCheckUri"
    )
    assert shown == 's "http://site.test/"'
    assert "wifi.scan-rand-mac-address=yes" in pi.check_output("NetworkManager --print-config")
    for broken, key in (
        ({"connectivity": {"uri": "site.test"}}, "os.network.connectivity.uri"),
        ({"connectivity": {"uri": "http://a/", "interval": "often"}}, "connectivity.interval"),
        ({"wifi": {"randomMacAddressScan": "yes"}}, "randomMacAddressScan"),
        ({"wifi": True}, "os.network.wifi must be an object"),
    ):
        config(pi, os={"network": broken})
        done = pi.run("gantry-config apply network")
        assert (done.rc, key in done.stderr) == (1, True)
    config(pi)
    pi.check_output("gantry-config apply network")
    assert setting("enabled") == "false"


FAR_AWAY = """
[ ! -e /srv/far ] || exit 0
mkdir -p -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cat /root/.ssh/id_ed25519.pub >> /root/.ssh/authorized_keys
/usr/sbin/sshd -p 2200 -o ListenAddress=127.0.0.1 -o PidFile=/run/router-sshd.pid
ssh -f -N -p 2200 -o StrictHostKeyChecking=no -D 192.0.2.1:1080 127.0.0.1
mkdir /srv/far
cd /srv/far
echo far away > index.html
setsid python3 -m http.server --bind 198.51.100.5 80 > /dev/null 2>&1 &
"""
FETCH = (
    "from urllib.request import urlopen as u; print(u('http://198.51.100.5/', timeout=5).read())"
)
PROXY = """// as an operator writes it
redsocks {
    type = socks5; ip = 192.0.2.1; port = 1080;
    login = "me"; password = "hidden-word";
}
"""


def fetched(host: Host) -> list[bool]:
    """Whether the far server answers to the device, and to its container."""
    return [
        "far away" in host.run(f"{prefix} python3 -c %s", FETCH).stdout
        for prefix in ("", "ip netns exec app")
    ]


def test_tcp_goes_through_the_proxy_of_the_boot_partition(pi: Host) -> None:
    """The server is in reach of the router alone, where OpenSSH is the SOCKS proxy."""
    pi.check_output("ip netns exec router sh -ec %s", FAR_AWAY)
    assert fetched(pi) == [False, False]
    # The folder is watched, also one that was made anew.
    pi.check_output("rmdir /mnt/boot/system-proxy && mkdir /mnt/boot/system-proxy")
    put(pi, "/mnt/boot/system-proxy/redsocks.conf", PROXY)
    eventually(lambda: fetched(pi), [True, True])
    assert listening(pi, "redsocks") == {"tcp 10.114.102.1:12345"}
    made = pi.file("/run/gantry/proxy/redsocks.conf")
    assert (made.user, made.group, oct(made.mode)) == ("root", "redsocks", "0o640")
    assert "hidden-word" not in pi.check_output("journalctl --no-pager")

    # What no_proxy names goes its own way.
    put(pi, "/mnt/boot/system-proxy/no_proxy", "# the laboratory\n198.51.100.0/24\n")
    eventually(lambda: fetched(pi), [False, False])

    # Without the file there is no proxy, and no rule of one.
    pi.check_output("rm /mnt/boot/system-proxy/*")
    eventually(lambda: pi.run("nft list table ip gantry_proxy").rc, 1)
    eventually(lambda: listening(pi, "redsocks"), set())


@pytest.mark.parametrize(
    ("proxy", "no_proxy", "complaint"),
    [
        (PROXY, "far.example", "system-proxy/no_proxy: 'far.example' is no IPv4 address"),
        (PROXY.replace("socks5", "ftp"), "", "type must be one of http-connect"),
        (PROXY.replace("ip =", "host ="), "", "redsocks has no ip"),
        (PROXY + PROXY, "", "has 2 proxies: one is wanted"),
        ("192.0.2.1:1080", "", "is not made of sections"),
    ],
)
def test_a_bad_proxy_is_named_and_changes_nothing(
    pi: Host, proxy: str, no_proxy: str, complaint: str
) -> None:
    # The folder is watched: a good proxy alone would be applied at once.
    put(pi, "/mnt/boot/system-proxy/no_proxy", no_proxy)
    put(pi, "/mnt/boot/system-proxy/redsocks.conf", proxy)
    done = pi.run("gantry-config apply network")
    assert (done.rc, complaint in done.stderr) == (1, True)
    assert "hidden-word" not in done.stderr
    assert not pi.file("/run/gantry/proxy/redsocks.conf").exists
    pi.check_output("rm /mnt/boot/system-proxy/*; gantry-config apply network")


def test_a_device_in_use_is_not_touched_before_the_next_boot(taken: Host) -> None:
    if not taken.file("/run/NetworkManager/conf.d/gantry-hold.conf").exists:
        pytest.skip("these tests have booted it before")
    assert taken.check_output("systemctl is-active systemd-networkd") == "active"
    assert taken.run("systemctl is-enabled systemd-networkd").stdout.strip() == "disabled"
    state = taken.check_output("nmcli -g GENERAL.STATE device show eth0")
    assert state == "10 (unmanaged)"
    assert "eth0" not in connections(taken)
    assert resolves(taken, "robot.before.test") == "192.0.2.55"


def test_at_the_next_boot_networkmanager_has_it_with_its_address(
    taken: Host, reboot: Callable[[Host], None]
) -> None:
    (before,) = addresses(taken, "eth0")
    route = taken.check_output("ip route show default | cut -d' ' -f-3")
    reboot(taken)
    assert taken.run("systemctl is-active systemd-networkd").stdout.strip() == "inactive"
    # The container's engine has configured it again, which keeps NetworkManager from doing so.
    assert connections(taken)["eth0"] == "eth0"
    taken.check_output("ip address flush dev eth0 && nmcli connection up gantry-eth0")
    eventually(lambda: addresses(taken, "eth0"), [before])
    assert taken.check_output("ip route show default | cut -d' ' -f-3") == route
    assert resolves(taken, "registry.devbots.gantry.internal") == "192.0.2.10"
    assert taken.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_a_device_that_is_not_taken_over_stays_with_its_program(on: On) -> None:
    kept = on("network-kept")
    assert kept.check_output("systemctl is-enabled systemd-networkd") == "enabled"
    assert kept.check_output("nmcli -g GENERAL.STATE device show eth0") == "10 (unmanaged)"
    assert kept.check_output("NetworkManager --print-config").count("interface-name:eth0") == 1
    assert not kept.file("/run/NetworkManager/conf.d/gantry-hold.conf").exists
    # The device asks whom it asked; containers ask gantry-dns, which asks the same.
    assert kept.check_output("cat /etc/resolv.conf") == "nameserver 127.0.0.9"
    program = "import socket; print(socket.gethostbyname('robot.before.test'))"
    asked = kept.check_output(
        "echo nameserver 10.114.102.1 > /run/asked && unshare --mount sh -c %s",
        f'mount --bind /run/asked /etc/resolv.conf && python3 -c "{program}"',
    )
    assert asked == "192.0.2.55"


def test_a_refused_host_is_as_it_was(on: On) -> None:
    refused = on("network-refused")
    assert not refused.file("/etc/gantry/dnsmasq.conf").exists
    assert not refused.file("/run/NetworkManager/conf.d/gantry-hold.conf").exists
    assert refused.check_output("systemctl is-enabled systemd-networkd") == "enabled"
    assert addresses(refused, "lan0") == ["192.0.2.3/24"]


def test_in_a_chroot_all_is_in_place_and_nothing_runs(on: On) -> None:
    chroot = on("network-chroot")
    wanted = chroot.file("/etc/systemd/system/multi-user.target.wants").listdir()
    ours = {
        "gantry-dns.service",
        "gantry-proxy.service",
        "NetworkManager.service",
        "ModemManager.service",
    }
    assert ours <= set(wanted)
    assert "redsocks.service" not in wanted
    assert sorted(chroot.file(INSTALLED).listdir()) == ["field", "office.nmconnection"]
    assert chroot.check_output("ps -C dnsmasq,NetworkManager,redsocks -o comm= || true") == ""
    # A build needs its own name servers still.
    assert not chroot.file("/etc/resolv.conf").is_symlink
