"""Real VPN servers and real OpenVPN clients, each in a network namespace of its own: a container.

Both run from the image `vpn`, which has all that either needs.
"""

import contextlib
import io
import json
import re
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import httpx2
from docker.models.containers import Container
from docker.models.networks import Network

from gantry.deployment.certificates import KeyPair, issue, make_authority
from gantry.deployment.images import build_image

HOST = "devbots.gantry.internal"
SERVICE_KEY = "service-key-of-the-vpn-servers"
FOLDER = "etc/gantry"


def wait_until(
    condition: Callable[[], bool], timeout: float = 60, what: Callable[[], str] = str
) -> float:
    """Waits for the condition; the seconds that it took. Fails the test after `timeout`."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout, f"not in {timeout} s: {what()}"
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Net:
    """A network of this run's own; `gateway` is where this process is reached from it."""

    engine: docker.DockerClient
    network: Network
    gateway: str
    authority: KeyPair
    certificate: KeyPair
    image: str

    def run(
        self, name: str, files: Mapping[str, str], command: Sequence[str] | None, **more: Any
    ) -> Container:
        """A container with these files in /etc/gantry, and the powers of a VPN server."""
        settings: dict[str, Any] = {
            "cap_drop": ["ALL"],
            "cap_add": ["NET_ADMIN"],
            "security_opt": ["no-new-privileges:true"],
            "devices": ["/dev/net/tun:/dev/net/tun:rwm"],
            "sysctls": {"net.ipv4.ip_forward": "0"},
            **more,
        }
        if command is not None:
            settings["entrypoint"] = list(command)
            settings["healthcheck"] = {"test": ["NONE"]}  # it is no server
        container = self.engine.containers.create(
            settings.pop("image", self.image),
            name=f"vpn-test-{name}-{secrets.token_hex(4)}",
            network=self.network.name,
            **settings,
        )
        container.put_archive("/", _archive(files))
        container.start()
        container.reload()
        return container

    def address(self, container: Container) -> str:
        """A container's address in this network."""
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        return str(networks[self.network.name]["IPAddress"])


@contextlib.contextmanager
def own_network(engine: docker.DockerClient) -> Iterator[Net]:
    """A bridge with names, and a fleet's certificates."""
    name = f"vpn-test-{secrets.token_hex(4)}"
    network = engine.networks.create(name, driver="bridge")
    authority = make_authority("Gantry tests")
    names = [f"vpn.{HOST}", f"tunnel.{HOST}"]
    certificate = issue(authority, f"vpn.{HOST}", dns_names=names)
    network.reload()
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    image = build_image("vpn", print).tag
    try:
        yield Net(engine, network, gateway, authority, certificate, image)
    finally:
        network.remove()


class Server:
    """A VPN server with no more powers than a deployment gives it."""

    def __init__(self, net: Net, api_url: str, name: str = "vpn-1", **changes: Any) -> None:
        self.net = net
        self.name = name
        config = {
            "fleet": "devbots",
            "host": HOST,
            "server": name,
            "api_url": api_url,
            "service_key": SERVICE_KEY,
            **changes,
        }
        pair = net.certificate
        files = {
            "vpn.json": json.dumps(config),
            "vpn-ca.crt": net.authority.certificate_pem,
            "vpn.crt": pair.certificate_pem,
            "vpn.key": pair.key_pem,
            "tls.crt": pair.certificate_pem,
            "tls.key": pair.key_pem,
        }
        self.container = net.run(name, files, None, hostname=name, **_aliased(net, name))
        self.address = net.address(self.container)

    def start(self) -> "Server":
        """Once devices can log in."""
        wait_until(self.healthy, 30, self.output)
        return self

    def healthy(self) -> bool:
        try:
            answer = httpx2.get(f"http://{self.address}:8080/healthy", timeout=5)
        except httpx2.TransportError:
            self.container.reload()
            assert self.container.status == "running", self.output()
            return False
        return answer.status_code == 200

    def metric(self, name: str) -> float:
        """A figure of /metrics, without labels; the sum of those with."""
        text = httpx2.get(f"http://{self.address}:8080/metrics", timeout=5).text
        rows = [
            line for line in text.splitlines() if line.partition(" ")[0].partition("{")[0] == name
        ]
        return sum(float(line.rpartition(" ")[2]) for line in rows)

    def login(self, result: str) -> float:
        """How many logins ended so."""
        text = httpx2.get(f"http://{self.address}:8080/metrics", timeout=5).text
        found = re.search(rf'gantry_vpn_logins_total{{result="{result}"}} (\S+)', text)
        return float(found[1]) if found else 0.0

    def sh(self, script: str) -> str:
        """What a shell's command prints; it must not fail."""
        return _sh(self.container, script)

    def output(self) -> str:
        return self.container.logs().decode(errors="replace")

    def process_ids(self, program: str) -> list[int]:
        """On the host's side."""
        rows = self.container.top(ps_args="-eo pid,comm")["Processes"] or []
        return [int(pid) for pid, command in rows if command == program]

    def remove(self) -> None:
        print(self.output())
        self.container.remove(force=True, v=True)


class Client:
    """An OpenVPN client in a namespace of its own, configured as devices are."""

    def __init__(self, net: Net, server: str, uuid: str, key: str, *more: str) -> None:
        self.net = net
        self.uuid = uuid
        conf = "\n".join([client_conf(server), *more])
        files = {
            "client.conf": conf,
            "ca.crt": net.authority.certificate_pem,
            "login": f"{uuid}\n{key}\n",
        }
        self.container = net.run("client", files, ["sleep", "infinity"], init=True)

    def connect(self) -> "Client":
        """Starts openvpn, with a new log; it goes on by itself."""
        self.sh("rm -f /tmp/openvpn.log")
        script = "exec openvpn --config /etc/gantry/client.conf > /tmp/openvpn.log 2>&1"
        self.container.exec_run(["sh", "-c", script], detach=True)
        return self

    def disconnect(self, how: str = "TERM") -> None:
        """Ends openvpn, with a signal."""
        self.sh(
            "for each in /proc/[0-9]*; do"
            f' [ "$(cat $each/comm 2>/dev/null)" = openvpn ] && kill -{how} "${{each#/proc/}}";'
            " done; true"
        )

    @property
    def tunnel_address(self) -> str | None:
        """Of its tun device, once it is up."""
        script = (
            "import fcntl,socket,struct;s=socket.socket();"
            "print(socket.inet_ntoa(fcntl.ioctl(s.fileno(),0x8915,struct.pack('256s',b'tun0'))[20:24]))"
        )
        code, output = _run(self.container, "python3", "-c", script)
        return output.strip() if code == 0 else None

    def connected(self, timeout: float = 60) -> str:
        """Its address, once its own openvpn says that all is done."""
        self.hears("Initialization Sequence Completed", timeout=timeout)
        found: list[str] = []

        def has_address() -> bool:
            found.extend(filter(None, [self.tunnel_address]))
            return bool(found)

        # It is gone for a moment where openvpn has begun anew since.
        wait_until(has_address, 30, self.log)
        return found[-1]

    def hears(self, text: str, times: int = 1, timeout: float = 30) -> None:
        """Waits until openvpn has printed this, so many times."""
        wait_until(lambda: self.log().count(text) >= times, timeout, self.log)

    def run(self, program: str, *arguments: str) -> None:
        """A Python program that goes on beside."""
        self.container.exec_run(["python3", "-c", program, *arguments], detach=True)

    def listens(self, port: int, kind: str = "tcp") -> None:
        """Waits until something does."""
        wait_until(lambda: f":{port:04X} " in self.sh(f"cat /proc/net/{kind}"), 20)

    def log(self) -> str:
        return self.sh("cat /tmp/openvpn.log 2>/dev/null || true")

    def serve(self, port: int = 80, text: str = "hello") -> None:
        """A web server on all of its addresses."""
        script = (
            f"mkdir -p /tmp/www{port} && cd /tmp/www{port} && printf %s '{text}' > index.html &&"
            f" exec python3 -m http.server {port} >/dev/null 2>&1"
        )
        self.container.exec_run(["sh", "-c", script], detach=True)
        self.listens(port)

    def sh(self, script: str) -> str:
        """What a shell's command prints; it must not fail."""
        return _sh(self.container, script)

    def remove(self) -> None:
        print(f"--- client {self.uuid}\n{self.log()}")
        self.container.remove(force=True, v=True)


def _sh(container: Container, script: str) -> str:
    code, text = _run(container, "sh", "-c", script)
    assert code == 0, text
    return text


def _run(container: Container, *command: str) -> tuple[int, str]:
    code, output = container.exec_run(list(command))
    assert isinstance(output, bytes)
    assert code is not None
    return code, output.decode(errors="replace")


def client_conf(server: str) -> str:
    """As the role vpn_client writes it (docs/vpn.md), with shorter pauses."""
    host, _, port = server.partition(":")
    return f"""\
client
dev tun0
dev-type tun
proto tcp-client
remote {host} {port or 1194}
nobind
ca /etc/gantry/ca.crt
auth-user-pass /etc/gantry/login
auth-retry nointeract
remote-cert-tls server
verify-x509-name vpn.{HOST} name
tls-version-min 1.2
data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305
connect-retry 1 4
connect-timeout 10
resolv-retry infinite
disable-dco
script-security 0
verb 3
"""


def _aliased(net: Net, alias: str) -> dict[str, Any]:
    config = net.engine.api.create_endpoint_config(aliases=[alias])
    return {"networking_config": {net.network.name: config}}


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode = len(text.encode()), 0o444
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
