"""The real registry in its real image, with its configuration as a fleet makes it."""

import base64
import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import httpx2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from docker.models.containers import Container
from moto.server import ThreadedMotoServer

from gantry.contracts.storage import S3Storage
from gantry.deployment.certificates import KeyPair, issue, make_authority
from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer
from gantry.registry.config import TokenAuth, registry_config

AUTH = TokenAuth(
    realm="https://api.bots.example.org:8443/auth/v1/token",
    service="registry.bots.example.org:8443",
    issuer="api.bots.example.org",
)
START_SECONDS = 60
# One label: moto takes a first label of several for a bucket.
S3_HOST = "storage"


@dataclass(frozen=True)
class Signer:
    """What signs registry tokens: the api's part, by the family's documents."""

    pair: KeyPair

    def token(self, *access: tuple[str, str], **claims: Any) -> str:
        """A token for `(repository, "pull,push")` pairs."""
        now = datetime.now(UTC)
        certificate = x509.load_pem_x509_certificate(self.pair.certificate_pem.encode())
        chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
        document = {
            "iss": AUTH.issuer,
            "aud": AUTH.service,
            "sub": "builder",
            "exp": now + timedelta(minutes=5),
            "nbf": now - timedelta(seconds=10),
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": [
                {"type": "repository", "name": name, "actions": actions.split(",")}
                for name, actions in access
            ],
        } | claims
        return jwt.encode(document, self.pair.key_pem, "ES256", headers={"x5c": chain})


@dataclass
class Registry:
    """A running registry: where it answers, and its container."""

    container: Container
    client: httpx2.Client


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(client: docker.DockerClient) -> str:
    return build_image("registry", line_printer(), client=client).tag


@pytest.fixture(scope="session")
def authority() -> KeyPair:
    return make_authority("Gantry fleet bots")


@pytest.fixture(scope="session")
def signer(authority: KeyPair) -> Signer:
    return Signer(issue(authority, "tokens of api.bots.example.org"))


Start = Callable[..., Any]


@pytest.fixture(scope="session")
def start(client: docker.DockerClient, image: str, signer: Signer) -> Start:
    """Start a registry as the fleet does: unprivileged, configuration by upload."""

    @contextmanager
    def started(
        storage: S3Storage | None = None,
        *,
        auth: TokenAuth = AUTH,
        certificate: str | None = None,
        **options: Any,
    ) -> Iterator[Registry]:
        container = client.containers.create(
            image,
            name=f"infra-registry-{uuid.uuid4().hex[:8]}",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            extra_hosts={S3_HOST: "host-gateway"},
            # A free port of the loopback.
            ports={"5000/tcp": ("127.0.0.1", 0)},
            **{"user": "10003:10003"} | options,
        )
        try:
            files = {
                "registry.yml": registry_config(auth, "http-secret", storage=storage),
                "token.crt": certificate or signer.pair.certificate_pem,
            }
            container.put_archive("/", _archive(files))
            container.start()
            with httpx2.Client(base_url=_address(container), timeout=30) as http:
                _wait(container, http)
                yield Registry(container, http)
        finally:
            container.remove(force=True, v=True)

    return started


def _archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"etc/gantry/{name}")
            member.size, member.mode = len(content.encode()), 0o444
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def _address(container: Container) -> str:
    container.reload()
    bindings = container.ports["5000/tcp"]
    assert bindings
    return f"http://127.0.0.1:{bindings[0]['HostPort']}"


def _wait(container: Container, http: httpx2.Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            http.get("/")
        except httpx2.TransportError:
            time.sleep(0.2)
            continue
        return
    raise AssertionError(container.logs().decode())


@pytest.fixture
def registry(start: Start) -> Iterator[Registry]:
    with start() as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """S3-compatible storage on all of this machine's addresses; its URL from here.

    The registry's containers reach it under the name S3_HOST.
    """
    server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)  # noqa: S104
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()
