"""The collector as a process, with a real api, its PostgreSQL and the real registry: images are
pushed and pulled all the time, and whatever is not needed any more goes meanwhile."""

import base64
import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

# The api's fixtures are its own; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from gantry.contracts.deltas import DeltaState
from gantry.registry import layout
from gantry.registry.config import TokenAuth
from gantry.registry.storage import Folder
from tests.integration.api.conftest import (
    SOURCES,
    Api,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)
from tests.integration.cli.conftest import Operator
from tests.integration.deltas.registry import tar, text
from tests.integration.deltas.server import Asker
from tests.integration.deltas.server import Server as DeltaServer
from tests.integration.logs.conftest import Service

from .blobs import pull_image, push_like_an_engine
from .conftest import Start

__all__ = ["postgres"]

SERVICE = "registry.devbots.gantry.internal:8443"
DELTA = "delta.devbots.gantry.internal:8443"


@dataclass
class World:
    """A fleet's api, registry and collector."""

    api: Api
    registry: httpx2.Client
    folder: Path
    work: Path
    # Where a delta server is, when a test has started one.
    deltas_port: int = field(default_factory=free_port)
    collector: "subprocess.Popen[bytes] | None" = None
    admin: httpx2.Client = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.api.login()
        self.key = self.admin.post("/api-key/user/full", json={}).json()

    def start_collector(self) -> None:
        keys = self.api.config["service_keys"]
        settings = {
            "api_url": self.api.url,
            "registry_url": str(self.registry.base_url).rstrip("/"),
            "deltas_url": f"http://127.0.0.1:{self.deltas_port}",
            "service": SERVICE,
            "deltas_service": DELTA,
            "service_key": keys["collector"],
            "folder": str(self.folder),
            "alive": str(self.work / "alive"),
            "poll_seconds": 0.2,
        }
        file = self.work / "collector.json"
        file.write_text(json.dumps(settings))
        environment = {**os.environ, "GANTRY_CONFIG": str(file), "PYTHONPATH": str(SOURCES)}
        with (self.work / "collector.log").open("ab") as log:
            self.collector = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "gantry.registry"],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def stop_collector(self, how: int = signal.SIGTERM) -> int:
        assert self.collector
        self.collector.send_signal(how)
        self.collector.send_signal(signal.SIGCONT)
        return self.collector.wait(20)

    @contextlib.contextmanager
    def delta_server(self) -> Iterator[DeltaServer]:
        folder = self.work / "deltas"
        folder.mkdir()
        server = DeltaServer(
            {
                "fleet": "devbots", "service": DELTA, "registry": SERVICE,
                "realm": "https://unused/auth/v1/token", "issuer": "api.devbots.gantry.internal",
                "api_url": self.api.url, "registry_url": str(self.registry.base_url).rstrip("/"),
                "service_key": self.api.config["service_keys"]["deltas"],
                "token_certificate_pem": self.api.config["token_certificate_pem"],
                "data": str(folder / "data"), "ahead_seconds": 3600,
                "listen_host": "127.0.0.1", "listen_port": self.deltas_port,
            },
            folder,
        )  # fmt: skip
        try:
            server.start()
            yield server
        finally:
            server.stop()

    def token(self, user: str, key: str, scope: str, service: str = SERVICE) -> str:
        basic = base64.b64encode(f"{user}:{key}".encode()).decode()
        answer = self.api.client().get(
            "/auth/v1/token",
            params={"service": service, "scope": scope},
            headers={"Authorization": f"Basic {basic}"},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def builder_token(self, repository: str, *others: str) -> str:
        key = self.api.config["service_keys"]["builder"]
        asked = [f"repository:{repository}:pull,push", *(f"repository:{e}:pull" for e in others)]
        return self.token("builder", key, " ".join(asked))

    def application(self) -> "Application":
        body = {"app_name": f"app{os.urandom(4).hex()}", "is_for__device_type": "raspberrypi3-64"}
        made = self.admin.post("/v7/application", json=body)
        assert made.status_code == 201, made.text
        return Application(self, made.json())

    def user_token(self, repository: str) -> str:
        return self.token("admin", self.key, f"repository:{repository}:pull")

    @contextlib.contextmanager
    def lease(self, repository: str) -> Iterator[None]:
        builder = self.api.service("builder")
        while True:
            body = {"builder": "one", "repository": repository}
            begun = builder.post("/services/builder/pushes", json=body)
            if begun.status_code == 201:
                break
            assert begun.status_code == 503, begun.text
            time.sleep(0.1)
        try:
            yield
        finally:
            builder.delete(f"/services/builder/pushes/{begun.json()['push']}")

    def order(self, kind: str, **more: Any) -> httpx2.Response:
        return self.admin.post("/registry/run", json={"kind": kind, **more})

    def run(self, kind: str = "collect", **more: Any) -> dict[str, Any]:
        """A run, until it is over."""
        deadline = time.monotonic() + 60
        made = self.order(kind, **more)
        while made.status_code == 409 and time.monotonic() < deadline:
            # What one leaves to be freed later is freed without an order.
            assert "(free)" in made.text
            time.sleep(0.1)
            made = self.order(kind, **more)
        assert made.status_code == 201, made.text
        while time.monotonic() < deadline:
            found = self.admin.get(f"/registry/run/{made.json()['id']}").json()
            if found["status"] in ("done", "failed"):
                return dict(found)
            time.sleep(0.1)
        raise AssertionError((self.work / "collector.log").read_text())

    def release(self, release_id: int) -> dict[str, Any]:
        return dict(self.admin.get(f"/v7/release({release_id})").json()["d"][0])


@dataclass
class Application:
    """A fleet of one service, which is built again and again."""

    world: World
    row: dict[str, Any]
    repository: str = ""

    @property
    def place(self) -> str:
        return f"/v7/application({self.row['id']})"

    def push(
        self, layers: list[bytes], commit: str = "", pause: float = 0.0, of: str = ""
    ) -> tuple[int, str]:
        """Build a release as the builder does; its id and its image's digest."""
        builder = self.world.api.service("builder")
        body = {
            "application_id": self.row["id"],
            "user_id": self.row["belongs_to__user"]["__id"],
            "commit": commit or os.urandom(20).hex(),
            "composition": {"services": {"main": {"build": "."}}},
            "services": ["main"],
            "builder": "one",
        }
        made = builder.post("/services/builder/releases", json=body)
        assert made.status_code == 201, made.text
        release, (image,) = made.json()["release_id"], made.json()["images"]
        self.repository = image["repository"]
        with self.world.lease(self.repository):
            digest = push_like_an_engine(
                self.world.registry,
                self.repository,
                self.world.builder_token(self.repository, of or self.repository),
                layers,
                tag=f"r{release}",
                mount_from=of or None,
                pause=lambda: time.sleep(pause),
            )
        done = {"image_id": image["image_id"], "digest": digest, "size": 1}
        answer = builder.patch(
            f"/services/builder/releases/{release}",
            json={"status": "success", "images": [done]},
        )
        assert answer.status_code == 200, answer.text
        return release, digest

    def target(self) -> str:
        """The digest that its devices should be running."""
        expand = (
            "should_be_running__release($select=id;$expand=release_image($select=id;"
            "$expand=image($select=content_hash)))"
        )
        found = self.world.admin.get(self.place, params={"$select": "id", "$expand": expand})
        assert found.status_code == 200, found.text
        (release,) = found.json()["d"][0]["should_be_running__release"]
        digest: str = release["release_image"][0]["image"][0]["content_hash"]
        return digest

    def space(self, report: dict[str, Any]) -> dict[str, Any]:
        """Its part of a report."""
        return next(each for each in report["repositories"] if each["name"] == self.repository)


@dataclass
class Traffic:
    """Pushes and pulls, all the time."""

    applications: list[Application]
    choices: list[list[bytes]]
    pushed: list[tuple[Application, int, str]] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_enough(self) -> bool:
        return len(self.pushed) > 12 and len(self.pulled) > 12

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        works = [(self._push, 0), (self._push, 1), (self._pull, 0), (self._pull, 1)]
        threads = [threading.Thread(target=self._guarded, args=each) for each in works]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self.ended.set()
            for each in threads:
                each.join()

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            while not self.ended.is_set():
                work(number)
        except BaseException as error:
            self.faults.append(error)
            self.ended.set()

    def _push(self, number: int) -> None:
        """To one application for a while, then to another: the others are left alone meanwhile."""
        count = len(self.applications)
        turn = int(time.monotonic() / 3)
        application = self.applications[(turn * 2 + number) % count]
        other = self.applications[(turn * 2 + number + 2) % count]
        chosen = self.choices[(7 * len(self.pushed) + number) % len(self.choices)]
        release, digest = application.push(chosen, pause=0.05, of=other.repository)
        self.pushed.append((application, release, digest))

    def _pull(self, number: int) -> None:
        """What devices should be running."""
        application = self.applications[(len(self.pulled) + number) % len(self.applications)]
        world = application.world
        token = world.user_token(application.repository)
        digest = application.target()
        assert pull_image(world.registry, application.repository, token, digest) == 40_000
        self.pulled.append(digest)


@pytest.fixture(scope="module")
def world(postgres: str, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("collector")
    folder = tmp_path / "registry"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        config = make_config(stack.enter_context(own_database(postgres)), free_port())
        config["registry_space"] = {
            "keep_releases": 2, "keep_days": 0, "grace_seconds": 0, "linger_seconds": 0,
        }  # fmt: skip
        api = stack.enter_context(running(config, tmp_path))
        registry = stack.enter_context(
            start(
                auth=TokenAuth("https://unused", SERVICE, "api.devbots.gantry.internal"),
                certificate=config["token_certificate_pem"],
                user=f"{os.getuid()}:{os.getgid()}",
                volumes={str(folder): {"bind": "/var/lib/registry", "mode": "rw"}},
            )
        )
        made = World(api, registry.client, folder, tmp_path)
        made.start_collector()
        try:
            yield made
        finally:
            if made.collector and made.collector.poll() is None:
                made.stop_collector()


def test_pushes_and_pulls_go_on_while_what_nobody_needs_goes(world: World) -> None:
    """Few layers, in all combinations: what was removed a moment ago is pushed again, and pushes
    rely on layers that no image has just now. Nothing may fail, and nothing that is needed may be
    lost."""
    layers = [os.urandom(20_000) for _ in range(40)]
    choices = [[one, other] for one, other in zip(layers, layers[1:] + layers[:1], strict=True)]
    applications = [world.application() for _ in range(6)]
    for application, chosen in zip(applications, choices, strict=False):
        application.push(chosen)
    traffic = Traffic(applications, choices)
    removed = freed = 0
    begun = time.monotonic()
    with traffic.going_on():
        while not traffic.is_enough or removed < 4 or freed < 20_000:
            run = world.run()
            assert run["status"] == "done", run
            removed += run["report"]["removed"]
            freed += run["report"]["freed"]
            assert time.monotonic() - begun < 240, (removed, freed, traffic)
            if traffic.faults:
                break
    assert not traffic.faults, traffic.faults

    alive = 0
    for application, release, digest in traffic.pushed:
        if world.release(release)["images_removed_timestamp"] is None:
            token = world.user_token(application.repository)
            assert pull_image(world.registry, application.repository, token, digest) == 40_000
            alive += 1
    assert alive >= 4
    there = layout.read_contents(Folder(world.folder))
    for repository in there.repositories.values():
        for digest in repository.manifests:
            assert {digest, *there.manifests[digest].holds} <= there.blobs.keys()


def test_a_removed_release_says_so_and_is_built_again(world: World) -> None:
    application = world.application()
    commits = [os.urandom(20).hex() for _ in range(4)]
    made = [application.push([os.urandom(1000)], commit)[0] for commit in commits]
    before = application.space(world.run("survey")["report"])["images"]
    assert sorted(len(each["reasons"]) for each in before)[:3] == [0, 0, 1]
    assert [world.release(each)["images_removed_timestamp"] for each in made] == [None] * 4
    assert world.run()["report"]["removed"] >= 2
    gone = made[0]
    assert world.release(gone)["images_removed_timestamp"]
    refused = world.admin.patch(application.place, json={"should_be_running__release": gone})
    assert (refused.status_code, refused.json()["rule"]) == (400, "target_fits")
    assert "has not had its images removed" in refused.json()["error"]
    # Pushing the commit again builds it again: another release, which runs.
    again, digest = application.push([os.urandom(1000)], commits[0])
    assert again not in made
    assert application.target() == digest
    wanted = {"$filter": "resource eq 'release' and action eq 'update'"}
    notes = world.admin.get("/v7/audit_entry", params=wanted).json()["d"]
    noted = {each["row"] for each in notes if each["changes"] == {"images": "removed"}}
    assert noted & set(made) == set(made[:2])


def test_a_collector_that_is_killed_amid_a_run(world: World) -> None:
    """Pushes wait for its next start at the most, and the next run does what is left."""
    application = world.application()
    for _ in range(8):
        application.push([os.urandom(1000)])
    assert world.collector
    os.kill(world.collector.pid, signal.SIGSTOP)
    ordered = world.admin.post("/registry/run", json={"kind": "collect"}).json()
    both = world.admin.post("/registry/run", json={"kind": "survey"})
    assert (both.status_code, f"run {ordered['id']}" in both.json()["error"]) == (409, True)
    os.kill(world.collector.pid, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while world.admin.get(f"/registry/run/{ordered['id']}").json()["status"] == "ordered":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Its child is another process: it ends by itself, for the api wants no more of it.
    world.stop_collector(signal.SIGKILL)
    world.start_collector()
    application.push([os.urandom(1000)])
    found = world.admin.get(f"/registry/run/{ordered['id']}").json()
    assert found["status"] in ("done", "failed")
    assert world.run()["status"] == "done"
    contents = layout.read_contents(Folder(world.folder))
    assert len(contents.repositories[application.repository].manifests) == 2
    assert world.stop_collector() == 0
    world.start_collector()


def test_the_command_shows_asks_removes_and_says_what_it_freed(
    world: World, tmp_path: Path
) -> None:
    person = Operator(tmp_path, world.api.url)
    person.login(cast(Service, SimpleNamespace(url="http://127.0.0.1:9")))
    application = world.application()
    made = [application.push([os.urandom(30_000)])[0] for _ in range(5)]
    person.run("releases", "keep", str(made[0]))
    name = f"{application.row['slug']} main"

    shown = person.run("registry", "space")
    line = next(each for each in shown.splitlines() if each.startswith(name))
    assert re.search(r" 5 +15\d\.\d kB +2 +6\d\.\d kB ", line), line
    assert "1 × its release has the tag `keep`" in line
    assert re.search(r"\d+ images go; \d+\.\d kB can be freed: ", shown)
    # Without a delta server that is said, and all else goes on.
    assert f"what deltas take is not known: http://127.0.0.1:{world.deltas_port} cannot" in shown
    assert [world.release(each)["images_removed_timestamp"] for each in made] == [None] * 5
    each = person.run("registry", "space", "--images")
    assert [row.rstrip().endswith("goes") for row in each.splitlines() if name in row].count(
        True
    ) == 2

    # Without a terminal nobody can be asked.
    assert "add --yes" in person.ended("registry", "collect").stderr
    said = person.run("registry", "collect", "--yes", "--now")
    found = re.match(r"removed (\d+) images, freed (\d+\.\d) kB \(\d+ blobs\); ", said)
    assert found, said
    assert int(found[1]) >= 2
    assert float(found[2]) > 60
    assert "what was removed of the deltas is not known: http" in said
    listed = [row for row in person.run("releases").splitlines() if "images removed" in row]
    assert {int(row.split()[0]) for row in listed} >= set(made[1:3])
    assert not {int(row.split()[0]) for row in listed} & {made[0], *made[3:]}
    assert world.release(made[0])["images_removed_timestamp"] is None
    last = person.run("registry", "runs").splitlines()[1]
    assert re.search(r" collect +done .* removed \d+ images .*of deltas nothing is known", last)
    person.run("releases", "keep", str(made[0]), "--off")
    assert f"{name}" in person.run("registry", "space")
    report = json.loads(person.run("registry", "space", "--json"))
    (own,) = (each for each in report["repositories"] if each["name"] == application.repository)
    assert [each["reasons"] == [] for each in own["images"]].count(True) == 1


def test_the_deltas_of_what_goes_go_along(world: World, tmp_path: Path) -> None:
    """With a delta server, which has two deltas of one application: one is from and to images that
    go."""
    person = Operator(tmp_path, world.api.url)
    person.login(cast(Service, SimpleNamespace(url="http://127.0.0.1:9")))
    application = world.application()
    same = text("deltas and space", 100_000)
    layers = [tar({"app": same + str(each).encode() * 3000}) for each in range(4)]
    digests = [application.push([gzip.compress(each, 6, mtime=0)])[1] for each in layers]
    images = [f"{SERVICE}/{application.repository}@{each}" for each in digests]
    token = world.token("admin", world.key, f"repository:{application.repository}:pull", DELTA)
    with world.delta_server() as server:
        asker = Asker(server.client(token))
        sizes = []
        for src, dest in (images[:2], images[2:]):
            answer = asker.settled([src], dest)
            assert answer.state is DeltaState.READY
            sizes.append(int(answer.size or 0))

        report = json.loads(person.run("registry", "space", "--json"))["deltas"]
        assert (report["count"], report["size"]) == (2, sum(sizes))
        assert (report["goes"], report["frees"]) == (1, sizes[0])
        place = f"{application.repository}@"
        assert report["deltas"] == [
            {
                "src": [place + digests[0]], "dest": place + digests[1], "size": sizes[0],
                "reason": "an image of it goes, or is gone",
            }
        ]  # fmt: skip
        shown = person.run("registry", "space", "--images")
        assert re.search(
            r"^2 deltas take .*; 1 go, which frees .*: 1 × an image of it goes", shown, re.MULTILINE
        )
        name = f"{application.row['slug']} main"
        assert re.search(rf"^{name} .*{name} .*an image of it goes", shown, re.MULTILINE), shown
        assert len(server.deltas) == 2

        said = person.run("registry", "collect", "--yes", "--now")
        assert re.search(r"^removed 1 deltas, freed .*; 1 are left with ", said, re.MULTILINE), said
        assert [each.stat().st_size for each in server.deltas] == [sizes[1]]
        listed = json.loads(person.run("registry", "runs", "--json"))
        report = next(each["report"] for each in listed if each["kind"] == "collect")
        assert (report["deltas"]["removed"], report["deltas"]["freed"]) == (1, sizes[0])
        assert report["repositories"] == report["deltas"]["deltas"] == []
        assert "images and 1 deltas, freed " in person.run("registry", "runs")
        assert asker.ask([images[2]], images[3]).json()["state"] == "ready"
        assert asker.ask([images[0]], images[1]).status_code == 404
