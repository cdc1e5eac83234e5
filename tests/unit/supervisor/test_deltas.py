"""Updates by delta, without an engine: what is asked, and what of the answer is believed."""

import asyncio
import hashlib
import os
import resource
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gantry.contracts.deltas import DeltaPair
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.deltas import folder, manifest, server
from gantry.supervisor.deltas.bring import Bringing
from gantry.supervisor.deltas.folder import DamagedError, DeltaFile
from gantry.supervisor.deltas.manifest import MissingLayerError, Way
from gantry.supervisor.deltas.means import Means, NoDeltaError, TryAgainError
from gantry.supervisor.deltas.pairing import source_images
from gantry.supervisor.deltas.patience import Patience
from gantry.supervisor.engine import Engine
from gantry.supervisor.pace import Pace
from gantry.supervisor.progress import DownloadWay, Received
from gantry.supervisor.registry import Descriptor, ImageDocuments
from gantry.supervisor.state import Container, ContainerState, CurrentState, EngineImage
from gantry.supervisor.steps import FetchImage
from gantry.supervisor.storage import KnownBlob, chain_ids
from gantry.supervisor.store import Store
from gantry.supervisor.tarsplit import SplitTar
from tests.integration.supervisor.delta_server import DeltaServer

REGISTRY = "registry.test:8443"


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def reference(name: str) -> str:
    return f"{REGISTRY}/v2/{name}@{digest(name)}"


def container(service: str, image: str, app_id: int = 7) -> Container:
    return Container(
        id=service + image,
        name=service,
        app_id=app_id,
        service=service,
        commit="aaa1",
        config_hash="",
        state=ContainerState.RUNNING,
        image=image,
    )


def state(*containers: Container, images: tuple[str, ...] = ()) -> CurrentState:
    names = {each.image for each in containers} | set(images)
    here = tuple(EngineImage(id=each, references=(each,)) for each in sorted(names))
    return CurrentState(containers=containers, images=here)


STEP = FetchImage(reference("new"), 7, "main", 1)


def test_sources_are_the_images_of_the_application_its_own_service_first() -> None:
    old, helper = reference("old"), reference("helper")
    current = state(
        container("helper", helper),
        container("main", old),
        container("main", reference("theirs"), app_id=8),
        images=(reference("unused"),),
    )
    assert source_images(STEP, current) == (old, helper)


def test_where_the_container_has_gone_its_image_may_be_any_that_is_here() -> None:
    helper, old = reference("helper"), reference("old")
    foreign = f"elsewhere.test/v2/x@{digest('x')}"
    current = state(container("helper", helper), images=(old, foreign, STEP.reference))
    assert source_images(STEP, current) == (helper, old)


def test_what_cannot_be_named_is_no_source() -> None:
    gone = container("main", reference("gone"))
    current = CurrentState(containers=(gone, container("main", f"{REGISTRY}/v2/x:latest")))
    assert source_images(STEP, current) == ()
    many = [container("main", reference(str(each))) for each in range(12)]
    assert len(source_images(STEP, state(*many))) == 8


class Stored:
    """Storage with these layers: known blobs by diffID, tars by chainID."""

    def __init__(self, known: dict[str, str], is_chained: bool = True) -> None:
        self.is_chained = is_chained
        self._known = known

    def folder(self, _chain: str) -> Path | None:
        return None

    def known(self, _chain: str, diff_id: str, _digest: str) -> KnownBlob | None:
        return KnownBlob(self._known[diff_id]) if diff_id in self._known else None

    def tar(self, _chain: str) -> SplitTar | None:
        return None


def documents(media_type: str, *names: str) -> ImageDocuments:
    layers = tuple(Descriptor("packed", digest(f"blob {e}"), 10) for e in names)
    config = Descriptor("config", digest("config"), 2)
    return ImageDocuments(media_type, config, b"{}", layers, tuple(digest(e) for e in names))


DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("media_type", "tar"),
    [
        (DOCKER, "application/vnd.docker.image.rootfs.diff.tar"),
        (OCI, "application/vnd.oci.image.layer.v1.tar"),
    ],
)
def test_layers_that_the_engine_has_are_named_as_it_knows_them(media_type: str, tar: str) -> None:
    image = documents(media_type, "a", "b", "c")
    stored = Stored({digest("a"): digest("blob a"), digest("b"): digest("b")})
    planned = manifest.plan_layers(image, stored, {digest("c"): 99}, lambda _: None)
    assert [each.way for each in planned] == [Way.KEPT, Way.KEPT, Way.REBUILT]
    assert [each.descriptor for each in planned] == [
        Descriptor("packed", digest("blob a"), 10),
        Descriptor(tar, digest("b"), 10),
        Descriptor(tar, digest("c"), 99),
    ]
    text = manifest.encode(image, planned).decode()
    assert f'"config":{{"mediaType":"config","digest":"{digest("config")}","size":2}}' in text


def test_above_a_layer_that_the_engine_downloads_it_downloads_all() -> None:
    image = documents(OCI, "a", "b", "c")
    known = {digest("b"): digest("blob b"), digest("c"): digest("blob c")}
    stored = {chain_ids(image.diff_ids)[2]: 30}
    rebuilt = {digest("a"): 10, digest("b"): 20}
    planned = manifest.plan_layers(image, Stored(known), rebuilt, stored.get)
    assert [(e.way, e.descriptor.size) for e in planned] == [
        (Way.REBUILT, 10),
        (Way.REBUILT, 20),
        (Way.STORED, 30),
    ]
    # Not so where blobs are unpacked from the engine's own store.
    planned = manifest.plan_layers(image, Stored(known, False), rebuilt, stored.get)
    assert [each.way for each in planned] == [Way.REBUILT, Way.KEPT, Way.KEPT]
    with pytest.raises(MissingLayerError, match=digest("c")):
        manifest.plan_layers(image, Stored({}), rebuilt, lambda _: None)


CONTENT = bytes(range(256)) * 40


def delta_file(home: Path, content: bytes = CONTENT) -> DeltaFile:
    named = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return DeltaFile(home / "deltas", folder.key("image"), named, len(content))


def test_half_a_file_is_gone_on_with(tmp_path: Path) -> None:
    first = delta_file(tmp_path)
    assert first.open() == 0
    first.add(CONTENT[:3000])
    first.close()
    second = delta_file(tmp_path)
    assert second.open() == 3000
    second.add(CONTENT[3000:])
    second.finish()
    third = delta_file(tmp_path)
    assert third.open() == len(CONTENT)
    third.finish()
    assert third.path.read_bytes() == CONTENT
    assert third.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [b"?" + CONTENT[1:], CONTENT[:10] + bytes(20_000), b"x"])
def test_what_is_not_what_it_should_be_is_thrown_away(tmp_path: Path, there: bytes) -> None:
    file = delta_file(tmp_path)
    file.path.parent.mkdir()
    file.path.write_bytes(there)
    file.add(CONTENT[file.open() :])
    with pytest.raises(DamagedError, match="its digest is not the announced one"):
        file.finish()
    assert not file.path.exists()
    again = delta_file(tmp_path)
    assert again.open() == 0
    again.add(CONTENT)
    again.finish()


def test_other_files_go(tmp_path: Path) -> None:
    home = tmp_path / "deltas"
    first, second = delta_file(tmp_path), delta_file(tmp_path, b"another")
    first.open()
    first.close()
    second.open()
    second.close()
    assert [each.name for each in home.iterdir()] == [second.path.name]
    folder.tidy(home, [folder.key("image")])
    assert second.path.exists()
    folder.tidy(home, [folder.key("other")])
    assert not list(home.iterdir())
    folder.tidy(tmp_path / "none", [])


class Nowhere:
    """Keeps nothing."""

    async def get(self, name: str) -> Any:
        return None

    async def put(self, name: str, value: Any) -> None:
        return


NOWHERE = Nowhere()


class Asked:
    """A delta server with one pair, and a device that asks it. Its api is the same server."""

    def __init__(self, server: DeltaServer, home: Path) -> None:
        self.server = server
        self.home = home
        self.pair = DeltaPair((reference("old"),), reference("new"))
        server.pairs[frozenset(self.pair.src), self.pair.dest] = (CONTENT, 20_000)
        self.heard: list[tuple[int, Received]] = []
        self.waited: list[int | None] = []
        self.patience = Patience()

    async def bringing(self, pace: Pace) -> Bringing:
        config = DeviceConfig(
            {
                "uuid": "u",
                "deviceApiKey": "key",
                "apiEndpoint": self.server.url,
                "deltaEndpoint": self.server.url,
            }
        )
        means = Means(
            engine=Engine("/nowhere"),
            config=config,
            context=ssl.create_default_context(),
            credentials=lambda _: None,
            storage=Stored({}),
            folder=self.home / "deltas",
            instance="test",
            machine="x86_64",
            turn=asyncio.Semaphore(1),
            pace=pace,
        )
        return Bringing(means, self.pair, 10.0, lambda *told: self.heard.append(told))

    def fetch(self) -> bytes:
        """Ask and download once; the delta."""

        async def run() -> bytes:
            store = Store(self.home / "database.sqlite")
            await store.open()
            bringing = await self.bringing(Pace(store))
            try:
                answer = await bringing.ask(
                    self.patience, lambda answer: self.waited.append(answer.seconds)
                )
                path = await bringing.download(answer)
                return await asyncio.to_thread(path.read_bytes)
            finally:
                await bringing.close()
                await store.close()

        return asyncio.run(run())


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    server = DeltaServer(tmp_path / "server")
    yield Asked(server, tmp_path)
    server.close()


def test_a_delta_is_asked_for_with_a_token_for_all_of_its_images(asked: Asked) -> None:
    asked.server.working = 1
    assert asked.fetch() == CONTENT
    assert asked.server.sent == len(CONTENT)
    assert asked.server.logins == [("u", "key")]
    # What is here is not fetched again.
    assert asked.fetch() == CONTENT
    assert asked.server.sent == len(CONTENT)


def test_what_has_come_is_told_in_bytes(asked: Asked) -> None:
    content = os.urandom(1_000_000)
    asked.server.pairs[frozenset(asked.pair.src), asked.pair.dest] = (content, 2_000_000)
    asked.server.cut = 400_000
    with pytest.raises(TryAgainError):
        asked.fetch()
    first = asked.heard.copy()
    asked.heard.clear()
    asked.server.cut = None
    assert asked.fetch() == content
    for told in (first, asked.heard):
        assert {(each.way, each.total) for _, each in told} == {(DownloadWay.DELTA, len(content))}
        assert [each for each, _ in told] == [60 * each.done // len(content) for _, each in told]
    done = [each.done for _, each in first]
    assert done[0] == 0
    assert done == sorted(set(done))
    assert len(done) > 3
    # What is here is not counted from zero.
    further = [each.done for _, each in asked.heard]
    assert done[-1] <= further[0] == 400_000
    assert further[:-1] == sorted(set(further[:-1]))
    assert further[-1] == len(content)


def test_one_that_is_being_made_is_waited_for_where_that_is_worth_its_while(asked: Asked) -> None:
    server = asked.server
    asked.patience = Patience(rate=100_000.0)
    server.working, server.expected = 2, {"seconds": 20, "size": 10_000, "whole": 9_000_000}
    assert asked.fetch() == CONTENT
    assert asked.waited == [20]
    # 90 s for the pull: less than this.
    server.working, server.expected = 2, server.expected | {"seconds": 95}
    with pytest.raises(NoDeltaError, match="about 95 s, and a pull takes about 90 s") as caught:
        asked.fetch()
    assert not caught.value.is_lasting
    assert asked.waited == [20]
    assert server.working == 1, "it was asked again"


def test_one_that_is_never_made_is_not_waited_for_for_ever(asked: Asked) -> None:
    asked.patience = Patience(most=2.0)
    asked.server.working, asked.server.expected = 1000, {"seconds": 1}
    with pytest.raises(NoDeltaError, match="is waited for 2 s at most"):
        asked.fetch()
    asked.patience = Patience(most=0.0)
    before = asked.server.working
    with pytest.raises(NoDeltaError, match="is waited for 0 s at most"):
        asked.fetch()
    assert asked.server.working == before - 1


def test_a_download_that_is_cut_goes_on(asked: Asked) -> None:
    asked.server.cut = 4000
    for _ in range(2):
        with pytest.raises(TryAgainError, match="peer closed connection"):
            asked.fetch()
    assert asked.fetch() == CONTENT
    assert asked.server.sent == len(CONTENT)


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """A disk on which no file can be longer than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("length", [1, 20])
def test_a_disk_that_fails_is_not_the_network(asked: Asked, length: int) -> None:
    """With the last piece of the download, or before."""
    asked.server.pairs[frozenset(asked.pair.src), asked.pair.dest] = (length * CONTENT, 10**6)

    async def scenario() -> None:
        bringing = await asked.bringing(Pace(NOWHERE))
        answer = await bringing.ask(asked.patience, lambda _: None)
        with full_at(4096), pytest.raises(NoDeltaError, match=r"deltas/.*: File too large"):
            await bringing.download(answer)
        await bringing.close()

    asyncio.run(scenario())
    assert len(asked.server.files()) == 1


@pytest.mark.parametrize("limit", [None, 4096])
def test_what_has_come_is_kept_where_it_is_given_up(asked: Asked, limit: int | None) -> None:
    asked.server.pairs[frozenset(asked.pair.src), asked.pair.dest] = (20 * CONTENT, 10**6)
    asked.server.rate = 50_000

    async def scenario() -> None:
        bringing = await asked.bringing(Pace(NOWHERE))
        answer = await bringing.ask(asked.patience, lambda _: None)
        downloading = asyncio.create_task(bringing.download(answer))
        async with asyncio.timeout(60):
            while asked.server.sent < 20_000:
                await asyncio.wait({downloading}, timeout=0.01)
        downloading.cancel()
        # A disk that fails just then does not hide it.
        with full_at(limit) if limit else nullcontext(), pytest.raises(asyncio.CancelledError):
            await downloading
        await bringing.close()

    asyncio.run(scenario())
    [file] = (asked.home / "deltas").iterdir()
    assert file.stat().st_size == limit or 16_384 <= file.stat().st_size < 64 * 1024
    assert (20 * CONTENT).startswith(file.read_bytes())


def test_a_token_that_is_over_is_replaced_once(asked: Asked) -> None:
    asked.server.given = ["bad", "good"]
    assert asked.fetch() == CONTENT
    asked.server.given = ["bad", "bad"]
    with pytest.raises(NoDeltaError, match="HTTP 401 no such token"):
        asked.fetch()


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"change": lambda e: bytes(9) + e[9:]}, TryAgainError, "its digest is not the announced"),
        ({"change": lambda e: e + bytes(10**7)}, TryAgainError, "10010240 bytes where 10240 were"),
        ({"change": lambda e: e[:-1]}, TryAgainError, "10239 bytes where 10240 were announced"),
        ({"is_endless": True}, TryAgainError, "more bytes than were announced"),
        ({"announced": {"size": 2**50, "whole": None}}, NoDeltaError, "not enough room on the"),
        ({"announced": {"size": 30_000}}, NoDeltaError, "30000 bytes instead of 20000 is none"),
        ({"announced": {"url": "http://x/"}}, TryAgainError, "a path on the server is expected"),
        ({"announced": {"state": "whole", "reason": "large"}}, NoDeltaError, "large"),
        ({"announced": {"state": "failed"}}, TryAgainError, "its answer is failed"),
        ({"announced": {"more": "x" * 300_000}}, TryAgainError, "more than 262144 bytes"),
        ({"status": 404}, NoDeltaError, "HTTP 404 as the test asks"),
        ({"lost": 1}, TryAgainError, "HTTP 404 there is no such delta: ask for it first"),
        ({"status": 429}, TryAgainError, "HTTP 429 as the test asks"),
        ({"status": 503}, TryAgainError, "HTTP 503 as the test asks"),
        ({"status": 302}, NoDeltaError, "HTTP 302"),
        ({"given": [""]}, NoDeltaError, "no token"),
    ],
)
def test_a_server_that_is_out_of_its_mind_is_not_believed(
    asked: Asked, fault: dict[str, Any], kind: type[Exception], said: str
) -> None:
    for name, value in fault.items():
        setattr(asked.server, name, value)
    with pytest.raises(kind, match=said):
        asked.fetch()
    folder_of_deltas = asked.home / "deltas"
    files = [*folder_of_deltas.iterdir()] if folder_of_deltas.exists() else []
    assert sum(each.stat().st_size for each in files) <= len(CONTENT)


def test_a_server_says_when_to_come_again(asked: Asked) -> None:
    asked.server.status, asked.server.retry_after = 503, "90"
    with pytest.raises(TryAgainError) as caught:
        asked.fetch()
    assert (caught.value.wait, caught.value.counts) == (90.0, True)


def test_an_answer_that_does_not_end_is_none(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LONGEST_ANSWER", 0.2)
    asked.server.status, asked.server.stall = 503, 2.0
    with pytest.raises(TryAgainError, match="/gantry/v1/delta: no whole answer in 0 s"):
        asked.fetch()


def test_nobody_there_may_be_tried_again(asked: Asked) -> None:
    asked.server.close()
    with pytest.raises(TryAgainError, match="/auth/v1/token: "):
        asked.fetch()


def test_an_idle_supervisor_has_none_of_it_in_memory() -> None:
    script = """
import sys
import gantry.supervisor.__main__
import httpx2
late = ("deltas.bring", "storage", "bundle_apply", "bundle", "apps_json", "registry", "watch")
late = [f"gantry.supervisor.{each}" for each in late]
print([each for each in (*late, "gantry.deltas", "html", "zipfile") if each in sys.modules])
import importlib.metadata
print(importlib.metadata.version("pytest") == "0", bool(list(importlib.metadata.distributions())))
"""
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["[]", "True True"]
