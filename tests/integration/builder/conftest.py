"""The real builder in its real image, with a real registry that asks for tokens.

The api is a stand-in (`standin`), so that it can be made to refuse; tests/e2e has the true one.
"""

import io
import json
import ssl
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from docker.models.containers import Container
from docker.models.networks import Network

from gantry.contracts.build import BuildEvent, BuildMessage, BuildResult, KeepAlive, decode
from gantry.deployment.images import build_image
from gantry.deployment.paths import cache_home
from tests.integration.builder.standin import (
    BUILDER_KEY,
    HOST,
    PORT,
    REGISTRY,
    Authority,
    StandIn,
    serve,
)

GIT_KEY = "service-key-of-the-git-server"
START_SECONDS = 120
# Of a program under emulation.
ANSWER_SECONDS = 90


@dataclass
class Rig:
    """A builder that runs, and what is around it."""

    container: Container
    url: str
    api: StandIn
    gateway: str
    api_port: int
    host: str = HOST
    docker_command: str = "docker --host=unix:///run/gantry/docker.sock"

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

    def docker(self, arguments: str) -> str:
        """Run a docker command on the builder's own engine."""
        return self.sh(f"{self.docker_command} {arguments}").strip()

    def pulled(self, result: BuildResult, application_id: int, service: str = "main") -> str:
        """Forget a release's image, and pull it from the registry by its digest, as a device does;
        its name."""
        [image] = self.api.releases[result.release_id]["images"]
        repository = f"{REGISTRY}/{self.api.repositories[application_id, service]}"
        name = f"{repository}@{image['digest']}"
        ids = sorted(set(self.docker(f"images --quiet {repository}").split()))
        self.docker(f"rmi --force {' '.join(ids)}")
        self.sh(f"echo {BUILDER_KEY} > /tmp/key")
        self.docker(f"login --username builder --password-stdin {REGISTRY} < /tmp/key")
        self.docker(f"pull --quiet {name}")
        self.docker(f"logout {REGISTRY}")
        return name

    @contextmanager
    def running(self, image: str, options: str = "") -> Iterator["Running"]:
        """A container of the builder's engine, until the end of the block."""
        container = self.docker(f"run --detach {options} {image}")
        try:
            form = "'{{.NetworkSettings.IPAddress}}'"
            address = self.docker(f"inspect --format {form} {container}")
            yield Running(self, container, address)
        finally:
            self.docker(f"rm --force --volumes {container}")

    def processes(self) -> str:
        """The command lines of all that runs in the builder's container."""
        return self.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true")

    def sh(self, script: str) -> str:
        """Run a shell line in the builder's container."""
        code, output = self.container.exec_run(["sh", "-c", script])
        assert code == 0, output.decode()
        return str(output.decode())


@dataclass
class Running:
    """A container in the builder's engine."""

    rig: Rig
    container: str
    address: str

    def answer(self, port: int, path: str = "/") -> str:
        """What it answers over HTTP, once it does."""
        retry = f"--retry {ANSWER_SECONDS} --retry-delay 1 --retry-connrefused"
        try:
            return self.rig.sh(f"curl -fs {retry} http://{self.address}:{port}{path}")
        except AssertionError as error:
            raise AssertionError(self.logs()) from error

    def logs(self) -> str:
        return self.rig.docker(f"logs {self.container} 2>&1")

    def sh(self, script: str) -> str:
        return self.rig.docker(f"exec {self.container} {script}")


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


def kept_folder() -> Path:
    """What test runs leave for each other; in the builder's container it is /kept."""
    folder = cache_home() / "test-bases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    ca = Authority.new()
    state = StandIn(*ca.issue(f"api.{HOST}"))
    plain = serve(state)
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    # At the fleet's port, as the proxy has it: the builder's engine may use no other one there.
    secure = serve(state, _tls_context(ca, tmp_path_factory.mktemp("tls")), (gateway, PORT))
    settings = {
        "fleet": f"test-{uuid.uuid4().hex[:6]}",
        "host": HOST,
        "https_port": PORT,
        "device_type": "generic-amd64",
        "api_url": f"http://{gateway}:{plain.server_port}",
        "service_key": BUILDER_KEY,
        "accepted_keys": [GIT_KEY],
        "ca_certificate_pem": ca.pem,
        "limits": {"build_seconds": 900, "memory_bytes": 512 * 1024**2, "concurrent_builds": 2},
    }
    registry = _registry(client, network, ca, state, secure.server_port)
    builder = _builder(client, network, settings, {f"api.{HOST}": gateway})
    try:
        builder.reload()
        address = builder.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        rig = Rig(builder, f"http://{address}:8080", state, gateway, plain.server_port)
        _wait(rig)
        assert _control_groups(settings["fleet"])
        yield rig
    finally:
        print(builder.logs(tail=200).decode())
        # In peace: it takes its control groups away, which lie outside of its container.
        builder.stop(timeout=30)
        assert not _control_groups(settings["fleet"])
        for each in (builder, registry):
            each.remove(force=True, v=True)
        for server in (plain, secure):
            server.shutdown()
            server.server_close()


def _control_groups(fleet: str) -> list[Path]:
    """Those of a fleet's builder: below a controller in version 1, at the top in version 2."""
    return list(Path("/sys/fs/cgroup").rglob(f"gantry-{fleet}-builder"))


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
        volumes={
            "/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"},
            str(kept_folder()): {"bind": "/kept", "mode": "rw"},
        },
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
