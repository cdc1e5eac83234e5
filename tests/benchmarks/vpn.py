"""Real OpenVPN clients before one VPN server: what each takes, how fast they come, and a tunnel's
throughput beside plain TCP's, in the same run.

    .venv/bin/python -m tests.benchmarks.vpn [--clients 500] [--idle 60]

All clients run in one container, each with a tun device of its own and no address on it; the server
is in another, as it is deployed. The api and its PostgreSQL are this benchmark's own.
"""

import argparse
import contextlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
import httpx2

from gantry.simulator.servers import look
from tests.benchmarks import machine
from tests.benchmarks.requests import processor_seconds
from tests.integration.api.conftest import (
    container_postgres,
    free_port,
    make_config,
    own_database,
    running,
)
from tests.integration.vpn.cloud import Cloud, new_fleet
from tests.integration.vpn.network import (
    SERVICE_KEY,
    Server,
    client_conf,
    own_network,
    wait_until,
)

CONNECTED = "gantry_vpn_devices_connected"
TUNNEL_BYTES, PLAIN_BYTES = 30_000_000, 300_000_000
ROUNDS = 3
# Starts each client as soon as the one before has forked; they go on by themselves.
FARM = """
for number in $(seq 1 {count}); do
    openvpn --config /etc/gantry/client.conf --auth-user-pass /etc/gantry/login-$number \\
        --ifconfig-noexec --daemon >/dev/null
done
"""
SEND = """
import socketserver
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
class Send(socketserver.BaseRequestHandler):
    def handle(self):
        left, piece = int(self.rfile.readline()), b"x" * 65536
        while left > 0:
            self.request.sendall(piece[:left])
            left -= len(piece)
class Lines(Send):
    def setup(self):
        self.rfile = self.request.makefile("rb")
Server(("0.0.0.0", 9000), Lines).serve_forever()
"""
TAKE = """
import socket, sys, time
end = socket.create_connection((sys.argv[1], 9000), 60)
left = amount = int(sys.argv[2])
begun = time.monotonic()
end.sendall(b"%d\\n" % amount)
while left > 0:
    piece = end.recv(65536)
    assert piece
    left -= len(piece)
print(amount / (time.monotonic() - begun))
"""


@dataclass(frozen=True)
class Found:
    """The figures; memory in bytes, times in seconds, throughput in bytes a second."""

    clients: int
    connect_seconds: float
    return_seconds: float
    openvpn_memory: float
    service_memory: float
    openvpn_processor: float
    service_processor: float
    tunnel: tuple[float, ...]
    plain: tuple[float, ...]


@contextlib.contextmanager
def cloud_side(folder: Path) -> Iterator[Cloud]:
    """A network, an api and a PostgreSQL of their own."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(docker.from_env(timeout=600)))
        postgres = stack.enter_context(container_postgres())
        config = make_config(stack.enter_context(own_database(postgres)), free_port())
        config["listen_host"] = "0.0.0.0"  # noqa: S104 - the server reaches it from its container
        config["service_keys"]["vpn"] = SERVICE_KEY
        net = stack.enter_context(own_network(engine))
        api = stack.enter_context(running(config, folder))
        made = Cloud(api, net, new_fleet(api))
        stack.callback(made.remove_all)
        yield made


def measure(cloud: Cloud, count: int, idle: float, say: Callable[[str], None]) -> Found:
    """One run with so many clients, and `idle` seconds of nothing."""
    server = cloud.server()
    tunnel, plain = throughput(cloud, server, say)
    say(f"{count} devices are registered")
    logins = register(cloud, count)
    pids = _processes(server)
    before = look(pids)
    with farm(cloud, logins) as start:
        say("they connect")
        connecting = _until_all(server, count, start)
        time.sleep(10)
        say(f"they are idle for {idle:g} s")
        spent = {name: processor_seconds(pid) for name, pid in pids.items()}
        time.sleep(idle)
        spent = {name: processor_seconds(pid) - spent[name] for name, pid in pids.items()}
        after = look(pids)
        say("the server's openvpn is killed")
        os.kill(pids["openvpn"], 9)
        returning = _until_all(server, count, lambda: None)
    memory = {name: (after[name].memory - before[name].memory) / count for name in pids}
    memory["service"] -= memory["openvpn"]  # its child
    return Found(
        clients=count,
        connect_seconds=connecting,
        return_seconds=returning,
        openvpn_memory=memory["openvpn"],
        service_memory=memory["service"],
        openvpn_processor=spent["openvpn"] / idle / count,
        service_processor=spent["service"] / idle / count,
        tunnel=tunnel,
        plain=plain,
    )


def throughput(
    cloud: Cloud, server: Server, say: Callable[[str], None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bytes a second from a device to the server: through the tunnel, and beside it, in turns."""
    say("one tunnel is measured")
    device = cloud.device()
    client = cloud.client(device).connect()
    places = {client.connected(): TUNNEL_BYTES, cloud.net.address(client.container): PLAIN_BYTES}
    client.run(SEND)
    client.listens(9000)
    rates: dict[str, list[float]] = {place: [] for place in places}
    for _ in range(ROUNDS):
        for place, amount in places.items():
            rates[place].append(float(server.sh(f"python3 -c '{TAKE}' {place} {amount}")))
    client.disconnect()
    cloud.wait_gone(device)
    tunnel, plain = rates.values()
    return tuple(tunnel), tuple(plain)


@contextlib.contextmanager
def farm(cloud: Cloud, logins: dict[str, str]) -> Iterator[Callable[[], None]]:
    """A container with all clients' logins; what starts them."""
    files = {
        "ca.crt": cloud.net.authority.certificate_pem,
        "client.conf": client_conf("vpn-1")
        .replace("dev tun0\n", "dev tun\n")
        .replace("auth-user-pass /etc/gantry/login\n", "")
        .replace("verb 3", "verb 1"),
        **logins,
    }
    container = cloud.net.run("farm", files, ["sleep", "infinity"], init=True)

    def start() -> None:
        script = FARM.format(count=len(logins))
        container.exec_run(["sh", "-c", script], detach=True)

    try:
        yield start
    finally:
        container.remove(force=True, v=True)


def report(found: Found) -> str:
    """The figures, as a table in Markdown."""
    tunnel, plain = (statistics.median(each) / 1e6 for each in (found.tunnel, found.plain))
    rows = [
        ["memory of openvpn, a client", f"{found.openvpn_memory / 1024:.0f} KiB"],
        ["memory of the service, a client", f"{found.service_memory / 1024:.1f} KiB"],
        ["processor of openvpn, an idle client", f"{found.openvpn_processor * 1e6:.0f} µs/s"],
        ["processor of the service, an idle client", f"{found.service_processor * 1e6:.0f} µs/s"],
        ["logins", f"{found.clients / found.connect_seconds:.0f} a second"],
        ["all back after openvpn was killed", f"{found.return_seconds:.0f} s"],
        ["one tunnel", f"{tunnel:.0f} MB/s"],
        ["plain TCP", f"{plain:.0f} MB/s"],
    ]
    return machine.table([f"{found.clients} clients", ""], rows)


def register(cloud: Cloud, count: int) -> dict[str, str]:
    """Files with the logins of so many new devices, `login-1` and on."""
    files = {}
    with httpx2.Client(base_url=cloud.api.url, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {cloud.fleet.provisioning_key()}"
        for number in range(1, count + 1):
            uuid, key = secrets.token_hex(16), secrets.token_hex(16)
            body = {"application": cloud.fleet.id, "uuid": uuid, "api_key": key}
            answer = client.post("/device/register", json=body)
            assert answer.status_code == 201, answer.text
            files[f"login-{number}"] = f"{uuid}\n{key}\n"
    return files


def _processes(server: Server) -> dict[str, int]:
    (openvpn,), (service,) = server.process_ids("openvpn"), server.process_ids("python3")
    return {"openvpn": openvpn, "service": service}


def _until_all(server: Server, count: int, start: Callable[[], None]) -> float:
    """The seconds until so many are connected."""
    before = server.metric(CONNECTED)
    start()
    if before:
        wait_until(lambda: server.metric(CONNECTED) < count, 30, server.output)
    return wait_until(lambda: server.metric(CONNECTED) == count, 900, server.output)


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.vpn")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--idle", type=float, default=60.0)
    chosen = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    print(machine.describe())
    print(f"load before: {machine.load():.1f}")
    with tempfile.TemporaryDirectory() as folder, cloud_side(Path(folder)) as cloud:
        found = measure(cloud, chosen.clients, chosen.idle, say)
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
