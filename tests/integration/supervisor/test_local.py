"""Local mode: a real supervisor, a real engine over TCP, the command as a developer types it."""

import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import docker
import httpx2
import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.second_engine import SecondEngine

FLEET_SCRIPT = "echo fleet runs; while true; do sleep 1; done"
RUN = """trap 'exit 0' TERM
while true; do
  echo "says $(cat /app/message)"
  sleep 1 & wait $!
done
"""
DOCKERFILE = """FROM supervisor-test/busybox
RUN ["/bin/busybox", "ln", "-s", "busybox", "/bin/rm"]
WORKDIR /app
COPY wanted.txt ./
RUN ["/bin/sh", "-c", "cat wanted.txt > installed.txt"]
COPY . ./
CMD ["/bin/sh", "/app/run"]
"""


class TcpEngine:
    """The engine of this machine on a port, as a development device has it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        with caller, socket.socket(socket.AF_UNIX) as engine:
            engine.connect("/var/run/docker.sock")
            back = threading.Thread(target=self._pump, args=(engine, caller), daemon=True)
            back.start()
            self._pump(caller, engine)
            back.join()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(65536):
                other.sendall(piece)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)


class Push:
    """A running `gantry push`."""

    def __init__(
        self, device: Device, engine: TcpEngine | SecondEngine, tree: Path, *options: str
    ) -> None:
        home = device.home / "cli"
        home.mkdir(exist_ok=True)
        words = ["push", "127.0.0.1", "--source", str(tree), "--engine-port", str(engine.port)]
        words += ["--supervisor-port", str(device.port), *options]
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "gantry.cli.main", *words],
            env=os.environ | {"GANTRY_CONFIG_HOME": str(home), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self.output += line

    def says(self, text: str, seconds: float = 180.0) -> None:
        """Wait for a text in what it prints."""
        wait_until(
            f"{text!r} of the push",
            lambda: text in self.output or self.process.poll() is not None,
            seconds,
        )
        assert text in self.output, self.output

    def ends(self, seconds: float = 60.0) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ends()


@pytest.fixture
def tcp_engine() -> Iterator[TcpEngine]:
    one = TcpEngine()
    yield one
    one.close()


@pytest.fixture
def second_engine(
    device: Device, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SecondEngine]:
    """The device's engine from now on."""
    # Not tmp_path: the path of a socket has its limit.
    with tempfile.TemporaryDirectory(prefix="gantry-engine-") as home:
        one = SecondEngine(Path(home))
        monkeypatch.setenv("DOCKER_SOCKET", one.socket)
        device.engine = one.client
        yield one
        device.clean_up()
        device.engine = engine
        one.close()


@pytest.fixture
def service(engine: docker.DockerClient) -> Iterator[str]:
    """A service's name that nobody else has; its images are gone afterwards."""
    name = f"web{secrets.token_hex(4)}"
    yield name
    for image in local_images(engine, name):
        with suppress(docker.errors.ImageNotFound):
            engine.images.remove(image, force=True)


@pytest.fixture
def tree(tmp_path: Path, service: str) -> Path:
    """An application of one service with a volume, and files of every kind."""
    root = tmp_path / "tree"
    context = root / "web"
    context.mkdir(parents=True)
    (root / "docker-compose.yml").write_text(
        json.dumps(
            {
                "services": {
                    service: {
                        "build": "web",
                        "stop_grace_period": "2s",
                        "environment": {"OWN": "yes"},
                        "volumes": ["kept:/kept"],
                    }
                },
                "volumes": {"kept": {}},
            }
        )
    )
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "run").write_text(RUN)
    (context / "message").write_text("first")
    (context / "wanted.txt").write_text("one")
    (context / ".dockerignore").write_text("*.log\n")
    return root


def local_images(engine: docker.DockerClient, service: str) -> list[str]:
    names = [tag for each in engine.api.images() for tag in each["RepoTags"] or ()]
    return [name for name in names if name.startswith(f"gantry-local/{service}:")]


def read(container: Any, path: str) -> str:
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        content = archive.extractfile(path.rpartition("/")[2])
        assert content is not None
        return content.read().decode()


def begin(
    device: Device, cloud: Cloud, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A development device that runs its fleet's release; the release's apps."""
    monkeypatch.setenv("HOST_VARIANT", "development")
    apps = device.app("f" * 40, {"main": {"image": registry.push(FLEET_SCRIPT)}})
    next(iter(apps.values()))["releases"]["f" * 40]["services"]["main"]["labels"] = {
        "io.balena.features.supervisor-api": "1"
    }
    cloud.apps = apps
    device.start()
    wait_until("the fleet's release", device.service)
    return apps


def local_mode(cloud: Cloud, device: Device, on: bool) -> None:
    cloud.config = {"RESIN_SUPERVISOR_LOCAL_MODE": "1"} if on else {}
    wanted = 200 if on else 401

    def is_so() -> bool:
        with suppress(httpx2.ConnectError):  # it may be on its way up
            return device.get("/v2/local/device-info").status_code == wanted
        return False

    wait_until(f"local mode {on}", is_so)


def test_the_api_of_local_mode(
    device: Device, cloud: Cloud, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(device, cloud, registry, monkeypatch)
    container = device.service()
    assert container is not None
    names = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    key = {"Authorization": f"Bearer {names['BALENA_SUPERVISOR_API_KEY']}"}
    url = f"http://127.0.0.1:{device.port}/v2/local/target-state"

    # Without local mode: a key is needed, and nothing can be set.
    assert device.get("/v2/local/target-state").status_code == 401
    shown = device.get("/v2/local/target-state", headers=key).json()["state"]["local"]["apps"]
    assert set(shown) == {str(device.app_id)}
    refused = httpx2.post(url, json={"local": {"apps": {}}}, headers=key)
    assert refused.status_code == 400
    assert refused.json() == {
        "status": "failed",
        "message": "Target state can only set when device is in local mode",
    }

    # In local mode nobody is asked for a key; the fleet's release ends, its image stays.
    local_mode(cloud, device, True)
    wait_until("the fleet's release gone", lambda: not device.containers())
    image = cloud.apps[f"uuid{device.app_id}"]["releases"]["f" * 40]["services"]["main"]["image"]
    assert device.get("/v2/local/device-info").json() == {
        "status": "success",
        "info": {"arch": "amd64", "deviceType": "generic-amd64"},
    }
    state = device.get("/v2/local/target-state").json()
    assert state == {
        "status": "success",
        "state": {
            "local": {
                "name": "quiet-robot",
                "config": {"RESIN_SUPERVISOR_LOCAL_MODE": "1"},
                "apps": {},
            }
        },
    }
    for wrong, why in (
        ({}, 'the body has no "local"'),
        (
            {"local": {"apps": {"1": {"name": "x", "commit": "c", "services": {"1": {}}}}}},
            "service",
        ),
    ):
        answer = httpx2.post(url, json=wrong)
        assert answer.status_code == 400
        assert answer.json()["status"] == "failed"
        assert why in answer.json()["message"]

    # A target in the family's form runs, with what it names beside the image flattened into it.
    state["state"]["local"]["apps"] = {
        "1": {
            "name": "localapp",
            "commit": "10ca12e1ea5e",
            "releaseId": "1",
            "services": {
                "1": {
                    "serviceName": "other",
                    "serviceId": 1,
                    "imageId": 1,
                    "image": image,
                    "environment": {"A": "b"},
                    "labels": {},
                    "running": True,
                    "stop_grace_period": "1s",
                }
            },
            "volumes": {},
            "networks": {},
        }
    }
    with httpx2.stream("GET", url.replace("target-state", "logs"), timeout=120) as stream:
        lines = stream.iter_lines()
        first = json.loads(next(lines))
        assert (first["message"], first["isSystem"]) == ("Streaming logs", True)
        answer = httpx2.post(url, json=state["state"])
        assert (answer.status_code, answer.json()) == (200, {"status": "success", "message": "OK"})
        wait_until("the local service", lambda: device.service("other"))
        line = next(each for each in map(json.loads, lines) if each["message"] == "fleet runs")
        assert line["serviceName"] == "other"
    assert device.get("/v2/local/target-state").json()["state"] == state["state"] | {
        "local": state["state"]["local"]
        | {"apps": {"1": state["state"]["local"]["apps"]["1"] | {"releaseId": 1}}}
    }
    # What a developer tries is nothing of the fleet's: neither told nor logged there.
    before = len(cloud.messages(serviceName="other"))
    assert before == 0
    assert set(cloud.reported()["apps"]) <= {f"uuid{device.app_id}"}

    # It is kept over a loss of power, and goes with local mode.
    device.kill()
    wait_until("its end", device.has_ended)
    device.start()
    local_mode(cloud, device, True)
    kept = device.service("other")
    assert kept is not None
    local_mode(cloud, device, False)
    wait_until("the fleet's release back", device.service)
    wait_until("the local one gone", lambda: device.service("other") is None)


def test_production_has_no_local_mode(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.apps = device.app("a" * 40, {"main": {"image": registry.push(FLEET_SCRIPT)}})
    cloud.config = {"BALENA_SUPERVISOR_LOCAL_MODE": "1"}
    device.start()
    wait_until("the fleet's release", device.service)
    assert device.get("/v2/local/device-info").status_code == 401
    wait_until(
        "the reason in the log",
        lambda: any("Local mode stays off" in each for each in cloud.messages(isSystem=True)),
    )


def test_a_push_and_live_sync(
    device: Device,
    cloud: Cloud,
    registry: Registry,
    engine: docker.DockerClient,
    tcp_engine: TcpEngine,
    service: str,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin(device, cloud, registry, monkeypatch)

    refused = Push(device, tcp_engine, tree)
    assert refused.ends() == 1
    assert "not in local mode" in refused.output
    assert "Traceback" not in refused.output

    local_mode(cloud, device, True)
    push = Push(device, tcp_engine, tree, "--env", f"{service}:GIVEN=here")
    try:
        push.says("watching for changed files")
        push.says(f"[{service}] says first")
        container = device.service(service)
        assert container is not None
        assert {"OWN=yes", "GIVEN=here", "BALENA_APP_NAME=localapp"} <= set(
            container.attrs["Config"]["Env"]
        )
        assert device.service() is None, "the fleet's release runs beside it"

        # Code: copied into the running container, which is started again and is the same one.
        (tree / "web" / "message").write_text("second")
        (tree / "web" / "new" / "deep").mkdir(parents=True)
        (tree / "web" / "new" / "deep" / "file").write_text("deep down")
        (tree / "web" / "ignored.log").write_text("never")
        push.says(f"[{service}] says second")
        push.says("restarted")
        same = device.service(service)
        assert same is not None
        assert same.id == container.id
        wait_until(
            "all files",
            lambda: same.exec_run(["cat", "/app/new/deep/file"]).output == b"deep down",
        )
        assert same.exec_run(["cat", "/app/ignored.log"]).exit_code == 1

        # A file that is gone is gone there too.
        (tree / "web" / "new" / "deep" / "file").unlink()
        push.says("1 removed")
        wait_until(
            "the file's end",
            lambda: same.exec_run(["cat", "/app/new/deep/file"]).exit_code == 1,
        )

        # A file that the build makes something of: built anew.
        (tree / "web" / "wanted.txt").write_text("two")
        push.says("wanted.txt is used in the build: building anew")
        newer = wait_until(
            "another container",
            lambda: (found := device.service(service)) and found.id != container.id and found,
        )
        assert read(newer, "/app/installed.txt") == "two"
        assert read(newer, "/app/message") == "second"

        # A build that fails leaves what runs; the next change mends it.
        dockerfile = tree / "web" / "Dockerfile"
        wait_until("one more look", lambda: push.output.count("running: ") == 2)
        dockerfile.write_text(DOCKERFILE + "RUN nonsense\n")
        push.says("cannot be built")
        assert device.service(service).id == newer.id  # type: ignore[union-attr]
        dockerfile.write_text(DOCKERFILE + 'ENV MENDED="1"\n')
        mended = wait_until(
            "the mended one",
            lambda: (
                (found := device.service(service))
                and "MENDED=1" in found.attrs["Config"]["Env"]
                and found
            ),
            180,
        )
        assert push.interrupt() == 0, push.output
        assert "Traceback" not in push.output
        assert device.service(service).id == mended.id  # type: ignore[union-attr]
    finally:
        push.process.kill()
        push.ends()
        print(push.output)

    assert len(local_images(engine, service)) == 1, "images that were replaced are still here"
    filters = {"label": f"io.gantry.instance={device.instance}"}
    assert [each.name for each in engine.volumes.list(filters=filters)] == ["1_kept"]

    local_mode(cloud, device, False)
    wait_until("the fleet's release back", device.service)
    wait_until("the local service gone", lambda: len(device.containers()) == 1)
    wait_until("its images gone", lambda: not local_images(engine, service))
    wait_until("its volume gone", lambda: not engine.volumes.list(filters=filters))
    names = {each.name for each in engine.networks.list(filters=filters)}
    assert names == {f"{device.app_id}_default"}
    assert device.process is not None
    assert device.process.poll() is None


def test_a_build_on_this_machine(
    device: Device,
    cloud: Cloud,
    registry: Registry,
    engine: docker.DockerClient,
    second_engine: SecondEngine,
    service: str,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device has an engine of its own, which knows nothing of what is built here."""
    begin(device, cloud, registry, monkeypatch)
    local_mode(cloud, device, True)
    push = Push(device, second_engine, tree, "--build-here", "--detached")
    assert push.ends(240) == 0, push.output
    assert "sending gantry-local/" in push.output
    assert "running:" in push.output
    container = device.service(service)
    assert container is not None
    assert read(container, "/app/installed.txt") == "one"
    assert not local_images(engine, service), "this machine keeps a name of what was sent"
    local_mode(cloud, device, False)
    wait_until("the fleet's release back", device.service)
    wait_until("the local image gone", lambda: not local_images(device.engine, service))
