"""A real api with its PostgreSQL, a real registry, and real delta servers before both."""

import base64
import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

# The api's fixtures are its own; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from gantry.registry.config import TokenAuth
from tests.integration.api.conftest import (
    HOST,
    Api,
    Device,
    Fleet,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)
from tests.integration.deltas.registry import Registry, started
from tests.integration.deltas.server import Asker, Server

__all__ = ["postgres"]

REGISTRY, DELTA = f"registry.{HOST}:8443", f"delta.{HOST}:8443"


@dataclass
class Cloud:
    """What a delta server has around it, and one fleet with a device."""

    api: Api
    registry: Registry
    fleet: Fleet
    device: Device
    folder: Path

    def repository(self, service: str = "main") -> str:
        """Where a service of the fleet is stored."""
        started = self.fleet.start_release(services=[service])
        (image,) = started["images"]
        return str(image["repository"])

    def release(self, images: Mapping[str, str]) -> int:
        """A release of these images (digests by service), which becomes the fleet's target."""
        composition = {"services": {each: {"build": "."} for each in images}}
        begun = self.fleet.start_release(services=sorted(images), composition=composition)
        done = self.api.service("builder").patch(
            f"/services/builder/releases/{begun['release_id']}",
            json={
                "status": "success", "build_log": "built",
                "images": [
                    {
                        "image_id": each["image_id"], "digest": images[each["service"]],
                        "size": 1000, "labels": {}, "build_seconds": 1,
                    }
                    for each in begun["images"]
                ],
            },
        )  # fmt: skip
        assert done.status_code == 200, done.text
        return int(begun["release_id"])

    def token(self, *repositories: str, service: str = DELTA, device: Device | None = None) -> str:
        """What a device gets of the api, which leaves out what it may not have."""
        device = device or self.device
        scope = [f"repository:{each}:pull" for each in repositories]
        got = httpx2.get(
            f"{self.api.url}/auth/v1/token", params={"service": service, "scope": scope},
            auth=(f"d_{device.uuid}", device.key),
        )  # fmt: skip
        assert got.status_code == 200, got.text
        return str(got.json()["token"])

    def config(self, **more: Any) -> dict[str, Any]:
        """A server's configuration, with a data folder of its own."""
        name = secrets.token_hex(4)
        return {
            "fleet": "devbots", "service": DELTA, "registry": REGISTRY,
            "realm": f"https://api.{HOST}:8443/auth/v1/token", "issuer": f"api.{HOST}",
            "api_url": self.api.url, "registry_url": self.registry.base_url,
            "service_key": self.api.config["service_keys"]["deltas"],
            "token_certificate_pem": self.api.config["token_certificate_pem"],
            "data": str(self.folder / name / "data"),
            "listen_host": "127.0.0.1", "listen_port": free_port(),
            # Ahead of time in the tests that are about it only.
            "ahead_seconds": 3600, "retry_seconds": 0.2,
        } | more  # fmt: skip

    def reference(self, repository: str, digest: str) -> str:
        return f"{REGISTRY}/{repository}@{digest}"


@pytest.fixture(scope="session")
def cloud(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cloud")
        config = make_config(stack.enter_context(own_database(postgres)), free_port())
        api = stack.enter_context(running(config, folder))
        engine = docker.from_env(timeout=600)
        stack.callback(engine.close)
        auth = TokenAuth(f"{api.url}/auth/v1/token", REGISTRY, f"api.{HOST}")
        key, certificate = config["token_key_pem"], config["token_certificate_pem"]
        der = load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
        chain = base64.b64encode(der).decode()
        registry = stack.enter_context(started(engine, auth, key, certificate, chain))
        admin = api.login()
        name = f"user{secrets.token_hex(4)}"
        made = admin.post("/v7/user", json={"username": name, "password": "long enough"})
        assert made.status_code == 201, made.text
        user = api.login(name, "long enough")
        body = {"app_name": "testing", "is_for__device_type": "raspberrypi3-64"}
        assert user.post("/v7/application", json=body).status_code == 201
        fleet = Fleet(api, user, f"{name}/testing")
        yield Cloud(api, registry, fleet, fleet.register(), folder)


Start = Callable[..., Server]


@contextlib.contextmanager
def starting(cloud: Cloud) -> Iterator[Start]:
    """Starts servers, each with a folder of its own, until the context ends."""
    with contextlib.ExitStack() as stack:

        def run(**more: Any) -> Server:
            config = cloud.config(**more)
            folder = Path(config["data"]).parent
            folder.mkdir(parents=True, exist_ok=True)
            server = Server(config, folder)
            stack.callback(server.stop)
            server.start()
            return server

        yield run


@pytest.fixture
def start(cloud: Cloud) -> Iterator[Start]:
    with starting(cloud) as run:
        yield run


@pytest.fixture(scope="session")
def shared(cloud: Cloud) -> Iterator[Server]:
    """A server that nobody stops."""
    with starting(cloud) as run:
        yield run()


@pytest.fixture(scope="session")
def device_at_shared(cloud: Cloud, repository: str, shared: Server) -> Asker:
    """The device at that server."""
    return Asker(shared.client(cloud.token(repository)))


@pytest.fixture
def server(start: Start) -> Server:
    return start()


@pytest.fixture(scope="session")
def repository(cloud: Cloud) -> str:
    """Where the fleet's service `main` is stored."""
    return cloud.repository()


@pytest.fixture
def asker(cloud: Cloud, repository: str, server: Server) -> Asker:
    """The device, with a token for its images, at the test's server."""
    return Asker(server.client(cloud.token(repository)))
