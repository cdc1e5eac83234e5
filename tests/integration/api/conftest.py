"""A real PostgreSQL and real api processes for the tests of the api."""

import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import httpx2 as httpx
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gantry.deployment.images import ImageError, build_image
from gantry.deployment.progress import line_printer
from tests.ports import free_port

SOURCES = Path(__file__).parents[3] / "src"
HOST = "devbots.gantry.internal"
ADMIN_PASSWORD = "correct horse battery staple"


def _local_programs() -> Path | None:
    """PostgreSQL's own programs as Debian installs them, the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def _local_postgres(programs: Path) -> Iterator[str]:
    # PostgreSQL refuses to run as root; all folders above must let its user through.
    user = "postgres" if os.geteuid() == 0 else None
    home = Path("/tmp") / f"gantry-api-pg-{secrets.token_hex(4)}"
    home.mkdir(mode=0o700)
    if user:
        shutil.chown(home, user)
    port = free_port()
    run: dict[str, Any] = {"check": True, "user": user, "cwd": home, "capture_output": True}
    subprocess.run(
        [str(programs / "initdb"), "-D", str(home / "data"), "-A", "trust", "-U", "gantry", "-N"],
        **run,
    )
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [str(programs / "pg_ctl"), "-D", f"{home}/data", "-w", "-l", f"{home}/log"]
    subprocess.run([*control, "-o", options, "start"], **{**run, "capture_output": False})
    try:
        yield f"postgresql://gantry@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **{**run, "check": False})
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def container_postgres(name: str | None = None, port: int = 0) -> Iterator[str]:
    """The project's own image, under a name of its own, on a port that Docker picks."""
    client = docker.from_env(timeout=600)
    password = secrets.token_hex(16)
    container = client.containers.create(
        build_image("postgres", line_printer(), client=client).tag,
        name=name or f"api-test-postgres-{secrets.token_hex(4)}",
        ports={"5432/tcp": ("127.0.0.1", port)},
    )
    try:
        container.put_archive("/", _password_file(password))
        container.start()
        container.reload()
        published = container.attrs["NetworkSettings"]["Ports"]["5432/tcp"][0]["HostPort"]
        url = f"postgresql://gantry:{password}@127.0.0.1:{published}/gantry"
        _answers(url, 60)
        # The fleet's role makes no databases; that of these tests makes one a test, and drops it
        # even while PostgreSQL's autovacuum is in it.
        grants = "alter role gantry createdb; grant pg_signal_backend to gantry"
        allow = ["psql", "-U", "postgres", "-c", grants]
        assert container.exec_run(allow).exit_code == 0
        yield url
    finally:
        container.remove(force=True, v=True)
        client.close()


def _password_file(password: str) -> bytes:
    """What the image reads: `/etc/gantry/postgres-password`, for its user alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("etc/gantry/postgres-password")
        entry.size, entry.mode, entry.uid, entry.gid = len(password), 0o400, 10002, 10002
        archive.addfile(entry, io.BytesIO(password.encode()))
    return buffer.getvalue()


def _answers(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A URL of a PostgreSQL server of this test run's own, whose user may make databases.

    The project's own image; where it cannot be had, the machine's PostgreSQL.
    """
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(container_postgres())
        except (docker.errors.DockerException, ImageError, FileNotFoundError):
            programs = _local_programs()
            if programs is None:
                raise
            url = stack.enter_context(_local_postgres(programs))
        _answers(url, 60)
        yield url


@contextlib.contextmanager
def own_database(postgres: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, dropped in the end: empty, or a copy of one that nobody uses."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    try:
        yield postgres.rpartition("/")[0] + "/" + name
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """An empty database of one test's own."""
    with own_database(postgres) as url:
        yield url


def _certificate() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode(), certificate.public_bytes(Encoding.PEM).decode()


def make_config(database_url: str, port: int) -> dict[str, Any]:
    """A whole configuration, with secrets of its own."""
    key, certificate = _certificate()
    return {
        "fleet": "devbots",
        "host": HOST,
        "https_port": 8443,
        "git_port": 2222,
        "device_type": "raspberrypi3-64",
        "database_url": database_url.replace("postgresql://", "postgresql+psycopg://", 1),
        "admin_username": "admin",
        "admin_password": ADMIN_PASSWORD,
        "session_secret": secrets.token_hex(32),
        "data_key": secrets.token_hex(32),
        "token_key_pem": key,
        "token_certificate_pem": certificate,
        "ca_certificate_pem": certificate,
        "service_keys": {
            name: secrets.token_hex(24)
            for name in ("git", "builder", "logs", "vpn", "deltas", "collector")
        },
        "vpn_port": 1194,
        "listen_host": "127.0.0.1",
        "listen_port": port,
    }


@dataclass
class Api:
    """A running api process."""

    config: dict[str, Any]
    file: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.config['listen_port']}"

    def start(self) -> None:
        """Start the process; `wait` waits for it."""
        self.file.write_text(json.dumps(self.config))
        environment = {**os.environ, "GANTRY_CONFIG": str(self.file), "PYTHONPATH": str(SOURCES)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gantry.api"], env=environment, stdout=log, stderr=log
            )

    def wait(self, seconds: float = 90) -> None:
        """Until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"the api ended:\n{self.log.read_text()}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ping").status_code == 200:
                    return
            assert time.monotonic() < deadline, f"no answer:\n{self.log.read_text()}"
            time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for client in self.clients:
            client.close()
        self.clients.clear()

    def client(self, credential: str | None = None, **options: Any) -> httpx.Client:
        """A client under a session token or a key."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)
        self.clients.append(client)
        return client

    def service(self, name: str) -> httpx.Client:
        """A client under a service's key."""
        return self.client(self.config["service_keys"][name])

    def login(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> httpx.Client:
        """A client of a user who has logged in."""
        answer = self.client().post("/login_", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        return self.client(answer.text)


@contextlib.contextmanager
def running(config: dict[str, Any], folder: Path, name: str = "api") -> Iterator[Api]:
    """An api that answers, with its files in `folder`."""
    started = Api(config, folder / f"{name}.json", folder / f"{name}.log")
    started.start()
    try:
        started.wait()
        yield started
    finally:
        started.stop()


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    """An api with a database of its own, up and answering."""
    with running(make_config(database_url, free_port()), tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def shared_api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One api for a whole module, for tests that make what they need under names of their own."""
    folder = tmp_path_factory.mktemp("api")
    with own_database(postgres) as url, running(make_config(url, free_port()), folder) as started:
        yield started


@dataclass(frozen=True)
class Device:
    """A registered device and its client."""

    id: int
    uuid: str
    key: str
    client: httpx.Client


class Fleet:
    """Shorthands for what tests do with one application of one user."""

    def __init__(self, api: Api, user: httpx.Client, slug: str) -> None:
        self.api = api
        self.user = user
        self.application: dict[str, Any] = user.get(f"/v7/application(slug='{slug}')").json()["d"][
            0
        ]
        self.id: int = self.application["id"]
        self.uuid: str = self.application["uuid"]

    def provisioning_key(self) -> str:
        """A new provisioning key."""
        answer = self.user.post(f"/api-key/application/{self.id}/provisioning", json={})
        assert answer.status_code == 200, answer.text
        key: str = answer.json()
        return key

    def register(self, **more: Any) -> Device:
        """A new device."""
        body = {"application": self.id, "uuid": secrets.token_hex(16), **more}
        body.setdefault("api_key", secrets.token_hex(16))
        answer = self.api.client(self.provisioning_key()).post("/device/register", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Device(made["id"], made["uuid"], made["api_key"], self.api.client(made["api_key"]))

    def start_release(self, commit: str | None = None, **more: Any) -> dict[str, Any]:
        """A running release of one service `main`."""
        body = {
            "application_id": self.id,
            "user_id": self.application["belongs_to__user"]["__id"],
            "commit": commit or secrets.token_hex(20),
            "composition": {"services": {"main": {"build": "."}}},
            "source": "git",
            "services": ["main"],
            **more,
        }
        answer = self.api.service("builder").post("/services/builder/releases", json=body)
        assert answer.status_code in (200, 201), answer.text
        made: dict[str, Any] = answer.json()
        return {**made, "commit": body["commit"]}

    def finish_release(
        self,
        release: dict[str, Any],
        status: str = "success",
        contract: dict[str, Any] | None = None,
    ) -> httpx.Response:
        """End a release, with a digest for each image, and a contract if there is one."""
        images = [
            {
                "image_id": each["image_id"],
                "digest": "sha256:" + secrets.token_hex(32),
                "size": 1000,
                "labels": {"io.balena.features.dbus": "1"},
                "build_seconds": 1.5,
                **({"contract": contract} if contract else {}),
            }
            for each in release["images"]
        ]
        return self.api.service("builder").patch(
            f"/services/builder/releases/{release['release_id']}",
            json={"status": status, "build_log": "built", "images": images},
        )

    def release(self, commit: str | None = None, **more: Any) -> dict[str, Any]:
        """A release that succeeded."""
        made = self.start_release(commit, **more)
        answer = self.finish_release(made)
        assert answer.status_code == 200, answer.text
        return made


@pytest.fixture(scope="module")
def make_fleet(shared_api: Api) -> Callable[[], Fleet]:
    """Makes a new application of a new user."""
    admin = shared_api.login()

    def make() -> Fleet:
        name = f"user{secrets.token_hex(4)}"
        made = admin.post("/v7/user", json={"username": name, "password": "long enough"})
        assert made.status_code == 201, made.text
        user = shared_api.login(name, "long enough")
        body = {"app_name": "testing", "is_for__device_type": "raspberrypi3-64"}
        answer = user.post("/v7/application", json=body)
        assert answer.status_code == 201, answer.text
        return Fleet(shared_api, user, f"{name}/testing")

    return make


@pytest.fixture
def fleet(make_fleet: Callable[[], Fleet]) -> Fleet:
    """A new application of a new user."""
    return make_fleet()


@pytest.fixture(scope="module")
def shared_three(make_fleet: Callable[[], Fleet]) -> Fleet:
    """An application with three devices, for tests that only read."""
    fleet = make_fleet()
    devices = [fleet.register(device_name=name) for name in ("alpha", "beta", "it's gamma")]
    variable = {"device": devices[0].id, "name": "A", "value": "1"}
    assert fleet.user.post("/v7/device_environment_variable", json=variable).status_code == 201
    return fleet
