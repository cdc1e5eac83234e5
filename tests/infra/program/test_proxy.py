"""The proxy's routes, with the real Caddy in its real image and a server behind every name."""

import http.client
import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import pytest
from docker.models.containers import Container

from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer

from .conftest import Run
from .servers import port_of, running, until

HOST = "testbots.gantry.internal"
PORT = 8443
MEBIBYTE = 1024**2
# Says what it was asked; `/slow` writes a line, waits, and writes another.
UPSTREAM = """
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.headers.get("Content-Length") or 0)
        while size > 0:
            size -= len(self.rfile.read(min(size, 1 << 20)))
        self.send_response(200)
        self.send_header("Set-Cookie", "session=SECRET-COOKIE")
        if "slow" in self.path:
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"first\\n"); self.wfile.flush(); time.sleep(3)
            self.wfile.write(b"second\\n"); self.close_connection = True
            return
        asked = {"port": self.server.server_port, "host": self.headers["Host"],
                 "path": self.path, "headers": dict(self.headers)}
        # The registry's answer to a push is empty.
        body = b"" if self.command == "PUT" else json.dumps(asked).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_PUT = do_GET
    def log_message(self, *_): pass
for port in (8080, 5000):
    threading.Thread(target=ThreadingHTTPServer(("", port), Handler).serve_forever).start()
"""
SERVICES = {"api": 8080, "logs": 8080, "builder": 8080, "registry": 5000}


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its container, where it is published, and how to trust it."""

    container: Container
    port: int
    trust: ssl.SSLContext

    def ask(
        self,
        name: str,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request to `https://<name>.<host>:<port><path>`."""
        with self.stream(name, self.trust) as stream:
            connection = http.client.HTTPConnection(f"{name}.{HOST}", PORT)
            connection.sock = stream
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer, answer.read()

    @contextmanager
    def stream(self, name: str, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        """A TLS connection to one of the fleet's names."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as plain,
            trust.wrap_socket(plain, server_hostname=f"{name}.{HOST}") as stream,
        ):
            yield stream


@pytest.fixture(scope="module")
def proxy(run: Run) -> Iterator[Proxy]:
    fleet = run()
    client = docker.from_env()
    image = build_image("proxy", line_printer(), client=client).tag
    cloud = build_image("cloud", line_printer(), client=client).tag
    network = client.networks.create(f"infra-test-{uuid.uuid4().hex[:8]}")
    on = client.api.create_endpoint_config
    files = {key.rpartition("/")[2]: text for key, text in fleet.files("proxy").items()}
    authority = json.loads(fleet.files("api")["/etc/gantry/api.json"])["ca_certificate_pem"]
    try:
        with (
            running(
                client, cloud, "10001:10001", {}, command=["python3", "-c", UPSTREAM],
                network=network.name,
                networking_config={str(network.name): on(aliases=list(SERVICES))},
            ) as upstream,
            running(
                client, image, "10005:10005", files, network=network.name,
                ports={f"{PORT}/tcp": ("127.0.0.1", 0)},
            ) as container,
        ):  # fmt: skip
            answers = ["curl", "-fsS", "http://127.0.0.1:8080/", "http://127.0.0.1:5000/"]
            until(lambda: upstream.exec_run(answers).exit_code == 0, upstream)
            health = ["curl", "-fsS", "http://127.0.0.1:2020/"]
            until(lambda: container.exec_run(health).exit_code == 0, container)
            trust = ssl.create_default_context(cadata=authority)
            yield Proxy(container, port_of(container, PORT), trust)
    finally:
        network.remove()
        client.close()


@pytest.mark.parametrize(("name", "port"), list(SERVICES.items()))
def test_each_name_leads_to_its_service(proxy: Proxy, name: str, port: int) -> None:
    answer, body = proxy.ask(name, "/v2/x?y=z")
    asked = json.loads(body)
    assert (answer.status, asked["port"], asked["path"]) == (200, port, "/v2/x?y=z")
    # Services see the public name: links that they write lead back here.
    assert asked["headers"]["X-Forwarded-Proto"] == "https"


def test_nobody_says_themselves_where_they_come_from(proxy: Proxy) -> None:
    """The api counts failed logins by it."""
    _, honest = proxy.ask("api", "/login_", "POST", b"{}")
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9"}
    _, asked = proxy.ask("api", "/login_", "POST", b"{}", forged)
    seen = json.loads(asked)["headers"]["X-Forwarded-For"].split(",")[-1].strip()
    assert seen == json.loads(honest)["headers"]["X-Forwarded-For"]
    assert seen != "203.0.113.9"


@pytest.mark.parametrize(
    "path",
    [
        "/services/git/accounts",
        "/services",
        "/services/",
        "/%73ervices/x",
        "/services%2Fx",
        "/SERVICES/git/accounts",
        "/x/../services/git",
        "//services/git",
        "/metrics",
        "/metrics/",
        "/%6detrics",
        "/METRICS",
        "//metrics",
        "/x/../metrics",
    ],
)
def test_what_services_say_to_each_other_is_shut(proxy: Proxy, path: str) -> None:
    answer, body = proxy.ask("api", path)
    assert answer.status == 404, body


def test_other_paths_that_sound_alike_are_open(proxy: Proxy) -> None:
    assert proxy.ask("api", "/servicesx")[0].status == 200
    assert proxy.ask("registry", "/services/x")[0].status == 200


def test_nobody_outside_speaks_for_another(proxy: Proxy) -> None:
    _, body = proxy.ask("logs", "/", headers={"X-Gantry-Authorization": "Bearer x"})
    assert "X-Gantry-Authorization" not in json.loads(body)["headers"]


@pytest.mark.parametrize("name", ["dashboard", "0123456789abcdef0123456789abcdef.devices"])
def test_names_without_a_service_say_so(proxy: Proxy, name: str) -> None:
    answer, body = proxy.ask(name, "/")
    assert (answer.status, body) == (404, b"Gantry: nothing is served under this name.\n")


@pytest.mark.parametrize("path", ["/slow", "/device/v2/0123/logs?slow"])
def test_lines_are_not_held_back(proxy: Proxy, path: str) -> None:
    with proxy.stream("api", proxy.trust) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: api.{HOST}:{PORT}\r\n\r\n".encode())
        received = b""
        while b"first\n" not in received:
            received += stream.recv(4096)
        assert b"second\n" not in received


def test_large_bodies_pass(proxy: Proxy) -> None:
    answer, _ = proxy.ask("registry", "/v2/x", "PUT", bytes(64 * MEBIBYTE))
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/v7/device", "/device/v2/0123/logs"])
def test_answers_to_large_requests_are_whole(proxy: Proxy, path: str) -> None:
    """Without buffering, some of them lost their body: the answer overtook the request's end."""
    for _ in range(50):
        answer, body = proxy.ask("api", path, "POST", bytes(3 * MEBIBYTE))
        assert (answer.status, json.loads(body)["path"]) == (200, path)


def test_the_api_takes_no_endless_requests(proxy: Proxy) -> None:
    assert proxy.ask("api", "/v7/device", "POST", bytes(4 * MEBIBYTE + 1))[0].status == 502


@pytest.mark.parametrize("path", ["/v7/release_asset", "/v6/release_asset(5)"])
def test_files_of_releases_are_large(proxy: Proxy, path: str) -> None:
    answer, body = proxy.ask("api", path, "POST", bytes(65 * MEBIBYTE))
    assert (answer.status, json.loads(body)["path"]) == (200, path)


def test_files_of_releases_end(proxy: Proxy) -> None:
    try:
        status = proxy.ask("api", "/v7/release_asset", "POST", bytes(67 * MEBIBYTE))[0].status
    except OSError:
        return  # The proxy has ended the connection while more was coming.
    assert status >= 400


def test_answers_tell_browsers_to_be_careful(proxy: Proxy) -> None:
    answer, _ = proxy.ask("api", "/")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_both_protocols_are_spoken(proxy: Proxy, protocol: str) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    trust.set_alpn_protocols([protocol])
    with proxy.stream("api", trust) as stream:
        assert stream.selected_alpn_protocol() == protocol


def test_the_log_keeps_no_secret(proxy: Proxy) -> None:
    headers = {"Authorization": "Bearer SECRET-A", "Cookie": "session=SECRET-B"}
    path = "/logged?apikey=SECRET-C&token=SECRET-D&page=2"
    proxy.ask("api", path, headers=headers | {"X-Gantry-Authorization": "SECRET-E"})
    # A request that fails is quoted as well.
    proxy.ask("dashboard", path, headers=headers)
    until(lambda: b"/logged" in proxy.container.logs(), proxy.container)
    log = proxy.container.logs().decode()
    lines = [json.loads(line) for line in log.splitlines() if "/logged" in line]
    assert lines[0]["request"]["uri"].startswith("/logged?")
    assert "page=2" in lines[0]["request"]["uri"]
    assert "SECRET" not in log


def test_it_has_no_admin_interface(proxy: Proxy) -> None:
    done = proxy.container.exec_run(["curl", "-sS", "http://127.0.0.1:2019/config/"])
    assert done.exit_code == 7
