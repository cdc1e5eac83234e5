"""Which ports can be reached from where: asked by connecting."""

import json

import pytest

HOSTS = ["firewall-production", "firewall-development", "firewall-standalone"]
# Something answers on all of these: files/answer.py.
TCP = [22, 53, 80, 81, 1883, 2377, 8080, 22222, 48484]
UDP = [53, 67, 123, 5000, 5001, 5002, 5353]
OPEN = {
    "firewall-production": ({80, 22222}, {5000, 5001, 5353}),
    "firewall-development": ({2377, 22222, 48484}, {5353}),
    "firewall-standalone": ({22, 2377, 22222}, {5353}),
}
PROBE = """
import json, socket, sys
address, tcp, udp, source = json.loads(sys.argv[1])
found = {"tcp": [], "udp": [], "silent": []}
for port in tcp:
    try:
        with socket.create_connection((address, port), 4, source and (source, 0)) as plug:
            plug.sendall(b"said")
            if plug.recv(4) == b"said":
                found["tcp"].append(port)
    except TimeoutError:
        found["silent"].append(port)
    except OSError:
        pass
info = socket.getaddrinfo(address, 1, type=socket.SOCK_DGRAM)[0]
for port in udp:
    with socket.socket(info[0], socket.SOCK_DGRAM) as plug:
        plug.settimeout(4)
        try:
            if source:
                plug.bind((source, 0))
            plug.connect((info[4][0], port, *info[4][2:]))
            plug.send(b"said")
            if plug.recv(4) == b"said":
                found["udp"].append(port)
        except OSError:
            pass
print(json.dumps(found))
"""


def reach(where, command, address, tcp=TCP, udp=UDP, source=None):
    """Ports of an address that answer to who runs `command` (a Python) on `where`."""
    asked = json.dumps([address, tcp, udp, source])
    found = json.loads(where.check_output(f"{command} -c %s %s", PROBE, asked))
    return set(found["tcp"]), set(found["udp"]), set(found["silent"])


def address_of(host, version=4):
    scope = "global" if version == 4 else "link"
    text = host.check_output(f"ip -{version} -json address show dev eth0 scope {scope}")
    return json.loads(text)[0]["addr_info"][0]["local"]


@pytest.fixture
def neighbour(on):
    return on("firewall-neighbour")


@pytest.mark.parametrize("name", HOSTS)
def test_a_neighbour_reaches_exactly_the_variants_ports(on, neighbour, name):
    tcp, udp, silent = reach(neighbour, "python3", address_of(on(name)))
    assert (tcp, udp) == OPEN[name]
    # Closed ports are refused, so that nobody waits.
    assert silent == set()


@pytest.mark.parametrize("name", HOSTS)
def test_the_same_over_ipv6(on, neighbour, name):
    tcp, udp, _ = reach(neighbour, "python3", f"{address_of(on(name), 6)}%eth0")
    assert (tcp, udp) == OPEN[name]


def test_a_neighbour_does_not_reach_the_resolver(on, neighbour):
    via = address_of(on("firewall-production"))
    neighbour.check_output(f"ip route replace 10.114.102.1/32 via {via}")
    tcp, udp, _ = reach(neighbour, "python3", "10.114.102.1")
    assert (tcp, udp) == OPEN["firewall-production"]


@pytest.mark.parametrize("name", HOSTS)
def test_it_answers_pings_and_reaches_itself(on, neighbour, name):
    host = on(name)
    assert neighbour.run("ping -c 1 -W 2 %s", address_of(host)).rc == 0
    assert neighbour.run("ping -c 1 -W 2 %s%%eth0", address_of(host, 6)).rc == 0
    tcp, udp, _ = reach(host, "python3", "127.0.0.1")
    assert (tcp, udp) == (set(TCP), set(UDP))


@pytest.mark.parametrize("container", ["bridged", "networked"])
def test_containers_reach_the_resolver_and_the_supervisor(on, container):
    host = on("firewall-production")
    python = f"docker exec {container} /usr/bin/python3"
    everybodys = OPEN["firewall-production"]
    tcp, udp, _ = reach(host, python, "10.114.102.1")
    assert (tcp, udp) == (everybodys[0] | {53, 48484}, everybodys[1] | {53})
    gateway = host.check_output(
        "docker inspect --format '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}' %s",
        container,
    )
    tcp, udp, _ = reach(host, python, gateway)
    assert (tcp, udp) == (everybodys[0] | {48484}, everybodys[1])


CLOUD = "ip netns exec cloud python3"


def test_the_cloud_side_reaches_every_tcp_port_and_what_containers_publish(on):
    host = on("firewall-production")
    tcp, udp, silent = reach(host, CLOUD, "100.64.0.2", [*TCP, 8888], source="100.64.0.1")
    assert (tcp, udp, silent) == ({*TCP, 8888}, set(), set())
    assert host.run("ip netns exec cloud ping -c 1 -W 2 -I 100.64.0.1 100.64.0.2").rc == 0


def test_nobody_else_reaches_anything_by_the_tunnel(on):
    """Neither what is open to the network, nor published ports."""
    host = on("firewall-production")
    tcp, udp, silent = reach(host, CLOUD, "100.64.0.2", [*TCP, 8888], source="100.64.0.3")
    assert (tcp, udp, silent) == (set(), set(), set())
    assert host.run("ip netns exec cloud ping -c 1 -W 2 -I 100.64.0.3 100.64.0.2").rc == 1


def test_the_tunnel_leads_to_the_device_alone(on):
    """Not to its resolver, its containers by their own addresses, or its other addresses."""
    host = on("firewall-production")
    container = host.check_output(
        "docker inspect --format '{{.NetworkSettings.IPAddress}}' published"
    )
    for address in ("10.114.102.1", container, address_of(host)):
        host.check_output(f"ip -n cloud route replace {address}/32 via 100.64.0.2")
        tcp, udp, silent = reach(host, CLOUD, address, source="100.64.0.1")
        assert (address, tcp, udp, silent) == (address, set(), set(), set())


def test_published_ports_are_reached(on, neighbour):
    host = on("firewall-production")
    tcp, _, _ = reach(neighbour, "python3", address_of(host), [8888], [])
    assert tcp == {8888}


def test_the_engines_rules_are_untouched(on):
    host = on("firewall-production")
    now = host.check_output("iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'")
    assert now == host.file("/var/tmp/engine-rules").content_string.strip()
    host.check_output("systemctl reload gantry-firewall")
    again = host.check_output("iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'")
    assert again == now
    assert "DOCKER" in now


def tables(host):
    """All but that of Docker's own resolver, which every container of a network has."""
    return set(host.check_output("nft list tables").splitlines()) - {"table ip nat"}


def test_our_table_is_the_only_one_of_ours(on):
    assert tables(on("firewall-development")) == {"table inet gantry"}


TALK = """
import socket, sys, time, pathlib
plug = socket.create_connection((sys.argv[1], 81), 5)
pathlib.Path("/tmp/connected").touch()
while not pathlib.Path("/tmp/loaded").exists():
    time.sleep(0.1)
plug.settimeout(5)
plug.sendall(b"on")
sys.exit(plug.recv(2) != b"on")
"""


def test_connections_from_before_the_rules_go_on(on, neighbour):
    host = on("firewall-development")
    address = address_of(host)
    host.check_output("systemctl stop gantry-firewall")
    assert tables(host) == set()
    assert reach(neighbour, "python3", address, [81], [])[0] == {81}
    neighbour.check_output("rm -f /tmp/connected /tmp/loaded /tmp/talked")
    neighbour.check_output(
        "(timeout 30 python3 -c %s %s; echo $? > /tmp/talked) > /dev/null 2>&1 & "
        "while ! test -e /tmp/connected; do sleep 0.1; done",
        TALK,
        address,
    )
    host.check_output("systemctl start gantry-firewall")
    neighbour.check_output("touch /tmp/loaded")
    neighbour.check_output("timeout 30 sh -c 'while ! test -s /tmp/talked; do sleep 0.1; done'")
    assert neighbour.file("/tmp/talked").content_string == "0\n"
    assert reach(neighbour, "python3", address, [81], [])[0] == set()


def test_rules_are_there_before_the_network_after_a_boot(on, reboot):
    host = on("firewall-standalone")
    before = host.check_output("nft --stateless list table inet gantry")
    reboot(host)
    assert host.check_output("nft --stateless list table inet gantry") == before
    assert host.service("gantry-firewall").is_enabled
    shown = "systemctl show --property=ActiveEnterTimestampMonotonic --value %s"
    loaded = int(host.check_output(shown, "gantry-firewall"))
    network = int(host.check_output(shown, "network-pre.target"))
    assert 0 < loaded <= network


def test_an_image_gets_the_rules_and_nothing_is_loaded(neighbour):
    assert neighbour.check_output("systemctl is-enabled gantry-firewall") == "enabled"
    assert neighbour.file("/etc/gantry/firewall.nft").mode == 0o644
    assert tables(neighbour) == set()


def test_what_was_refused_changed_nothing(on):
    host = on("firewall-refused")
    assert not host.file("/etc/gantry/firewall.nft").exists
    assert not host.file("/etc/systemd/system/gantry-firewall.service").exists
