"""Keys of the fleet's users: what the hook leaves for the program that sshd runs, and that program
with a real HTTPS server in the api's place."""

import base64
import grp
import http.server
import json
import os
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gantry.deployment.certificates import issue, make_authority

FILES = Path(__file__).parents[3] / "roles" / "remote_access" / "files"
KEY = "5ecre7-0f-th3-dev1ce"
UUID = "0123456789abcdef0123456789abcdef"
FINGERPRINT = "SHA256:" + "aB3+/" * 8 + "xyz"
LINE = "ssh-ed25519 " + "A" * 68


class Api:
    """Answers every request with `status` and `body`, after `seconds`."""

    def __init__(self, folder: Path) -> None:
        self.authority = make_authority("a fleet")
        self.status, self.body, self.seconds = 200, b"", 0.0
        self.asked: list[tuple[str, str | None]] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append((self.path, self.headers.get("Authorization")))
                time.sleep(api.seconds)
                self.send_response(api.status)
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        pair = issue(self.authority, "localhost", dns_names=["localhost"])
        (folder / "server.pem").write_text(pair.certificate_pem + pair.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Device:
    """config.json, the hook and the program, as gantry-config and sshd run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run" / "ssh-fleet"
        self._config = folder / "config.json"
        self._environment = {
            "GANTRY_SSH_FLEET": str(self.folder),
            "GANTRY_SSH_FLEET_GROUP": grp.getgrgid(os.getgid()).gr_name,
            "GANTRY_CONFIG": str(self._config),
        }

    def apply(self, config: dict[str, Any], variant: str = "production", **more: str) -> list[Any]:
        """Exit status, standard output and error of the hook."""
        self._config.write_text(json.dumps(config))
        told = self._environment | {"GANTRY_VARIANT": variant} | more
        return self._run([sys.executable, FILES / "ssh_fleet.py"], told)

    def ask(self, *arguments: str) -> list[Any]:
        """Exit status, standard output and error of the program."""
        program = [sys.executable, "-I", FILES / "ssh_fleet_keys.py"]
        return self._run([*program, *arguments], self._environment)

    @staticmethod
    def _run(command: list[Any], environment: dict[str, str]) -> list[Any]:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=30
        )
        return [done.returncode, done.stdout, done.stderr]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    one = Api(tmp_path)
    yield one
    one.close()


def registered(url: str = "https://api.devbots.gantry.internal", ca: str = "") -> dict[str, Any]:
    """A config.json of a device."""
    config: dict[str, Any] = {"apiEndpoint": url, "uuid": UUID, "deviceApiKey": KEY}
    return config | ({"balenaRootCA": base64.b64encode(ca.encode()).decode()} if ca else {})


def test_the_copy_is_for_the_programs_group_alone(device: Device) -> None:
    on = [0, "ssh: the fleet is asked about users' keys through the tunnel\n", ""]
    assert device.apply({}) == [0, "", ""]
    assert not device.folder.exists()
    assert device.apply(registered(ca="-----BEGIN CERTIFICATE-----\n")) == on
    assert device.apply(registered(ca="-----BEGIN CERTIFICATE-----\n")) == [0, "", ""]
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in device.folder.iterdir()}
    assert modes == {"ca.crt": 0o640, "settings.json": 0o640}
    assert stat.S_IMODE(device.folder.stat().st_mode) == 0o750
    assert {each.stat().st_gid for each in device.folder.iterdir()} == {os.getgid()}
    assert device.apply(registered()) == on
    assert [each.name for each in device.folder.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("gone", ["apiEndpoint", "uuid", "deviceApiKey"])
def test_without_a_fleet_nobody_is_asked(device: Device, gone: str) -> None:
    device.apply(registered())
    off = [0, "ssh: the fleet is not asked about users' keys through the tunnel\n", ""]
    assert device.apply(registered() | {gone: None}) == off
    assert list(device.folder.iterdir()) == []
    assert device.ask(FINGERPRINT)[:2] == [1, ""]


def test_a_standalone_device_asks_nobody(device: Device) -> None:
    device.apply(registered(), "standalone")
    assert not device.folder.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"apiEndpoint": "http://api.example"}, "ssh: apiEndpoint is 'http://api.example': give"),
        ({"apiEndpoint": "https://a b"}, "ssh: apiEndpoint is 'https://a b': give https://"),
        ({"uuid": "../../x"}, "ssh: uuid is not 32 or 62 hexadecimal digits"),
        ({"deviceApiKey": "line\r\nX: y"}, "ssh: deviceApiKey is no key: remove it"),
        ({"balenaRootCA": "!"}, "ssh: balenaRootCA is not base64 of a PEM certificate"),
    ],
)
def test_a_bad_value_is_named_and_leaves_what_is(
    device: Device, change: dict[str, Any], said: str
) -> None:
    device.apply(registered())
    before = (device.folder / "settings.json").read_text()
    status, _, error = device.apply(registered() | change)
    assert (status, error.startswith(said)) == (1, True), error
    assert (device.folder / "settings.json").read_text() == before
    assert KEY not in error


def test_without_its_group_it_says_what_to_do(device: Device) -> None:
    status, _, error = device.apply(registered(), GANTRY_SSH_FLEET_GROUP="no-such-group")
    assert status == 1
    assert error == "ssh: there is no group no-such-group: apply the role remote_access\n"


def test_a_key_of_the_fleet_is_printed_whole_and_without_more(device: Device, api: Api) -> None:
    device.apply(registered(api.url, api.authority.certificate_pem))
    api.body = json.dumps({"user": "anna", "line": f"{LINE} anna@laptop"}).encode()
    assert device.ask(FINGERPRINT) == [0, f"{LINE}\n", ""]
    path = f"/device/v3/{UUID}/ssh-keys?fingerprint={FINGERPRINT}"
    quoted = path.replace(":", "%3A").replace("+", "%2B")
    # Of the fingerprint alone: the path's own slashes stay.
    head, _, tail = quoted.partition("fingerprint=")
    assert api.asked == [(f"{head}fingerprint={tail.replace('/', '%2F')}", f"Bearer {KEY}")]


@pytest.mark.parametrize(
    ("status", "body", "ended"),
    [
        (404, b"", 0),
        (401, b"", 1),
        (500, b"", 1),
        (200, b"", 1),
        (200, b"[]", 1),
        (200, b'{"user": "anna"}', 1),
        (200, b'{"user": "anna", "line": "command=\\"sh\\" ssh-ed25519 AAAA"}', 1),
        (200, b'{"user": "anna", "line": "ssh-ed25519 AAAA\\nssh-ed25519 BBBB"}', 1),
        (200, b'{"user": "anna", "line": ""}', 1),
        (200, b"x" * 100_000, 1),
    ],
)
def test_any_other_answer_lets_nobody_in(
    device: Device, api: Api, status: int, body: bytes, ended: int
) -> None:
    device.apply(registered(api.url, api.authority.certificate_pem))
    api.status, api.body = status, body
    assert device.ask(FINGERPRINT) == [ended, "", ""]


def test_an_api_that_is_another_is_not_told_the_key(device: Device, api: Api) -> None:
    api.body = json.dumps({"user": "anna", "line": LINE}).encode()
    device.apply(registered(api.url, make_authority("others").certificate_pem))
    assert device.ask(FINGERPRINT)[:2] == [1, ""]
    assert api.asked == []


def test_an_api_that_is_slow_is_not_waited_for(device: Device, api: Api) -> None:
    device.apply(registered(api.url, api.authority.certificate_pem))
    api.seconds, api.body = 20.0, json.dumps({"user": "anna", "line": LINE}).encode()
    begun = time.monotonic()
    assert device.ask(FINGERPRINT)[:2] == [1, ""]
    assert time.monotonic() - begun < 8.0
    assert len(api.asked) == 1


def test_an_api_that_is_away_is_no_login(device: Device) -> None:
    device.apply(registered("https://127.0.0.1:9"))
    assert device.ask(FINGERPRINT)[:2] == [1, ""]


@pytest.mark.parametrize(
    "words", [(), ("MD5:aa",), (f"{FINGERPRINT}&x",), (FINGERPRINT, "more"), (f"{FINGERPRINT}\n",)]
)
def test_only_a_fingerprint_is_asked_about(device: Device, words: tuple[str, ...]) -> None:
    device.apply(registered())
    assert device.ask(*words) == [2, "", "usage: ssh-fleet-keys SHA256:…\n"]
