"""The real git server in its real image, with a stand-in for the api and the builder.

The stand-in is a real HTTP server that speaks the contract. The true ones are not used here: each
test needs a certain answer at a certain moment (a build that fails, that hangs, that never comes),
and a builder takes minutes to start. tests/e2e covers the true ones.
"""

import contextlib
import io
import json
import select
import socket
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import docker
import pytest
from docker.models.containers import Container

from gantry.contracts.build import (
    BuildEvent,
    BuildMessage,
    BuildResult,
    KeepAlive,
    Phase,
    ReleaseStatus,
    encode,
)
from gantry.deployment.images import build_image

SERVICE_KEY = "service-key-of-the-git-server"
APPLICATION = "5ca1ab1e" * 4
Script = Callable[["BuildRequest"], Iterator[BuildEvent]]


@dataclass
class BuildRequest:
    """A build that the git server asked for, as it arrived."""

    query: dict[str, str]
    size: int = 0
    files: dict[str, int] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)


def successful(request: BuildRequest) -> Iterator[BuildEvent]:
    """A build as it should be, in no time."""
    yield BuildMessage("a Dockerfile", Phase.RESOLVE)
    yield BuildMessage("Step 1/1 : FROM scratch", Phase.BUILD, "main")
    yield BuildResult(
        ReleaseStatus.SUCCESS,
        request.query["commit"],
        release_id=12,
        size=123_400_000,
        seconds={"receive": 0.1, "build": 41.25, "push": 3.0},
        services=["main"],
    )


class StandIn(ThreadingHTTPServer):
    """The api and the builder. `address` is how containers reach it."""

    daemon_threads = True

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.accounts = ["admin", "mallory"]
        self.keys: dict[str, list[str]] = {}
        self.owners = {("admin", "devbots"): APPLICATION, ("mallory", "bots"): "0badf00d" * 4}
        self.script: Script = successful
        self.builds: list[BuildRequest] = []
        self.accounts_answers: list[int] = []
        self.address = f"http://{host}:{self.server_port}"

    def last_build(self, count: int = 1, timeout: float = 60) -> BuildRequest:
        """The latest build, once there are `count`."""
        wait_until(lambda: len(self.builds) >= count, timeout)
        return self.builds[-1]


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Waits for the condition; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout} s"
        time.sleep(0.05)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        return

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _authorised(self) -> bool:
        if self.headers["Authorization"] == f"Bearer {SERVICE_KEY}":
            return True
        self._answer(401, b'{"error": "not the service key"}')
        return False

    def do_GET(self) -> None:
        if not self._authorised():
            return
        if self.path == "/services/git/accounts":
            body = json.dumps(self.server.accounts).encode()
            etag = f'"{hash(body)}"'
            status = 304 if self.headers["If-None-Match"] == etag else 200
            self.server.accounts_answers.append(status)
            self._answer(status, b"" if status == 304 else body, {"ETag": etag})
        elif self.path.startswith("/auth/v1/public-keys/"):
            keys = self.server.keys.get(self.path.rsplit("/", 1)[1], [])
            self._answer(200, "".join(key + "\n" for key in keys).encode())
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        if not self._authorised():
            return
        if self.path == "/services/git/authorize":
            self._authorize(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        elif self.path.startswith("/v3/build?"):
            self._build()
        else:
            self._answer(404, b"{}")

    def _authorize(self, question: dict[str, str]) -> None:
        slug = f"{question['owner']}/{question['application']}"
        application = self.server.owners.get((question["owner"], question["application"]))
        if application is None or question["owner"] != question["username"]:
            sentence = f"There is no application {slug}, or you may not {question['action']} it."
            self._answer(404, json.dumps({"error": sentence}).encode())
            return
        grant = {
            "application_id": 7,
            "application_uuid": application,
            "slug": slug,
            "device_type": "raspberrypi3-64",
            "user_id": 3,
        }
        self._answer(200, json.dumps(grant).encode())

    def _build(self) -> None:
        request = BuildRequest(dict(parse_qsl(urlsplit(self.path).query)))
        with tarfile.open(fileobj=_Body(self.rfile, request), mode="r|") as archive:
            request.files = {member.name: member.size for member in archive if member.isfile()}
        while self.rfile.readline().strip() not in (b"", b"0"):
            continue
        self.server.builds.append(request)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for event in self.server.script(request):
                if self._is_gone():
                    raise ConnectionResetError
                self.wfile.write(encode(event))
        except OSError:
            request.cancelled.set()
        request.finished.set()

    def _is_gone(self) -> bool:
        readable = select.select([self.connection], [], [], 0)[0]
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""


class _Body(io.RawIOBase):
    """The decoded bytes of a chunked request, counted and not kept."""

    def __init__(self, stream: io.BufferedIOBase, request: BuildRequest) -> None:
        self._stream = stream
        self._request = request
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._ended:
            return b""
        if self._left == 0:
            self._left = int(self._stream.readline(), 16)
            if self._left == 0:
                self._stream.readline()
                self._ended = True
                return b""
        data = self._stream.read(min(size, self._left) if size > 0 else self._left)
        self._left -= len(data)
        self._request.size += len(data)
        if self._left == 0:
            self._stream.readline()
        return data


@dataclass(frozen=True)
class Client:
    """A user's machine: a key, an ssh configuration, and work trees."""

    folder: Path
    port: int

    @property
    def ssh_command(self) -> str:
        return f"ssh -F {self.folder / 'config'}"

    @property
    def public_key(self) -> str:
        return (self.folder / "id.pub").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "GIT_SSH_COMMAND": self.ssh_command,
            "GIT_CONFIG_NOSYSTEM": "1",
            "LANG": "C.UTF-8",
        }

    def url(self, path: str = "admin/devbots.git", user: str = "admin") -> str:
        return f"ssh://{user}@127.0.0.1:{self.port}/{path}"

    def ssh(self, *arguments: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
        command = [*self.ssh_command.split(), *arguments[:-1], f"{user}@127.0.0.1", arguments[-1]]
        return self._run([word for word in command if word], self.folder)

    def git(self, tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(["git", *arguments], tree)

    def start(self, tree: Path, *arguments: str) -> subprocess.Popen[str]:
        """Git in a process group of its own, as a terminal's job is."""
        return subprocess.Popen(
            ["git", *arguments],
            cwd=tree,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def work_tree(self, name: str, files: dict[str, bytes] | None = None) -> Path:
        """A repository with one commit on main and the remote `devbots`."""
        tree = self.folder / name
        tree.mkdir()
        for arguments in (
            ("init", "-q", "-b", "main"),
            ("config", "core.compression", "0"),
            ("config", "user.name", "Ada"),
            ("config", "user.email", "ada@example.org"),
            ("remote", "add", "devbots", self.url()),
        ):
            assert self.git(tree, *arguments).returncode == 0
        self.commit(tree, files or {"Dockerfile": f"FROM scratch\n# {name}\n".encode()})
        return tree

    def commit(self, tree: Path, files: dict[str, bytes]) -> str:
        """Writes the files and commits them; the commit's name."""
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        self.git(tree, "add", "-A")
        assert self.git(tree, "commit", "-q", "-m", "a change").returncode == 0
        return self.git(tree, "rev-parse", "HEAD").stdout.strip()

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def make_client(folder: Path, port: int) -> Client:
    """A client with a fresh key; it knows the server's port and asks nobody about host keys."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (folder / "config").write_text(
        f"Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n  BatchMode yes\n"
        "  StrictHostKeyChecking accept-new\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n"
        f"Host devbots.gantry.internal 127.0.0.1\n  HostName 127.0.0.1\n  Port {port}\n"
    )
    return Client(folder, port)


def _upload(container: Container, files: dict[str, bytes]) -> None:
    """Files owned by root that the service's group may read, as a deployment uploads them."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.gid = len(data), 0o440, 10001
            archive.addfile(entry, io.BytesIO(data))
    container.put_archive("/etc/gantry", content.getvalue())


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def stand_in(engine: docker.DockerClient) -> Iterator[StandIn]:
    bridge = engine.networks.list(names=["bridge"])[0]
    server = StandIn(bridge.attrs["IPAM"]["Config"][0].get("Gateway", "172.17.0.1"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def git_server(
    engine: docker.DockerClient, url: str, folder: Path, **changes: object
) -> Iterator[Container]:
    """A git server with no more rights than a deployment gives it; `url` is its whole cloud."""
    key = folder / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config = {
        "fleet": "devbots",
        "host": "devbots.gantry.internal",
        "https_port": 8443,
        "git_port": 2222,
        "api_url": url,
        "builder_url": url,
        "service_key": SERVICE_KEY,
        "max_push_bytes": 48 * 1024**2,
        **changes,
    }
    name = f"git-test-{uuid.uuid4().hex[:8]}"
    made = engine.containers.create(
        build_image("git", print).tag,
        name=name,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/run/gantry": "uid=10001,gid=10001,mode=0700"},
        mem_limit="256m",
        ports={"2222/tcp": ("127.0.0.1", 0)},
    )
    try:
        _upload(
            made,
            {"git.json": json.dumps(config).encode(), "ssh_host_ed25519_key": key.read_bytes()},
        )
        made.start()
        wait_until(lambda: is_up(made) or made.status == "exited", 30)
        made.reload()
        yield made
    finally:
        print(made.logs().decode(errors="replace"))
        made.remove(force=True, v=True)


def is_up(container: Container) -> bool:
    """Whether sshd has been started and listens."""
    container.reload()
    return b"Server listening on" in container.logs()


def port_of(container: Container) -> int:
    """The published port."""
    published = container.ports["2222/tcp"]
    assert published
    return int(published[0]["HostPort"])


def run_in(container: Container, command: str) -> str:
    """What a shell's command in the container prints."""
    output = container.exec_run(["sh", "-c", command]).output
    assert isinstance(output, bytes)
    return output.decode()


@pytest.fixture(scope="session")
def container(
    engine: docker.DockerClient, stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """The git server that most tests share."""
    with git_server(engine, stand_in.address, tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def client(container: Container, stand_in: StandIn, tmp_path: Path) -> Iterator[Client]:
    """A machine of the user admin, whose key the api knows."""
    made = make_client(tmp_path / "client", port_of(container))
    stand_in.keys = {"admin": [made.public_key]}
    stand_in.script = successful
    stand_in.builds.clear()
    yield made
    stand_in.script = successful


@pytest.fixture
def slow() -> Script:
    """A build that speaks every 0.3 s and never ends."""

    def script(_request: BuildRequest) -> Iterator[BuildEvent]:
        for number in range(1000):
            yield BuildMessage(f"line {number}", Phase.BUILD) if number < 3 else KeepAlive()
            time.sleep(0.3)

    return script
