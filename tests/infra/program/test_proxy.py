"""The proxy's routes, with the real Caddy in its real image and a server behind every name."""

import json
import ssl
from collections.abc import Iterator

import docker
import pytest

from .conftest import Run
from .servers import until
from .standins import HOST, MEBIBYTE, PORT, SERVICES, Front, proxied


@pytest.fixture(scope="module")
def proxy(run: Run) -> Iterator[Front]:
    client = docker.from_env()
    try:
        with proxied(client, run()) as front:
            yield front
    finally:
        client.close()


@pytest.mark.parametrize(("name", "port"), list(SERVICES.items()))
def test_each_name_leads_to_its_service(proxy: Front, name: str, port: int) -> None:
    answer, body = proxy.ask(name, "/v2/x?y=z")
    asked = json.loads(body)
    assert (answer.status, asked["port"], asked["path"]) == (200, port, "/v2/x?y=z")
    # Services see the public name: links that they write lead back here.
    assert asked["headers"]["X-Forwarded-Proto"] == "https"


def test_nobody_says_themselves_where_they_come_from(proxy: Front) -> None:
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
def test_what_services_say_to_each_other_is_shut(proxy: Front, path: str) -> None:
    answer, body = proxy.ask("api", path)
    assert answer.status == 404, body


def test_other_paths_that_sound_alike_are_open(proxy: Front) -> None:
    assert proxy.ask("api", "/servicesx")[0].status == 200
    assert proxy.ask("registry", "/services/x")[0].status == 200


def test_deltas_and_nothing_else_of_their_server(proxy: Front) -> None:
    digest = "sha256:" + "0" * 64
    for path in ("/api/v3/delta?src=a", "/gantry/v1/delta?src=a", f"/gantry/v1/deltas/{digest}"):
        answer, body = proxy.ask("delta", path)
        asked = json.loads(body)
        assert (answer.status, asked["port"], asked["path"]) == (200, 8080, path)
    assert proxy.ask("delta", "/gantry/v1/deltas/figures", "POST", b"{}")[0].status == 200
    for path in ("/metrics", "/healthy", "/", "/gantry/v1/deltas/../../../metrics"):
        assert proxy.ask("delta", path)[0].status == 404


def test_nobody_outside_speaks_for_another(proxy: Front) -> None:
    _, body = proxy.ask("logs", "/", headers={"X-Gantry-Authorization": "Bearer x"})
    assert "X-Gantry-Authorization" not in json.loads(body)["headers"]


@pytest.mark.parametrize("name", ["dashboard", "vpn", "tunnel"])
def test_names_without_a_service_say_so(proxy: Front, name: str) -> None:
    answer, body = proxy.ask(name, "/")
    assert (answer.status, body) == (404, b"Gantry: nothing is served under this name.\n")


@pytest.mark.parametrize("path", ["/slow", "/device/v2/0123/logs?slow"])
def test_lines_are_not_held_back(proxy: Front, path: str) -> None:
    with proxy.stream("api", proxy.trust) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: api.{HOST}:{PORT}\r\n\r\n".encode())
        received = b""
        while b"first\n" not in received:
            received += stream.recv(4096)
        assert b"second\n" not in received


def test_large_bodies_pass(proxy: Front) -> None:
    answer, _ = proxy.ask("registry", "/v2/x", "PUT", bytes(64 * MEBIBYTE))
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/v7/device", "/device/v2/0123/logs"])
def test_answers_to_large_requests_are_whole(proxy: Front, path: str) -> None:
    """Without buffering, some of them lost their body: the answer overtook the request's end."""
    for _ in range(50):
        answer, body = proxy.ask("api", path, "POST", bytes(3 * MEBIBYTE))
        assert (answer.status, json.loads(body)["path"]) == (200, path)


def test_the_api_takes_no_endless_requests(proxy: Front) -> None:
    assert proxy.ask("api", "/v7/device", "POST", bytes(4 * MEBIBYTE + 1))[0].status == 502


@pytest.mark.parametrize("path", ["/v7/release_asset", "/v6/release_asset(5)"])
def test_files_of_releases_are_large(proxy: Front, path: str) -> None:
    answer, body = proxy.ask("api", path, "POST", bytes(65 * MEBIBYTE))
    assert (answer.status, json.loads(body)["path"]) == (200, path)


def test_files_of_releases_end(proxy: Front) -> None:
    try:
        status = proxy.ask("api", "/v7/release_asset", "POST", bytes(67 * MEBIBYTE))[0].status
    except OSError:
        return  # The proxy has ended the connection while more was coming.
    assert status >= 400


def test_answers_tell_browsers_to_be_careful(proxy: Front) -> None:
    answer, _ = proxy.ask("api", "/")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_both_protocols_are_spoken(proxy: Front, protocol: str) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    trust.set_alpn_protocols([protocol])
    with proxy.stream("api", trust) as stream:
        assert stream.selected_alpn_protocol() == protocol


def test_the_log_keeps_no_secret(proxy: Front) -> None:
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


def test_it_has_no_admin_interface(proxy: Front) -> None:
    done = proxy.container.exec_run(["curl", "-sS", "http://127.0.0.1:2019/config/"])
    assert done.exit_code == 7
