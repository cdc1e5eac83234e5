"""A fleet's front as tests see it: the real proxy or balancer, and stand-ins for what is behind."""

import http.client
import json
import socket
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer

from .conftest import Registered
from .servers import port_of, running, until

HOST = "testbots.gantry.internal"
PORT = 8443
MEBIBYTE = 1024**2
UPSTREAM = Path(__file__).with_name("upstream.py")
SERVICES = {"api": 8080, "logs": 8080, "builder": 8080, "registry": 5000}
VPN_SERVERS = ("vpn-1", "vpn-2")


@dataclass(frozen=True)
class Front:
    """A running proxy or balancer: its container, where it is published, and how to trust it."""

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
            return request(stream, name, path, method, body, headers)

    @contextmanager
    def stream(self, name: str, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        """A TLS connection to one of the fleet's names."""
        with (
            self.plain() as plain,
            trust.wrap_socket(plain, server_hostname=f"{name}.{HOST}") as stream,
        ):
            yield stream

    def plain(self) -> socket.socket:
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@dataclass(frozen=True)
class Balanced:
    """A running balancer and what stands in for the VPN's servers behind it, by name."""

    front: Front
    servers: dict[str, Container]


def request(
    stream: ssl.SSLSocket,
    name: str,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on a connection that stays open."""
    connection = http.client.HTTPConnection(f"{name}.{HOST}", PORT)
    connection.sock = stream
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer, answer.read()


def trust_of(fleet: Registered) -> ssl.SSLContext:
    """What a device trusts."""
    document = json.loads(fleet.files("api")["/etc/gantry/api.json"])
    return ssl.create_default_context(cadata=document["ca_certificate_pem"])


def files_of(fleet: Registered, service: str) -> dict[str, str]:
    """A service's configuration files by their bare names."""
    return {key.rpartition("/")[2]: text for key, text in fleet.files(service).items()}


@contextmanager
def network(client: docker.DockerClient) -> Iterator[str]:
    """A network of the test's own."""
    made = client.networks.create(f"infra-test-{uuid.uuid4().hex[:8]}")
    try:
        yield str(made.name)
    finally:
        made.remove()


@contextmanager
def standing_in(
    client: docker.DockerClient, on: str, names: Sequence[str], files: dict[str, str]
) -> Iterator[Container]:
    """A container that answers under these names, at every port of a fleet's services."""
    cloud = build_image("cloud", line_printer(), client=client).tag
    with attached(
        client, cloud, on, names, "10001:10001", files,
        command=["python3", "-c", UPSTREAM.read_text(), names[-1]],
    ) as container:  # fmt: skip
        ready = ["curl", "-fsS", "http://127.0.0.1:8080/", "http://127.0.0.1:5000/"]
        until(lambda: container.exec_run(ready).exit_code == 0, container)
        yield container


@contextmanager
def attached(
    client: docker.DockerClient,
    image: str,
    on: str,
    names: Sequence[str],
    user: str,
    files: dict[str, str],
    **options: Any,
) -> Iterator[Container]:
    """A container on a network, under these names."""
    end = client.api.create_endpoint_config(aliases=list(names))
    with running(
        client, image, user, files, network=on, networking_config={on: end}, **options
    ) as container:
        yield container


@contextmanager
def proxied(client: docker.DockerClient, fleet: Registered) -> Iterator[Front]:
    """The proxy of a fleet, published on loopback, with one stand-in for all services."""
    image = build_image("proxy", line_printer(), client=client).tag
    with (
        network(client) as on,
        standing_in(client, on, [*SERVICES, "deltas", VPN_SERVERS[0]], {}),
        attached(
            client, image, on, ["proxy"], "10005:10005", files_of(fleet, "proxy"),
            ports={f"{PORT}/tcp": ("127.0.0.1", 0)},
        ) as container,
    ):  # fmt: skip
        health = ["curl", "-fsS", "http://127.0.0.1:2020/"]
        until(lambda: container.exec_run(health).exit_code == 0, container)
        yield Front(container, port_of(container, PORT), trust_of(fleet))


@contextmanager
def balanced(client: docker.DockerClient, fleet: Registered) -> Iterator[Balanced]:
    """The balancer of a fleet, published on loopback, with two stand-ins for VPN servers.

    With a shared port the real proxy is behind it, and the first stand-in is all of its services.
    """
    images = {
        name: build_image(name, line_printer(), client=client).tag for name in ("proxy", "balancer")
    }
    config = files_of(fleet, "balancer")["haproxy.cfg"]
    port = PORT if "bind :8443" in config else 1194
    files = {key: files_of(fleet, "vpn-1")[key] for key in ("tls.crt", "tls.key")}
    with ExitStack() as stack:
        on = stack.enter_context(network(client))
        names = ([*SERVICES, VPN_SERVERS[0]], [VPN_SERVERS[1]])
        servers = {
            each[-1]: stack.enter_context(standing_in(client, on, each, files)) for each in names
        }
        if port == PORT:
            stack.enter_context(
                attached(
                    client, images["proxy"], on, ["proxy"], "10005:10005", files_of(fleet, "proxy")
                )
            )
        container = stack.enter_context(
            attached(
                client, images["balancer"], on, ["balancer"], "10006:10006",
                files_of(fleet, "balancer"), ports={f"{port}/tcp": ("127.0.0.1", 0)},
            )
        )  # fmt: skip
        health = ["curl", "-fsS", "http://127.0.0.1:2021/"]
        until(lambda: container.exec_run(health).exit_code == 0, container)
        front = Front(container, port_of(container, port), trust_of(fleet))
        yield Balanced(front, servers)
