"""A device has its share, whoever else is busy; one that falls silent is noticed meanwhile."""

import threading
import time
from typing import Any

import pytest

from tests.integration.vpn.network import Client, wait_until

DROP = """
table inet gone {
    chain in { type filter hook input priority 0; iifname eth0 drop; }
    chain out { type filter hook output priority 0; oifname eth0 drop; }
}
"""

RATE = 400_000
AMOUNT = 2_400_000
SERVE = f"""
import socketserver
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
class Send(socketserver.BaseRequestHandler):
    def handle(self):
        if self.request.recv(1) == b"d":
            self.request.sendall(b"x" * {AMOUNT})
        else:
            left = {AMOUNT}
            while left > 0:
                left -= len(self.request.recv(65536))
            self.request.sendall(b"k")
Server(("0.0.0.0", 9000), Send).serve_forever()
"""
MEASURE = f"""
import socket, sys, time
end = socket.create_connection((sys.argv[1], 9000), 60)
begun = time.monotonic()
end.sendall(sys.argv[2].encode())
if sys.argv[2] == "d":
    left = {AMOUNT}
    while left > 0:
        left -= len(end.recv(65536))
else:
    end.sendall(b"x" * {AMOUNT})
    end.recv(1)
print(time.monotonic() - begun)
"""


@pytest.fixture(scope="module")
def silent(member: Any) -> Any:
    """A device of whose connection no end reaches the server, and since when."""
    device, client = member()
    address = client.tunnel_address
    client.sh(f"nft '{DROP}'")
    return device, client, address, time.monotonic()


def test_a_device_gets_its_rate_and_no_more(cloud: Any, silent: Any) -> None:
    slow = cloud.server("vpn-slow", rate_bytes_per_second=RATE)
    clients = [cloud.client(cloud.device(), "vpn-slow").connect() for _ in range(2)]
    seconds: dict[str, float] = {}

    def measure(client: Client, way: str) -> None:
        address = client.connected()
        client.run(SERVE)
        client.listens(9000)
        begun = time.monotonic()
        output = slow.sh(f"python3 -c '{MEASURE}' {address} {way}")
        seconds[way] = float(output)
        assert time.monotonic() - begun < 60

    # One takes and one brings at the same time: neither has less for it.
    threads = [
        threading.Thread(target=measure, args=pair) for pair in zip(clients, "du", strict=True)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # A second's worth goes at once.
    least = (AMOUNT - RATE) / RATE
    for way in "du":
        assert 0.8 * least < seconds[way] < 2.5 * least, seconds


def test_a_half_open_connection_is_noticed(cloud: Any, silent: Any) -> None:
    device, client, address, since = silent
    cloud.wait_gone(device, timeout=since + 60 - time.monotonic())
    assert time.monotonic() - since > 20  # by its silence, and nothing else
    client.sh("nft delete table inet gone")
    wait_until(lambda: bool(cloud.is_connected(device)), 60, client.log)
    assert client.tunnel_address == address
