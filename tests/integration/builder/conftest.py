"""The real builder in its real image, with a real registry that asks for tokens.

The api is a stand-in: a real HTTP server that speaks the contract of `/services/builder` and signs
registry tokens. Tests look at what it was told, and make it refuse; tests/e2e has the true one.
"""

import base64
import io
import json
import ssl
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import docker
import httpx2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from docker.models.containers import Container
from docker.models.networks import Network

from gantry.contracts.build import BuildEvent, BuildMessage, BuildResult, KeepAlive, decode
from gantry.deployment.images import build_image

HOST = "test.gantry.internal"
PORT = 8443
REGISTRY = f"registry.{HOST}:{PORT}"
BUILDER_KEY = "service-key-of-the-builder"
GIT_KEY = "service-key-of-the-git-server"
USER_TOKEN = "token-of-a-user"
START_SECONDS = 120


@dataclass(frozen=True)
class Authority:
    """The fleet's CA, and what it signed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, *names: str) -> tuple[str, str]:
        """`(certificate, key)` as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _pem(_certificate(names[0], key, self, names)), _key_pem(key)

    @property
    def pem(self) -> str:
        return _pem(self.certificate)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, names: tuple[str, ...]
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names or (name,)])
    signer = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(alternative, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(*[True] + 4 * [False] + [issuer is None] * 2 + 2 * [False]),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class StandIn:
    """What the api was told, and what it is to answer."""

    token_certificate: str
    token_key: str
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    repositories: dict[tuple[int, str], str] = field(default_factory=dict)
    recovered: list[str] = field(default_factory=list)
    refusal: str = ""

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusal:
            return 409, {"error": self.refusal}
        for known, release in self.releases.items():
            if release["commit"] == body["commit"] and release["status"] == "success":
                return 200, {"release_id": known, "images": [], "already": True}
        release_id = len(self.releases) + 1
        images = []
        for service in body["services"]:
            key = (body["application_id"], service)
            repository = self.repositories.setdefault(key, f"v2/{uuid.uuid4().hex}")
            image_id = 100 * release_id + len(images)
            images.append({"image_id": image_id, "service": service, "repository": repository})
        self.releases[release_id] = {**body, "status": "running"}
        return 201, {"release_id": release_id, "images": images}

    def token(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """All that is asked for, as the builder may."""
        scopes = [each.split(":") for each in query.get("scope", ())]
        access = [{"type": t, "name": n, "actions": a.split(",")} for t, n, a in scopes]
        now = int(time.time())
        claims = {"iss": f"api.{HOST}", "sub": "builder", "aud": REGISTRY, "access": access}
        claims |= {"iat": now, "nbf": now - 30, "exp": now + 3600, "jti": uuid.uuid4().hex}
        der = x509.load_pem_x509_certificate(self.token_certificate.encode()).public_bytes(
            Encoding.DER
        )
        headers = {"x5c": [base64.b64encode(der).decode()]}
        token = jwt.encode(claims, self.token_key, algorithm="ES256", headers=headers)
        return {"token": token, "access_token": token, "expires_in": 3600}


def _handler(state: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> dict[str, Any]:
            return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            authorization = self.headers.get("Authorization", "")
            if url.path == "/auth/v1/token":
                expected = base64.b64encode(f"builder:{BUILDER_KEY}".encode()).decode()
                if authorization != f"Basic {expected}":
                    return self._answer(401, {"error": "who are you?"})
                return self._answer(200, state.token(parse_qs(url.query)))
            known = authorization == f"Bearer {USER_TOKEN}"
            return self._answer(200 if known else 401, {"d": [{"id": 1}] if known else []})

        def do_POST(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {BUILDER_KEY}":
                return self._answer(401, {"error": "not the builder"})
            body = self._body()
            if self.path == "/services/builder/recover":
                state.recovered.append(body["builder"])
                return self._answer(200, {})
            return self._answer(*state.create(body))

        def do_PATCH(self) -> None:
            release_id = int(self.path.rpartition("/")[2])
            state.releases[release_id] |= self._body()
            self._answer(200, {})

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


def _serve(
    state: StandIn,
    context: ssl.SSLContext | None = None,
    address: tuple[str, int] = ("0.0.0.0", 0),  # noqa: S104
) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(address, _handler(state))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class Rig:
    """A builder that runs, and what is around it."""

    container: Container
    url: str
    api: StandIn
    gateway: str
    api_port: int
    host: str = HOST

    def build(
        self, files: Mapping[str, str], *, application_id: int = 1, **query: Any
    ) -> Iterator[BuildEvent]:
        """Push files; the events as they come. Closing the iterator hangs up."""
        params = {
            "application_id": application_id,
            "application_uuid": "a" * 32,
            "slug": f"admin/app{application_id}",
            "device_type": "generic-amd64",
            "user_id": 1,
            "username": "admin",
            "commit": uuid.uuid4().hex,
            "nocache": 0,
            **query,
        }
        with httpx2.stream(
            "POST",
            f"{self.url}/v3/build",
            params=params,
            content=tar_of(files),
            headers={"Authorization": f"Bearer {GIT_KEY}"},
            timeout=30,
        ) as response:
            if response.status_code != 200:
                raise AssertionError(f"{response.status_code}: {response.read().decode()}")
            for line in response.iter_lines():
                yield decode(line)

    def result(self, files: Mapping[str, str], **query: Any) -> tuple[BuildResult, list[str]]:
        """Push files; the result, and the lines before it, services in brackets."""
        lines: list[str] = []
        for event in self.build(files, **query):
            match event:
                case BuildMessage():
                    lines.append(f"[{event.service}] {event.message}")
                case BuildResult():
                    return event, lines
                case KeepAlive():
                    pass
        raise AssertionError(f"no result after {lines}")

    def restart(self) -> None:
        """Start the container again; its address may be another one."""
        self.container.start()
        self.container.reload()
        [attached] = self.container.attrs["NetworkSettings"]["Networks"].values()
        self.url = f"http://{attached['IPAddress']}:8080"
        _wait(self)

    def settled(self) -> None:
        """Wait until the builder's chores at a start are done."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if b"supervisor image: pushed" in self.container.logs():
                return
            time.sleep(0.5)
        raise AssertionError(self.container.logs(tail=50).decode())

    def processes(self) -> str:
        """The command lines of all that runs in the builder's container."""
        return self.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true")

    def sh(self, script: str) -> str:
        """Run a shell line in the builder's container."""
        code, output = self.container.exec_run(["sh", "-c", script])
        assert code == 0, output.decode()
        return str(output.decode())


def tar_of(files: Mapping[str, str]) -> bytes:
    """A tar as `git archive` makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def put(container: Container, files: Mapping[str, str]) -> None:
    """Configuration enters containers as files."""
    assert container.put_archive("/", tar_of(files))


REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}
http:
  addr: ":{port}"
  tls: {{certificate: /etc/gantry/tls.crt, key: /etc/gantry/tls.key}}
auth:
  token:
    realm: https://api.{host}:{realm_port}/auth/v1/token
    service: {registry}
    issuer: api.{host}
    rootcertbundle: /etc/gantry/token.crt
"""


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="session")
def network(client: docker.DockerClient) -> Iterator[Network]:
    network = client.networks.create(f"builder-test-{uuid.uuid4().hex[:8]}")
    network.reload()
    yield network
    network.remove()


@pytest.fixture(scope="session")
def rig(
    client: docker.DockerClient, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = Authority(_certificate("test CA", key, None, ()), key)
    state = StandIn(*ca.issue(f"api.{HOST}"))
    plain = _serve(state)
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    # At the fleet's port, as the proxy has it: the builder's engine may use no other one there.
    secure = _serve(state, _tls_context(ca, tmp_path_factory.mktemp("tls")), (gateway, PORT))
    settings = {
        "fleet": f"test-{uuid.uuid4().hex[:6]}",
        "host": HOST,
        "https_port": PORT,
        "device_type": "generic-amd64",
        "api_url": f"http://{gateway}:{plain.server_port}",
        "service_key": BUILDER_KEY,
        "accepted_keys": [GIT_KEY],
        "ca_certificate_pem": ca.pem,
        "limits": {"build_seconds": 120, "memory_bytes": 256 * 1024**2, "concurrent_builds": 2},
    }
    registry = _registry(client, network, ca, state, secure.server_port)
    builder = _builder(client, network, settings, {f"api.{HOST}": gateway})
    try:
        builder.reload()
        address = builder.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        rig = Rig(builder, f"http://{address}:8080", state, gateway, plain.server_port)
        _wait(rig)
        yield rig
    finally:
        print(builder.logs(tail=200).decode())
        # In peace: it takes its control groups away, which lie outside of its container.
        builder.stop(timeout=30)
        assert not list(Path("/sys/fs/cgroup").glob(f"*/gantry-{settings['fleet']}-builder"))
        for each in (builder, registry):
            each.remove(force=True, v=True)
        for server in (plain, secure):
            server.shutdown()
            server.server_close()


def _tls_context(ca: Authority, folder: Path) -> ssl.SSLContext:
    certificate, key = ca.issue(f"api.{HOST}")
    (folder / "tls.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    return context


def _registry(
    client: docker.DockerClient, network: Network, ca: Authority, state: StandIn, realm_port: int
) -> Container:
    image = build_image("registry", print, client=client)
    certificate, key = ca.issue(f"registry.{HOST}")
    config = REGISTRY_CONFIG.format(port=PORT, host=HOST, realm_port=realm_port, registry=REGISTRY)
    container = client.containers.create(
        image.id, name=f"{network.name}-registry", user="0", network=network.name,
        networking_config={
            network.name: client.api.create_endpoint_config(aliases=[f"registry.{HOST}"])
        },
    )  # fmt: skip
    put(
        container,
        {
            "etc/gantry/registry.yml": config,
            "etc/gantry/tls.crt": certificate,
            "etc/gantry/tls.key": key,
            "etc/gantry/token.crt": state.token_certificate,
        },
    )
    container.start()
    return container


def _builder(
    client: docker.DockerClient,
    network: Network,
    settings: Mapping[str, Any],
    hosts: Mapping[str, str],
) -> Container:
    """As infra runs it."""
    image = build_image("builder", print, client=client)
    container = client.containers.create(
        image.id,
        name=f"{network.name}-builder",
        network=network.name,
        cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        cgroupns="host",
        volumes={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
        tmpfs={"/run": ""},
        extra_hosts=dict(hosts),
    )
    put(container, {"etc/gantry/builder.json": json.dumps(settings)})
    container.start()
    return container


def _wait(rig: Rig) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        rig.container.reload()
        assert rig.container.status == "running", rig.container.logs(tail=50).decode()
        try:
            if httpx2.get(f"{rig.url}/ping", timeout=2).text == "OK":
                return
        except httpx2.HTTPError:
            time.sleep(0.3)
    raise AssertionError(f"no answer: {rig.container.logs(tail=50).decode()}")
