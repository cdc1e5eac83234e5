"""A real engine, a real registry, a real supervisor process; the cloud side is a small HTTP server
that speaks the api's contract, since here the supervisor alone is tested and the api is to fail on
command. The whole platform together is tested in tests/e2e."""

import asyncio
import base64
import hashlib
import io
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
import uvicorn
from docker.models.containers import Container
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.ports import free_port

ROOT = Path(__file__).parents[3]
REGISTRY_CONFIG = """version: 0.1
storage: {filesystem: {rootdirectory: /tmp/registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


def wait_until(
    what: str, check: Callable[[], Any], seconds: float = 90.0, every: float = 0.1
) -> Any:
    """The first true answer of `check`, asked again every so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := check():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Cloud:
    """The cloud side of one device, in a thread. It can be stopped and started at its port."""

    def __init__(self, ssl: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.ssl = ssl or {}
        self.url = f"{'https' if ssl else 'http'}://localhost:{self.port}"
        self.provisioning_key = secrets.token_hex(8)
        self.devices: dict[str, str] = {}
        self.registrations: list[dict[str, Any]] = []
        self.apps: dict[str, Any] = {}
        self.config: dict[str, str] = {}
        self.supervisor: dict[str, str] | None = None
        self.name = "quiet-robot"
        self.polls: list[int] = []
        self.announced_at = 0.0  # seconds since the epoch
        self.pins: list[tuple[str, int]] = []
        self.pin_status = 200
        self.order: list[str] = []  # of pins and polls
        self.reports: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.status: int | None = None  # answer every request of a device with this instead
        self.retry_after: str | None = None
        self.streams = True
        self.tags: dict[str, str] = {}
        self.tag_changes: list[dict[str, str]] = []
        self.tokens: list[
            tuple[str, list[str]]
        ] = []  # service and scopes of each that was asked for
        self.token = "good"
        self.after_register: Callable[[], None] = lambda: None
        self.before_report: Callable[[dict[str, Any]], None] = lambda _: None
        self._server: uvicorn.Server | None = None

    def start(self) -> None:
        config = uvicorn.Config(
            Starlette(routes=self._routes()),
            host="127.0.0.1",
            port=self.port,
            log_config=None,
            ws="none",
            timeout_graceful_shutdown=0,
            **self.ssl,  # type: ignore[arg-type]
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until("the cloud's start", lambda: self._server and self._server.started)

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join(10)
            # A request that came at the last moment is cut off, not left without an answer.
            for each in list(self._server.server_state.connections):
                if (left := each.transport.get_extra_info("socket")) is not None:
                    with suppress(OSError):
                        left.shutdown(socket.SHUT_RDWR)
            self._server = None

    def target(self, uuid: str) -> dict[str, Any]:
        target = {"name": self.name, "config": self.config, "apps": self.apps}
        return {uuid: target | ({"supervisor": self.supervisor} if self.supervisor else {})}

    def etag(self, uuid: str) -> str:
        content = json.dumps(self.target(uuid), sort_keys=True).encode()
        return f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def messages(self, **wanted: Any) -> list[str]:
        """Messages of log lines with these fields."""
        return [
            line["message"]
            for line in self.lines
            if all(line.get(key) == value for key, value in wanted.items())
        ]

    def reported(self) -> dict[str, Any]:
        """What the api knows of the device: all reports on top of each other."""
        known: dict[str, Any] = {}
        for report in self.reports:
            known |= next(iter(report.values()))
        return known

    def _routes(self) -> list[Route]:
        return [
            Route("/device/register", self._register, methods=["POST"]),
            Route("/device/v3/{uuid}/state", self._state),
            Route("/device/v3/{uuid}/events", self._events),
            Route("/device/v3/state", self._report, methods=["PATCH"]),
            Route("/v7/device(uuid='{uuid}')", self._pin, methods=["PATCH"]),
            Route("/device/v2/{uuid}/log-stream", self._logs, methods=["POST"]),
            Route("/device/v3/tags", self._set_tags, methods=["PATCH"]),
            Route("/v7/device_tag", self._tags),
            Route("/auth/v1/token", self._token),
        ]

    def _refusal(self, request: Request) -> Response | None:
        if self.status is not None:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return JSONResponse({"error": "as the test asks"}, self.status, headers=headers)
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key not in self.devices.values():
            return JSONResponse({"error": "unknown key"}, 401)
        return None

    async def _register(self, request: Request) -> Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.status is not None:
            return JSONResponse({"error": "as the test asks"}, self.status)
        if key != self.provisioning_key:
            return JSONResponse({"error": "unknown provisioning key"}, 401)
        body = await request.json()
        self.registrations.append(body)
        if self.devices.setdefault(body["uuid"], body["api_key"]) != body["api_key"]:
            return JSONResponse({"error": "registered with another key"}, 409)
        await asyncio.to_thread(self.after_register)
        answer = {"id": 77, "uuid": body["uuid"], "api_key": body["api_key"]}
        return JSONResponse(answer, 201)

    async def _pin(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        body = await request.json()
        self.order.append("pin")
        self.pins.append((request.path_params["uuid"], body["is_pinned_on__release"]))
        return JSONResponse({"error": "as the test asks"}, self.pin_status)

    async def _state(self, request: Request) -> Response:
        self.order.append("state")
        if refusal := self._refusal(request):
            self.polls.append(refusal.status_code)
            return refusal
        uuid = request.path_params["uuid"]
        etag = self.etag(uuid)
        if request.headers.get("If-None-Match") == etag:
            self.polls.append(304)
            return Response(status_code=304, headers={"ETag": etag})
        self.polls.append(200)
        return JSONResponse(self.target(uuid), headers={"ETag": etag})

    async def _events(self, request: Request) -> Response:
        if not self.streams:
            return JSONResponse({"error": "no such thing"}, 404)
        if refusal := self._refusal(request):
            return refusal
        uuid = request.path_params["uuid"]

        async def events() -> Any:
            told = ""
            while self._server is not None and not self._server.should_exit:
                if (etag := self.etag(uuid)) != told:
                    told = etag
                    self.announced_at = time.time()
                    yield f"event: target\ndata: {json.dumps({'etag': etag})}\n\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _report(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        report = await request.json()
        await asyncio.to_thread(self.before_report, report)
        self.reports.append(report)
        return Response(status_code=200)

    async def _set_tags(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        changes = next(iter((await request.json()).values()))
        self.tag_changes.append(changes)
        self.tags |= changes
        return Response(status_code=200)

    async def _token(self, request: Request) -> Response:
        """A token for other services, as the api gives it to a device that shows its key."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        name, _, key = base64.b64decode(given).decode().partition(":")
        if scheme != "Basic" or not name or self.devices.get(name.removeprefix("d_")) != key:
            return JSONResponse({"error": "unknown key"}, 401)
        query = request.query_params
        self.tokens.append((query["service"], query.getlist("scope")))
        return JSONResponse({"token": self.token})

    async def _tags(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        assert request.query_params["$filter"] == "device eq 77"
        found = [
            {"id": number + 1, "tag_key": key, "value": value}
            for number, (key, value) in enumerate(self.tags.items())
        ]
        return JSONResponse({"d": found})

    async def _logs(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        inflate = zlib.decompressobj(wbits=31)
        rest = b""
        async for piece in request.stream():
            *lines, rest = (rest + inflate.decompress(piece)).split(b"\n")
            self.lines += [json.loads(line) for line in lines]
        return Response(status_code=201)


class Registry:
    """A registry with images of applications in it."""

    def __init__(self, engine: docker.DockerClient, address: str) -> None:
        self.engine = engine
        self.address = address
        self._repository = hashlib.sha256(os.urandom(8)).hexdigest()[:32]
        self.pushed: list[str] = []

    def push(self, script: str, ballast: int = 0, repository: str | None = None) -> str:
        """An image that runs this shell script; its name by digest. The engine forgets it."""
        files = {"run": script.encode(), "ballast": os.urandom(ballast)}
        return self.push_layers([files], repository)

    def push_layers(
        self, layers: Sequence[Mapping[str, bytes]], repository: str | None = None
    ) -> str:
        """An image of busybox and these layers of files, which runs the file `run`. Layers of the
        same files are the same in each image. Without a folder, `repository` is an application's.
        """
        repository = repository or self._repository
        name = f"{self.address}/{'' if '/' in repository else 'v2/'}{repository}"
        lines = ["FROM supervisor-test/busybox"]
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for number, files in enumerate(layers):
                for path, data in files.items():
                    member = tarfile.TarInfo(f"{number}/{path}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                lines.append(f"COPY {number}/ /")
            lines.append('CMD ["/bin/sh", "/run"]\n')
            dockerfile = "\n".join(lines).encode()
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(dockerfile)
            archive.addfile(member, io.BytesIO(dockerfile))
        context.seek(0)
        built = f"supervisor-test/built:{secrets.token_hex(8)}"
        self.engine.images.build(
            fileobj=context, custom_context=True, tag=built, rm=True, nocache=True
        )
        reference: str = wait_until("the image is pushed", lambda: self._push(built, name))
        for each in (f"{name}:push", reference, built):
            remove_image(self.engine, each)
        self.pushed.append(reference)
        return reference

    def _push(self, built: str, name: str) -> str:
        """Push it under this name; empty where a supervisor that cleans up took the name away."""
        digest = ""
        self.engine.images.get(built).tag(name, "push")
        for message in self.engine.images.push(name, tag="push", stream=True, decode=True):
            if "does not exist" in message.get("error", ""):
                return ""
            assert "error" not in message, message
            digest = (message.get("aux") or {}).get("Digest", digest)
        assert digest, f"the engine told no digest of {name}"
        return f"{name}@{digest}"


class Device:
    """A supervisor process with its own boot and data directories."""

    def __init__(
        self, home: Path, engine: docker.DockerClient, cloud: Cloud, registry: str
    ) -> None:
        self.home = home
        self.engine = engine
        self.cloud = cloud
        self.app_id = int.from_bytes(os.urandom(3), "big") + 1_000_000
        self.instance = f"test-{self.app_id}"
        self.port = free_port()
        self.boot = home / "boot"
        self.boot.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.write_config(
            {
                "applicationId": str(self.app_id),
                "apiKey": cloud.provisioning_key,
                "userId": "1",
                "deviceType": "generic-amd64",
                "apiEndpoint": cloud.url,
                "registryEndpoint": registry,
                "mixpanelToken": "never used",
                "somethingNew": {"kept": True},
            }
        )

    def write_config(self, document: dict[str, Any]) -> None:
        (self.boot / "config.json").write_text(json.dumps(document))

    @property
    def config(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.boot / "config.json").read_text())
        return document

    def start(self) -> None:
        environment = os.environ | {
            "CONFIG_MOUNT_POINT": str(self.boot),
            "DATA_DIRECTORY": str(self.home / "data"),
            "DATA_MOUNT_POINT": str(self.home / "mnt"),
            "HOST_RUNTIME_DIRECTORY": str(self.home / "runtime"),
            "LISTEN_PORT": str(self.port),
            "LISTEN_ADDRESS": "127.0.0.1",
            "GANTRY_INSTANCE": self.instance,
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONWARNINGS": "error",
            **self.environment,
        }
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gantry.supervisor"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: int) -> int:
        """End the process with a signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """Take its power away."""
        if self.process is not None:
            self.process.kill()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def log(self) -> str:
        return (self.home / "log").read_text()

    def get(self, path: str, **how: Any) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", **how)

    def fact(self, name: str) -> Any:
        """What the supervisor remembers under this name."""
        with closing(sqlite3.connect(self.home / "data" / "database.sqlite")) as database:
            row = database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def containers(self, running: bool = False) -> list[Container]:
        filters: dict[str, str | list[str] | bool] = {
            "label": f"io.gantry.instance={self.instance}"
        }
        return list(
            self.engine.containers.list(all=not running, filters=filters, ignore_removed=True)
        )

    def service(self, name: str = "main") -> Container | None:
        """The running container of a service."""
        for each in self.containers(running=True):
            if each.labels["io.balena.service-name"] == name and each.status == "running":
                return each
        return None

    def app(self, commit: str, services: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
        """`apps` of a target with this one application."""
        number = int(hashlib.sha256(commit.encode()).hexdigest()[:6], 16)
        return {
            f"uuid{self.app_id}": {
                "id": self.app_id,
                "name": "bots",
                "slug": "admin/bots",
                "class": "fleet",
                "is_host": False,
                "releases": {
                    commit: {
                        "id": number,
                        "services": {
                            name: {
                                "id": index + 1,
                                "image_id": number + index,
                                "environment": {},
                                "labels": {},
                                "running": True,
                                **service,
                                # Shells as process 1 do not hear SIGTERM: they are not waited for.
                                "composition": {
                                    "stop_grace_period": "1s",
                                    **service.get("composition", {}),
                                },
                            }
                            for index, (name, service) in enumerate(services.items())
                        },
                        "volumes": {},
                        "networks": {},
                        **more,
                    }
                },
            }
        }

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        for each in self.containers():
            # One that ended at its own end is on its way out already.
            with suppress(docker.errors.APIError):
                each.remove(force=True, v=True)
        wait_until("its containers are gone", lambda: not self.containers())
        filters = {"label": f"io.gantry.instance={self.instance}"}
        for network in self.engine.networks.list(filters=filters):
            network.remove()
        for volume in self.engine.volumes.list(filters=filters):
            volume.remove(force=True)


def image_names(engine: docker.DockerClient) -> list[str]:
    """Every name of every image. One question: images of others come and go meanwhile."""
    found: list[str] = []
    for image in engine.api.images():
        found += [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
    return found


def remove_images(engine: docker.DockerClient, address: str) -> None:
    """Every image of this registry."""
    for name in image_names(engine):
        if name.startswith(f"{address}/"):
            remove_image(engine, name)


def remove_image(engine: docker.DockerClient, name: str) -> None:
    """Remove it, also while a supervisor that cleans up does so too."""

    def gone() -> bool:
        try:
            engine.images.remove(name, force=True)
        except docker.errors.ImageNotFound:
            return True
        except docker.errors.APIError as error:
            # What the engine says of two removals of one image at once.
            if "unrecognized image ID" not in str(error):
                raise
            return False
        return True

    wait_until(f"{name} is removed", gone)


def import_busybox(engine: docker.DockerClient, work: Path) -> None:
    """The image that all test applications are made of: Debian's static busybox alone."""
    if engine.images.list(name="supervisor-test/busybox"):
        return
    subprocess.run(
        ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "busybox-static"],
        cwd=work,
        check=True,
    )
    package = next(work.glob("busybox-static*.deb"))
    subprocess.run(["dpkg-deb", "--extract", package, work / "root"], check=True)
    busybox = next(work.glob("root/**/bin/busybox")).read_bytes()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("bin/busybox")
        member.size, member.mode = len(busybox), 0o755
        archive.addfile(member, io.BytesIO(busybox))
        for name in ("sh", "sleep", "env", "cat", "date", "true", "false", "seq", "wget", "httpd"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    engine.api.import_image_from_data(
        content.getvalue(), repository="supervisor-test/busybox", tag="latest"
    )


def run_registry(engine: docker.DockerClient) -> tuple[Container, str]:
    """A registry in a container, and its address."""
    from gantry.deployment.images import build_image

    image = build_image("registry", lambda *_: None)
    container = engine.containers.create(
        image.tag,
        ["docker-registry", "serve", "/tmp/registry.yml"],
        name=f"supervisor-test-registry-{secrets.token_hex(4)}",
        ports={"5000/tcp": ("127.0.0.1", 0)},
        healthcheck={"test": ["NONE"]},
    )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("registry.yml")
        member.size = len(REGISTRY_CONFIG)
        tar.addfile(member, io.BytesIO(REGISTRY_CONFIG.encode()))
    container.put_archive("/tmp", archive.getvalue())
    container.start()
    container.reload()
    address = f"127.0.0.1:{(container.ports['5000/tcp'] or [{}])[0]['HostPort']}"

    def answers() -> bool:
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"http://{address}/v2/").status_code == 200
        return False

    wait_until("the registry's start", answers)
    return container, address


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def registry(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    import_busybox(engine, tmp_path_factory.mktemp("busybox"))
    container, address = run_registry(engine)
    try:
        yield Registry(engine, address)
    finally:
        container.remove(force=True, v=True)
        remove_images(engine, address)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    one = Cloud()
    one.start()
    yield one
    one.stop()


@pytest.fixture
def device(
    tmp_path: Path, engine: docker.DockerClient, cloud: Cloud, registry: Registry
) -> Iterator[Device]:
    one = Device(tmp_path, engine, cloud, registry.address)
    yield one
    print(one.log() if (tmp_path / "log").exists() else "never started")
    one.clean_up()
