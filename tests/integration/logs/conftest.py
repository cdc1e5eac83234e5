"""The real log service as a process, before a real nats-server in its real image.

Only who may read and write is answered by a stand-in, a real HTTP server that speaks the contract:
these tests revoke keys and let the api fail at certain moments. tests/integration/cli has the true
api.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import docker
import httpx2
import pytest
from docker.models.containers import Container

from gantry.deployment.images import build_image
from tests.ports import free_port

NATS_TOKEN = "token-of-the-tests"
SERVICE_KEY = "service-key-of-the-logs-service"


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Waits for the condition; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout} s"
        time.sleep(0.05)


class Authority(ThreadingHTTPServer):
    """The api's answer to who may do what: `keys` maps an Authorization to (device, actions)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: dict[str, tuple[str, set[str]]] = {}
        self.asked = 0
        self.failing = False
        self.url = f"http://127.0.0.1:{self.server_port}"

    def device(self) -> "DeviceKeys":
        """A new device with a key that writes and one that reads."""
        keys = DeviceKeys(uuid.uuid4().hex, f"Bearer w{uuid.uuid4().hex}", f"Bearer {uuid.uuid4()}")
        self.keys[keys.write] = (keys.uuid, {"write"})
        self.keys[keys.read] = (keys.uuid, {"read"})
        return keys


@dataclass(frozen=True)
class DeviceKeys:
    """A device and the Authorization headers of itself and of its owner."""

    uuid: str
    write: str
    read: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Authority

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        return

    def do_GET(self) -> None:
        assert self.headers["Authorization"] == f"Bearer {SERVICE_KEY}"
        if self.path == "/services/logs/revocations":
            # It announces nothing: what is revoked shows when the service asks again.
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.asked += 1
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        device, actions = self.server.keys.get(self.headers["X-Gantry-Authorization"], ("", set()))
        if self.server.failing:
            status, answer = 500, {"error": "out of order"}
        elif not device:
            status, answer = 401, {"error": "no such key"}
        elif device != query["device"] or query["action"] not in actions:
            status, answer = 403, {"error": "this key may not do that"}
        else:
            credential = f"key:{self.headers['X-Gantry-Authorization']}"
            status, answer = 200, {"credential": credential, "seconds": None}  # type: ignore[dict-item]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    server = Authority()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Nats:
    """The nats-server's container, on a port that stays over restarts."""

    container: Container
    url: str


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    image = build_image("nats", lambda _: None)
    client = docker.from_env()
    port = free_port()
    command = ["nats-server", "--jetstream", "--store_dir", "/var/lib/nats", "--auth", NATS_TOKEN]
    container = client.containers.run(
        image.tag,
        command,
        name=f"logs-test-nats-{uuid.uuid4().hex[:8]}",
        ports={"4222/tcp": ("127.0.0.1", port)},
        detach=True,
    )
    yield Nats(container, f"nats://127.0.0.1:{port}")
    container.remove(force=True, v=True)
    client.close()


class Service:
    """The log service's process."""

    def __init__(self, folder: Path, authority: Authority, nats: Nats, **more: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        config = {
            "fleet": "devbots",
            "host": "devbots.gantry.internal",
            "https_port": 8443,
            "api_url": authority.url,
            "service_key": SERVICE_KEY,
            "nats_url": nats.url,
            "nats_token": NATS_TOKEN,
            "listen_host": "127.0.0.1",
            "listen_port": self.port,
            **more,
        }
        (folder / "logs.json").write_text(json.dumps(config))

    def start(self) -> None:
        environment = os.environ | {"GANTRY_CONFIG": str(self._folder / "logs.json")}
        with (self._folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "gantry.logs"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self.healthy)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(60)

    def healthy(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/healthy").status_code == 200
        except httpx2.TransportError:
            assert self.process.poll() is None, self.output()
            return False

    def output(self) -> str:
        return (self._folder / "output").read_text()


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, nats: Nats
) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("logs"), authority, nats, retention_lines=300)
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()
    print(running.output())


@pytest.fixture
def device(authority: Authority) -> DeviceKeys:
    return authority.device()
