"""Devices reach nothing: not each other, not the server, not what is behind it. Every port."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.vpn.network import Server, wait_until

# Tries all ports of an address through the tunnel. An answer of any kind is one too many: a
# connection, a refusal, an ICMP message. Silence is how nothing looks.
SCAN = """
import errno, json, resource, select, socket, sys, time
host = sys.argv[1]
limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50, 9000)
answers = []
for begin in range(1, 65536, limit):
    ends, poll = {}, select.epoll()
    for port in range(begin, min(begin + limit, 65536)):
        end = socket.socket()
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, 25, b"tun0")
        code = end.connect_ex((host, port))
        if code != errno.EINPROGRESS:
            answers.append((port, errno.errorcode.get(code, code)))
        ends[end.fileno()] = (port, end)
        poll.register(end, select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP)
    over = time.monotonic() + 1.5
    while (left := over - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, end = ends[number]
            poll.unregister(end)
            code = end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            answers.append((port, errno.errorcode.get(code, "open")))
    for _, end in ends.values():
        end.close()
print(json.dumps(answers))
"""
LISTEN = """
import socket, sys, time
ends = [socket.create_server(("0.0.0.0", int(port))) for port in sys.argv[1:]]
time.sleep(3600)
"""
UDP = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("0.0.0.0", 5300))
end.settimeout(float(sys.argv[1]))
try:
    said = f"heard {end.recvfrom(100)}"
except TimeoutError:
    said = "nothing"
with open("/tmp/said", "w") as file:
    file.write(said)
"""
# With the address as a further one of the tunnel's own (netdevice(7): SIOCSIFADDR).
SEND = """
import fcntl, socket, struct, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
source = struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(sys.argv[1]))
fcntl.ioctl(end, 0x8916, struct.pack("16s16s8x", b"tun0:1", source))
end.bind((sys.argv[1], 0))
end.sendto(b"x", ("100.64.0.1", 5300))
"""
PORTS = ("22", "80", "22222", "48484")


@pytest.fixture(scope="module")
def two(member: Any) -> Any:
    """Two devices that are connected; the second listens on what devices listen on."""
    first, second = member(), member()
    for _, client in (first, second):
        client.run(LISTEN, *PORTS)
        for port in PORTS:
            client.listens(int(port))
    return first, second


@pytest.fixture(scope="module")
def answers(cloud: Any, server: Server, two: Any) -> Any:
    """What the first device hears from each port of what it might reach, all tried side by side."""
    (_, first), (_, second) = two
    places = {
        "another device": second.tunnel_address,
        "the server": "100.64.0.1",
        "the server inside": server.address,
        "the api": cloud.net.gateway,
    }

    def scan(host: str) -> Any:
        return json.loads(first.sh(f"python3 -c '{SCAN}' {host}"))

    with ThreadPoolExecutor() as pool:
        return dict(zip(places, pool.map(scan, places.values()), strict=True))


def test_a_device_reaches_no_port_of_another(server: Server, two: Any, answers: Any) -> None:
    _, (_, second) = two
    # The ports are open: the server reaches each of them.
    address = second.tunnel_address
    for port in PORTS:
        server.sh(f"python3 -c \"import socket;socket.create_connection(('{address}',{port}),5)\"")
    assert answers["another device"] == []


def test_a_device_reaches_no_port_of_the_server(answers: Any) -> None:
    assert answers["the server"] == []


def test_a_device_reaches_nothing_behind_the_server(
    cloud: Any, server: Server, two: Any, answers: Any
) -> None:
    (_, first), _ = two
    # Without the tunnel these answer: the service itself, and the api.
    assert first.sh(f"curl -s http://{server.address}:8080/ping") == "OK"
    assert first.sh(f"curl -s {cloud.url}/ping") == "OK"
    assert answers["the server inside"] == answers["the api"] == []


def test_other_protocols_pass_neither(server: Server, two: Any) -> None:
    (_, first), (_, second) = two
    send = "import socket;socket.socket(2,2).sendto(b'x',('{}',5300))"
    address = second.tunnel_address
    for wait, sender, heard in (("10", server.container, True), ("3", first.container, False)):
        second.sh("rm -f /tmp/said")
        second.run(UDP, wait)
        second.listens(5300, "udp")
        assert sender.exec_run(["python3", "-c", send.format(address)]).exit_code == 0
        wait_until(lambda: second.sh("cat /tmp/said 2>/dev/null || true") != "", 30)
        assert ("heard" in second.sh("cat /tmp/said")) is heard


def test_a_device_cannot_take_another_s_address(server: Server, two: Any) -> None:
    """A packet with a source that is not the device's own goes nowhere."""
    (_, first), (_, second) = two
    dropped = "nft list chain inet gantry_vpn input"
    before = server.sh(dropped)
    first.sh(f"python3 -c '{SEND}' {first.tunnel_address}")
    # Its own arrives at the server, and is dropped there.
    wait_until(lambda: server.sh(dropped) != before, 10)
    before = server.sh(dropped)
    first.sh(f"python3 -c '{SEND}' {second.tunnel_address}")
    first.sh("sleep 1")
    assert server.sh(dropped) == before
