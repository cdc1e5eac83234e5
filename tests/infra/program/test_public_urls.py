"""Public URLs of devices, with the real Caddy and a stand-in for the VPN's servers."""

import json
import ssl
from collections.abc import Iterator

import docker
import pytest

from .conftest import Run
from .servers import until
from .standins import HOST, MEBIBYTE, PORT, Front, proxied, request

DEVICE = "0123456789abcdef0123456789abcdef.devices"


@pytest.fixture(scope="module")
def proxy(run: Run) -> Iterator[Front]:
    client = docker.from_env()
    try:
        with proxied(client, run()) as front:
            yield front
    finally:
        client.close()


def test_a_request_reaches_the_vpn_as_it_was_made(proxy: Front) -> None:
    answer, body = proxy.ask(DEVICE, "/run?x=%2F", headers={"Authorization": "Basic Zm9vOmJhcg=="})
    asked = json.loads(body)
    assert (answer.status, asked["name"], asked["port"]) == (200, "vpn-1", 8081)
    # The device is told by the name; what its application wants of its users is not ours.
    assert asked["host"] == f"{DEVICE}.{HOST}:{PORT}"
    assert asked["path"] == "/run?x=%2F"
    assert asked["headers"]["Authorization"] == "Basic Zm9vOmJhcg=="
    assert asked["headers"]["X-Forwarded-Proto"] == "https"


def test_nobody_says_themselves_who_they_are(proxy: Front) -> None:
    _, honest = proxy.ask(DEVICE, "/")
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Gantry-Authorization": "Bearer x",
        "X-Gantry-Hop": "1",
        "X-Gantry-Balancer": "x",
        "X-Gantry-Client": "203.0.113.9",
    }
    _, asked = proxy.ask(DEVICE, "/", headers=forged)
    headers = json.loads(asked)["headers"]
    assert not [each for each in headers if each.lower().startswith("x-gantry-")]
    assert headers["X-Forwarded-For"] == json.loads(honest)["headers"]["X-Forwarded-For"]
    assert headers["X-Forwarded-For"] != "203.0.113.9"


def test_each_request_has_a_connection_of_its_own(proxy: Front) -> None:
    """Behind it a connection leads to one device: kept, it would lead another's request there."""
    with proxy.stream(DEVICE, proxy.trust) as stream:
        ports = {json.loads(request(stream, DEVICE, "/")[1])["client_port"] for _ in range(5)}
    assert len(ports) == 5


def test_what_a_page_may_do_is_the_devices_to_say(proxy: Front) -> None:
    answer, _ = proxy.ask(DEVICE, "/")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "X-Frame-Options" not in answer.headers
    assert answer.headers["Set-Cookie"] == "session=SECRET-COOKIE"


def test_websockets_pass_and_end_with_the_device(proxy: Front) -> None:
    with proxy.stream(DEVICE, proxy.trust) as stream:
        stream.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {DEVICE}.{HOST}:{PORT}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        file = stream.makefile("rwb")
        assert b" 101 " in file.readline()
        while file.readline() != b"\r\n":
            pass
        for line in (b"one\n", b"two\n"):
            file.write(line)
            file.flush()
            assert file.readline() == line
        # As the VPN does when the URL is switched off.
        file.write(b"bye\n")
        file.flush()
        assert file.read() == b""


def test_lines_are_not_held_back(proxy: Front) -> None:
    with proxy.stream(DEVICE, proxy.trust) as stream:
        stream.sendall(f"GET /slow HTTP/1.1\r\nHost: {DEVICE}.{HOST}:{PORT}\r\n\r\n".encode())
        received = b""
        while b"first\n" not in received:
            received += stream.recv(4096)
        assert b"second\n" not in received


def test_bodies_have_a_limit(proxy: Front) -> None:
    answer, _ = proxy.ask(DEVICE, "/", "POST", bytes(63 * MEBIBYTE))
    assert answer.status == 200
    try:
        status = proxy.ask(DEVICE, "/", "POST", bytes(65 * MEBIBYTE))[0].status
    except OSError:
        return  # The proxy has ended the connection while more was coming.
    assert status >= 400


def test_another_fleets_name_is_not_answered(proxy: Front) -> None:
    """A certificate for it is not there, and none is asked of anybody."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with (
        proxy.plain() as plain,
        pytest.raises(ssl.SSLError),
        trust.wrap_socket(plain, server_hostname="a.devices.example.org"),
    ):
        pass


def test_the_log_keeps_no_secret(proxy: Front) -> None:
    headers = {"Authorization": "Bearer SECRET-A", "Cookie": "session=SECRET-B"}
    proxy.ask(DEVICE, "/logged?token=SECRET-C", headers=headers)
    until(lambda: b"/logged" in proxy.container.logs(), proxy.container)
    assert "SECRET" not in proxy.container.logs().decode()


def test_a_vpn_that_is_away_is_said_to_be(run: Run) -> None:
    """A fleet's second server, which nobody stands in for here, is tried and left out."""
    client = docker.from_env()
    try:
        with proxied(client, run(vpn=json.dumps({"servers": 2}))) as front:
            for _ in range(10):
                assert front.ask(DEVICE, "/")[0].status == 200
    finally:
        client.close()
