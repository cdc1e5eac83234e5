"""The command as a process, before a real api (with its PostgreSQL) and a real log service."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

# The fixtures of the api and of the log service are theirs; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.integration.api.conftest import (
    ADMIN_PASSWORD,
    Api,
    Fleet,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)
from tests.integration.cli.remote_world import DeviceHost, device_host, make_key
from tests.integration.cli.tunnel_server import TunnelServer
from tests.integration.logs.conftest import Authority, Nats, Service, nats

__all__ = ["nats", "postgres"]

GANTRY = [sys.executable, "-W", "error", "-m", "gantry.cli.main"]


@dataclass
class Operator:
    """A person at a terminal, with a home of their own."""

    home: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running."""
        return subprocess.Popen(
            [*GANTRY, *arguments],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[Any]:
        """The same, ended with the block at the latest."""
        with self.start(*arguments) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """What the command prints, when it ends with `code`."""
        ended = self.ended(*arguments, stdin=stdin)
        assert ended.returncode == code, f"{ended.returncode}: {ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stdout

    def ended(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The command's outputs and code."""
        return subprocess.run(
            [*GANTRY, *arguments],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def json(self, *arguments: str) -> list[dict[str, object]]:
        """What the command prints for programs."""
        found: list[dict[str, object]] = json.loads(self.run(*arguments, "--json"))
        return found

    @property
    def session(self) -> Path:
        """The file that `gantry login` writes."""
        return self.home / "gantry" / "devbots" / "session.json"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of what they start."""
        return self._environment()

    def _environment(self) -> dict[str, str]:
        passed_on = ("PATH", "LANG", "PYTHONPATH")
        kept = {name: os.environ[name] for name in passed_on if name in os.environ}
        return kept | {
            "HOME": str(self.home),
            "GANTRY_CONFIG_HOME": str(self.home / "gantry"),
            "COLUMNS": "200",
            **self.environment,
        }

    def login(self, logs: "Service", username: str = "admin", password: str = "") -> None:
        """Log in, and point at the log service, since no proxy joins it to the api here."""
        self.run(
            *("login", username, "--url", self.url, "--password-file", "-"),
            stdin=f"{password or ADMIN_PASSWORD}\n",
        )
        self.change_session(logs_url=logs.url)

    def change_session(self, **fields: str | None) -> None:
        """Other settings in what `gantry login` has kept; None: without."""
        session = json.loads(self.session.read_text()) | fields
        self.session.write_text(json.dumps({k: v for k, v in session.items() if v is not None}))


class DeviceOfTests:
    """A registered device that sends lines."""

    def __init__(self, fleet: Fleet, logs: Service, name: str) -> None:
        made = fleet.register(device_name=name)
        self.name = name
        self.uuid = made.uuid
        self.client = made.client
        self._key = made.key
        self._logs = logs
        self.sent = 0

    def say(self, count: int, service: str = "main", timestamp: int = 1_790_000_000_000) -> None:
        """Sends so many lines, `line 1` and on, until they are stored."""
        lines = [
            {
                "timestamp": timestamp + number,
                "message": f"line {number}",
                "serviceName": service,
                "id": f"n{number}",
            }
            for number in range(self.sent + 1, self.sent + count + 1)
        ]
        body = "".join(json.dumps(line) + "\n" for line in lines)
        answer = httpx2.post(
            f"{self._logs.url}/device/v2/{self.uuid}/log-stream",
            content=body,
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=20,
        )
        assert answer.status_code == 201, answer.text
        self.sent += count


@pytest.fixture(scope="session")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with own_database(postgres) as url, running(make_config(url, free_port()), folder) as started:
        yield started


@pytest.fixture(scope="session")
def logs(api: Api, nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    @dataclass
    class RealAuthority:
        url: str

    authority: Authority = RealAuthority(api.url)  # type: ignore[assignment]
    key = api.config["service_keys"]["logs"]
    running = Service(tmp_path_factory.mktemp("logs"), authority, nats, service_key=key)
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()


def make_operator(api: Api, logs: Service, home: Path) -> Operator:
    """Somebody who is logged in as a new user with an application `robots`."""
    admin = api.login()
    name = f"user{secrets.token_hex(4)}"
    made = admin.post("/v7/user", json={"username": name, "password": "long enough"})
    assert made.status_code == 201, made.text
    person = Operator(home, api.url)
    person.login(logs, name, "long enough")
    person.run("fleets", "create", "robots")
    return person


def fleet_of(api: Api, operator: Operator) -> Fleet:
    """The application of `operator`, for what devices and the builder do."""
    session = json.loads(operator.session.read_text())
    return Fleet(api, api.client(session["token"]), f"{session['username']}/robots")


@pytest.fixture
def operator(api: Api, logs: Service, tmp_path: Path) -> Operator:
    return make_operator(api, logs, tmp_path)


@pytest.fixture
def robots(api: Api, operator: Operator) -> Fleet:
    return fleet_of(api, operator)


@pytest.fixture
def device(robots: Fleet, logs: Service) -> DeviceOfTests:
    return DeviceOfTests(robots, logs, f"robot-{secrets.token_hex(3)}")


@pytest.fixture(scope="session")
def host() -> Iterator[DeviceHost]:
    with device_host() as started:
        yield started


@dataclass
class Remote:
    """A device that is reached through its fleet's tunnel server."""

    operator: Operator
    fleet: Fleet
    name: str
    uuid: str
    key: str
    host: DeviceHost
    tunnels: TunnelServer


@pytest.fixture(scope="session")
def resident(
    api: Api, logs: Service, host: DeviceHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """One for all tests of such devices: its parts take long to make."""
    person = make_operator(api, logs, tmp_path_factory.mktemp("operator"))
    fleet = fleet_of(api, person)
    name = f"robot-{secrets.token_hex(3)}"
    made = fleet.register(device_name=name)
    _, public = make_key(person.home / ".ssh")
    person.run("key", "add", "-", stdin=f"{public}\n")
    service_key = api.config["service_keys"]["vpn"]
    tunnels = TunnelServer(api.url, service_key, tmp_path_factory.mktemp("tunnels"))
    with tunnels.running() as port:
        (person.session.parent / "ca.crt").write_bytes(tunnels.authority.read_bytes())
        person.change_session(tunnel=f"localhost:{port}")
        yield Remote(person, fleet, name, made.uuid, made.key, host, tunnels)


@pytest.fixture
def remote(resident: Remote) -> Iterator[Remote]:
    """The operator's device, online; its host lets their key in, and their account has it."""
    home = resident.operator.session.parent
    kept = {name: (home / name).read_bytes() for name in ("session.json", "ca.crt")}
    public = (resident.operator.home / ".ssh" / "id_ed25519.pub").read_text().strip()
    resident.host.let_in(public)
    resident.tunnels.come(resident.uuid, resident.key, resident.host.address)
    resident.tunnels.connections = 0
    yield resident
    resident.operator.environment.clear()
    for name, content in kept.items():
        (home / name).write_bytes(content)
