"""The balancer with the real HAProxy: who is led where by what they say first."""

import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import docker
import pytest

from .conftest import Run
from .standins import HOST, MEBIBYTE, PORT, VPN_SERVERS, Balanced, balanced, request

DEVICE = "0123456789abcdef0123456789abcdef.devices"
SECONDS = 30
# As infra/haproxy_cfg.py has it.
PEOPLE_IN_TEN_SECONDS = 200
# A client in a container of the same network: whom it came to.
HELLO = """
import socket, sys
with socket.create_connection(("balancer", 1194), 30) as stream:
    stream.sendall(bytes.fromhex(sys.argv[1]))
    try:
        said = stream.recv(64).splitlines()
    except ConnectionResetError:
        said = []
print(said[0].decode() if said else "refused")
"""
# P_CONTROL_HARD_RESET_CLIENT_V2 and _V3 of OpenVPN: length, opcode and key, session, no acks, id.
RESETS = [
    struct.pack(">HB8sBI", 14, opcode << 3, b"session!", 0, 0) for opcode in (7, 10)
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    with closing(docker.from_env()) as client:
        yield client


@pytest.fixture(scope="module")
def own(client: docker.DockerClient, run: Run) -> Iterator[Balanced]:
    """A balancer whose port is the VPN's alone."""
    with balanced(client, run(vpn='{"servers": 2}')) as made:
        yield made


@pytest.fixture(scope="module")
def shared(client: docker.DockerClient, run: Run) -> Iterator[Balanced]:
    """A balancer whose port is HTTPS's too."""
    with balanced(client, run(vpn='{"servers": 2, "sharePort": true}')) as made:
        yield made


@pytest.fixture(params=["own", "shared"])
def balancer(request: pytest.FixtureRequest) -> Balanced:
    found: Balanced = request.getfixturevalue(request.param)
    return found


def servers_met(balancer: Balanced, first: bytes = RESETS[0]) -> set[str]:
    """Where six clients who come one after another are led."""
    streams = [hello(balancer, first) for _ in range(6)]
    for stream, _ in streams:
        stream.close()
    return {name.decode() for _, name in streams}


def hello(balancer: Balanced, first: bytes) -> tuple[socket.socket, bytes]:
    """A connection whose client speaks first, and which server it came to."""
    stream = balancer.front.plain()
    stream.sendall(first)
    name = b""
    while not name.endswith(b"\n") and (got := stream.recv(1)):
        name += got
    return stream, name.strip()


def soon(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("first", RESETS)
def test_openvpn_is_spread_over_its_servers(balancer: Balanced, first: bytes) -> None:
    # At the start, one of them may not have been looked at yet.
    soon(lambda: servers_met(balancer, first) == set(VPN_SERVERS))
    with hello(balancer, first)[0] as stream:
        # What was said first arrives too.
        assert stream.recv(len(first)) == first
        for _ in range(64):
            stream.sendall(bytes(16384))
            received = 0
            while received < 16384:
                received += len(stream.recv(65536))


def test_a_client_that_is_slow_to_begin_is_understood(balancer: Balanced) -> None:
    with balancer.front.plain() as stream:
        for each in RESETS[0]:
            stream.sendall(bytes([each]))
            time.sleep(0.05)
        assert stream.recv(5).decode() in VPN_SERVERS


def test_people_come_to_the_tunnels(balancer: Balanced) -> None:
    with balancer.front.stream("tunnel", balancer.front.trust) as stream:
        assert stream.recv(5).decode() in VPN_SERVERS


@pytest.mark.parametrize("size", [3, 7, 60])
def test_a_hello_in_pieces_leads_to_where_its_name_says(balancer: Balanced, size: int) -> None:
    """The first piece says that it is TLS, and not yet for whom."""
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = f"tunnel.{HOST}"
    tls = balancer.front.trust.wrap_bio(received, to_send, server_hostname=name)
    with balancer.front.plain() as plain:
        for wanted in (tls.do_handshake, lambda: tls.read(5)):
            while True:
                try:
                    answer = wanted()
                    break
                except ssl.SSLWantReadError:
                    if hello := to_send.read():
                        plain.sendall(hello[:size])
                        time.sleep(0.3)
                        plain.sendall(hello[size:])
                    got = plain.recv(65536)
                    assert got, "the connection was closed"
                    received.write(got)
            # What is left of the handshake goes before what is read.
            plain.sendall(to_send.read())
    assert answer is not None
    assert answer.decode() in VPN_SERVERS


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b""])
def test_other_languages_are_not_spoken(balancer: Balanced, first: bytes) -> None:
    with balancer.front.plain() as stream:
        stream.sendall(first)
        began = time.monotonic()
        assert stream.recv(64) == b""
        assert time.monotonic() - began < SECONDS / 2


@pytest.mark.parametrize("name", ["api", "vpn", DEVICE])
def test_a_port_of_its_own_is_the_vpns_alone(own: Balanced, name: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)), own.front.stream(name, own.front.trust):
        pass


def test_a_server_that_is_away_is_passed_over_and_found_again(own: Balanced) -> None:
    soon(lambda: servers_met(own) == set(VPN_SERVERS))
    # Those with a server stay there, whatever becomes of the other.
    streams = [hello(own, RESETS[0]) for _ in range(4)]
    staying = next(stream for stream, name in streams if name == b"vpn-2")
    assert staying.recv(64) == RESETS[0]
    own.servers["vpn-1"].kill()
    try:
        assert servers_met(own) == {"vpn-2"}
        staying.sendall(b"still here")
        assert staying.recv(64) == b"still here"
    finally:
        own.servers["vpn-1"].start()
        for stream, _ in streams:
            stream.close()
    soon(lambda: "vpn-1" in servers_met(own))


def test_it_stops_at_once(client: docker.DockerClient, own: Balanced) -> None:
    """An `up` that replaces it would wait for as long as Docker does."""
    container = own.front.container
    with hello(own, RESETS[0])[0] as stream:
        began = time.monotonic()
        container.stop(timeout=SECONDS)
        assert time.monotonic() - began < SECONDS / 3
        assert stream.recv(len(RESETS[0])) in (RESETS[0], b"")


def test_one_address_has_so_many_newcomers_and_no_more(
    client: docker.DockerClient, run: Run
) -> None:
    with balanced(client, run(vpn='{"connectionsPerMinute": 5}')) as made, ExitStack() as open_:
        # Who has got in stays, and is not counted again.
        for _ in range(5):
            stream, name = hello(made, RESETS[0])
            open_.enter_context(stream)
            assert name.decode() in VPN_SERVERS
        for _ in range(20):
            assert refused(made, RESETS[0])
        # Somebody else has their own five, whatever that one does.
        other = ["python3", "-c", HELLO, RESETS[0].hex()]
        for _ in range(5):
            assert made.servers["vpn-2"].exec_run(other).output in (b"vpn-1\n", b"vpn-2\n")
        assert made.servers["vpn-2"].exec_run(other).output == b"refused\n"
        # People are counted for themselves.
        entered = 0
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            for entered in range(PEOPLE_IN_TEN_SECONDS + 1):  # noqa: B007
                with made.front.stream("tunnel", made.front.trust) as person:
                    assert person.recv(5).decode() in VPN_SERVERS
        assert entered == PEOPLE_IN_TEN_SECONDS


def refused(balancer: Balanced, first: bytes) -> bool:
    """Whether a client who says this is sent away without a word."""
    with balancer.front.plain() as stream:
        stream.sendall(first)
        try:
            return stream.recv(64) == b""
        except ConnectionResetError:
            return True


def test_https_goes_on_to_the_proxy(shared: Balanced) -> None:
    answer, body = shared.front.ask("api", "/v7/x?y=z")
    asked = json.loads(body)
    assert (answer.status, asked["port"], asked["path"]) == (200, 8080, "/v7/x?y=z")
    assert asked["host"] == f"api.{HOST}:{PORT}"
    assert asked["headers"]["X-Forwarded-Proto"] == "https"
    assert json.loads(shared.front.ask("registry", "/v2/")[1])["port"] == 5000
    assert json.loads(shared.front.ask(DEVICE, "/")[1])["port"] == 8081
    assert shared.front.ask("api", "/services/git/accounts")[0].status == 404


def test_the_services_see_the_client_and_not_the_balancer(
    shared: Balanced, client: docker.DockerClient
) -> None:
    """The api counts failed logins by it."""
    shared.front.container.reload()
    (end,) = shared.front.container.attrs["NetworkSettings"]["Networks"].values()
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Gantry-Client": "203.0.113.9",
        "X-Gantry-Balancer": "x",
    }
    for name in ("api", "logs", "registry", DEVICE):
        headers = json.loads(shared.front.ask(name, "/", headers=forged)[1])["headers"]
        # Docker's own door: who comes to a published port on loopback.
        assert headers["X-Forwarded-For"] == end["Gateway"]
        assert not [each for each in headers if each.lower().startswith("x-gantry-")]


def test_who_goes_past_the_balancer_is_not_believed(shared: Balanced) -> None:
    """A virtual device reaches the proxy itself."""
    asked = shared.servers["vpn-2"].exec_run(
        [
            "curl", "-sk", "--connect-to", f"api.{HOST}:{PORT}:proxy:{PORT}",
            "-H", "X-Gantry-Client: 203.0.113.9", "-H", "X-Gantry-Balancer: guessed",
            "-H", "X-Forwarded-For: 203.0.113.9", f"https://api.{HOST}:{PORT}/",
        ]
    )  # fmt: skip
    shared.servers["vpn-2"].reload()
    (end,) = shared.servers["vpn-2"].attrs["NetworkSettings"]["Networks"].values()
    assert isinstance(asked.output, bytes)
    assert json.loads(asked.output)["headers"]["X-Forwarded-For"] == end["IPAddress"]


def test_streams_and_websockets_pass(shared: Balanced) -> None:
    with shared.front.stream("api", shared.front.trust) as stream:
        stream.sendall(f"GET /slow HTTP/1.1\r\nHost: api.{HOST}:{PORT}\r\n\r\n".encode())
        received = b""
        while b"first\n" not in received:
            received += stream.recv(4096)
        assert b"second\n" not in received
    with shared.front.stream(DEVICE, shared.front.trust) as stream:
        stream.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {DEVICE}.{HOST}:{PORT}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        file = stream.makefile("rwb")
        assert b" 101 " in file.readline()
        while file.readline() != b"\r\n":
            pass
        file.write(b"one\nbye\n")
        file.flush()
        assert file.read() == b"one\n"


def test_large_bodies_and_kept_connections_pass(shared: Balanced) -> None:
    answer, _ = shared.front.ask("registry", "/v2/x", "PUT", bytes(64 * MEBIBYTE))
    assert answer.status == 200
    with shared.front.stream("api", shared.front.trust) as stream:
        for _ in range(20):
            answer, body = request(stream, "api", "/v7/device", "POST", bytes(MEBIBYTE))
            assert (answer.status, json.loads(body)["path"]) == (200, "/v7/device")


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_both_protocols_are_spoken(shared: Balanced, protocol: str) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    trust.set_alpn_protocols([protocol])
    with shared.front.stream("api", trust) as stream:
        assert stream.selected_alpn_protocol() == protocol
