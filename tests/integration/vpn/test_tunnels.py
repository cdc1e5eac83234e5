"""The CONNECT proxy and public URLs: who gets through, what passes, and what is cut when."""

import base64
import hashlib
import os
import socket
import threading
import time
from typing import Any

import httpx2
import pytest

from tests.integration.vpn.network import HOST, SERVICE_KEY, Server, wait_until
from tests.integration.vpn.proxy import ask

ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(65536):
            self.request.sendall(piece)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
Server(("0.0.0.0", 7000), Echo).serve_forever()
"""

# As a websocket begins (RFC 6455, 4.2.2); then it sends back each line.
UPGRADE = """
import socketserver
class Upgraded(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\n"
                         b"Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n")
        while piece := self.rfile.readline():
            self.wfile.write(piece)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
Server(("0.0.0.0", 80), Upgraded).serve_forever()
"""


@pytest.fixture(scope="module")
def device(cloud: Any, member: Any) -> Any:
    """A device that is connected, with a web server and an echo server."""
    made, client = member()
    client.serve(80, "page of the device")
    client.run(ECHO)
    client.listens(7000)
    return made


def test_a_person_reaches_a_port_of_their_device(cloud: Any, server: Server, device: Any) -> None:
    key = cloud.person()
    basic = base64.b64encode(f"admin:{key}".encode()).decode()
    content = os.urandom(2 * 1024**2)
    for target, authorization in (
        (f"{device.uuid}.gantry:7000", f"Bearer {key}"),
        (f"{device.uuid[:8]}.balena:7000", f"Basic {basic}"),
        (f"{device.uuid}.resin:7000", f"Basic {basic}"),
    ):
        with ask(server, target, authorization) as answer:
            assert answer.status == 200, answer.body
            back = b""
            sender = threading.Thread(target=answer.socket.sendall, args=(content,))
            sender.start()
            while len(back) < len(content):
                back += answer.socket.recv(65536)
            sender.join()
            assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()


def test_who_gets_through(cloud: Any, server: Server, device: Any) -> None:
    away = cloud.device()
    key = cloud.person()
    ended = cloud.person()
    cloud.revoke_person(ended)
    stranger = cloud.stranger().user.headers["Authorization"]
    port = f"{device.uuid}.gantry:7000"
    rows = [
        (port, None, 407),
        (port, "Bearer ", 407),
        (port, "Basic !", 407),
        (port, "Bearer nobody", 407),
        (port, f"Bearer {ended}", 407),
        (port, f"Bearer {device.key}", 403),
        (port, f"Bearer {cloud.fleet.provisioning_key()}", 403),
        (port, f"Bearer {SERVICE_KEY}", 407),
        (port, stranger, 404),
        (f"{away.uuid}.gantry:7000", f"Bearer {key}", 503),
        (f"{'0' * 32}.gantry:7000", f"Bearer {key}", 404),
        (f"{device.uuid}.gantry:9", f"Bearer {key}", 502),
        (f"{device.uuid}.gantry:0", f"Bearer {key}", 400),
        (f"{device.uuid}.gantry:65536", f"Bearer {key}", 400),
        ("example.com:443", f"Bearer {key}", 400),
        ("100.64.0.1:8080", f"Bearer {key}", 400),
        (port, f"Bearer {key}", 200),
    ]
    for target, authorization, status in rows:
        with ask(server, target, authorization) as answer:
            assert (target, answer.status) == (target, status), answer.body
            assert status == 200 or (answer.body.strip() and "\n" not in answer.body.strip())
    inside = [
        (None, 407),
        (f"Bearer {key}", 407),
        (f"Bearer {device.key}", 407),
        (f"Bearer {SERVICE_KEY}", 200),
    ]
    for authorization, status in inside:
        with ask(server, port, authorization, tls=False) as answer:
            assert answer.status == status, answer.body
    with ask(server, f"{away.uuid}.gantry:1", f"Bearer {SERVICE_KEY}", tls=False) as answer:
        assert answer.status == 503


def test_heads_are_limited(server: Server) -> None:
    requests = {
        b"GET / HTTP/1.1\r\n\r\n": 405,
        b"nothing\r\n\r\n": 400,
        b"CONNECT a HTTP/1.1\r\nX: " + b"y" * 40_000: 431,
    }
    for request, status in requests.items():
        with ask(server, "", request=request) as answer:
            assert answer.status == status, answer.body
    begun = time.monotonic()
    with ask(server, "", tls=False, request=b"CONNECT ") as answer:
        assert answer.status == 408
    assert 5 < time.monotonic() - begun < 15


def test_a_tunnel_ends_with_its_key_and_is_in_the_audit_log(
    cloud: Any, server: Server, device: Any
) -> None:
    key, other = cloud.person(), cloud.person()
    target = f"{device.uuid}.gantry:7000"
    before = len(cloud.audited(device, "open tunnel"))
    with (
        ask(server, target, f"Bearer {key}") as cut,
        ask(server, target, f"Bearer {other}") as kept,
    ):
        assert cut.carry(b"before") == b"before"
        cloud.revoke_person(key)
        assert cut.ended(30)
        assert kept.carry(b"after") == b"after"
    opened = cloud.audited(device, "open tunnel")[before:]
    assert [each["changes"]["port"] for each in opened] == [7000, 7000]
    sessions = {each["changes"]["session"] for each in opened}

    def told() -> list[dict[str, Any]]:
        ended = [each["changes"] for each in cloud.audited(device, "close tunnel")]
        return [each for each in ended if each["session"] in sessions]

    wait_until(lambda: len(told()) == 2, 20)
    assert [(each["bytes_in"], each["bytes_out"]) for each in told()] == [(6, 6), (5, 5)]


def test_a_tunnel_ends_with_its_device(cloud: Any, server: Server, member: Any) -> None:
    device, client = member()
    client.serve(80)
    with ask(server, f"{device.uuid}.gantry:80", f"Bearer {cloud.person()}") as answer:
        assert answer.status == 200
        client.disconnect()
        assert answer.ended(20)


def test_a_public_url_is_there_while_it_is_on(cloud: Any, server: Server, device: Any) -> None:
    def page() -> httpx2.Response:
        name = f"{device.uuid}.devices.{HOST}:8443"
        return httpx2.get(f"http://{server.address}:8081/", headers={"Host": name}, timeout=20)

    assert page().status_code == 404
    cloud.set_public(device, on=True)
    assert page().text == "page of the device"
    assert httpx2.get(f"http://{server.address}:8081/").status_code == 404
    # A connection that stays, as websockets do, is cut when it is switched off.
    with socket.create_connection((server.address, 8081), 20) as end:
        host = f"Host: {device.uuid}.devices.{HOST}"
        end.sendall(f"POST / HTTP/1.1\r\n{host}\r\nContent-Length: 9\r\n\r\n".encode())
        time.sleep(0.5)
        cloud.set_public(device, on=False)
        end.settimeout(20)
        while end.recv(65536):
            pass
    assert page().status_code == 404


def test_a_websocket_passes_and_is_cut_with_its_url(
    cloud: Any, server: Server, member: Any
) -> None:
    device, client = member()
    client.run(UPGRADE)
    client.listens(80)
    cloud.set_public(device, on=True)
    with socket.create_connection((server.address, 8081), 20) as end:
        host = f"Host: {device.uuid}.devices.{HOST}"
        end.sendall(f"GET / HTTP/1.1\r\n{host}\r\nUpgrade: websocket\r\n\r\n".encode())
        answer = end.makefile("rb")
        assert answer.readline().startswith(b"HTTP/1.1 101 ")
        while answer.readline().strip():
            pass
        for number in range(3):
            end.sendall(b"line %d\n" % number)
            assert answer.readline() == b"line %d\n" % number
        cloud.set_public(device, on=False)
        end.settimeout(20)
        assert answer.read() == b""


def test_a_server_that_is_full_says_so(cloud: Any) -> None:
    small = cloud.server("vpn-small", max_devices=1, max_tunnels=1)
    device, late = cloud.device(), cloud.device()
    client = cloud.client(device, "vpn-small").connect()
    client.connected()
    client.run(ECHO)
    client.listens(7000)
    cloud.wait_connected(device)
    cloud.client(late, "vpn-small").connect().hears("no room for more devices")
    target, key = f"{device.uuid}.gantry:7000", f"Bearer {cloud.person()}"
    with ask(small, target, key) as first:
        assert first.status == 200
        with ask(small, target, key) as second:
            assert (second.status, "no room for more tunnels" in second.body) == (503, True)
        # People do not keep the api from a device.
        with ask(small, target, f"Bearer {SERVICE_KEY}", tls=False) as own:
            assert own.carry(b"an action") == b"an action"
        assert first.carry(b"goes on") == b"goes on"
    told = [each for each in small.output().splitlines() if each.startswith("full: ")]
    assert len(told) == 2
    assert not cloud.is_connected(late)
