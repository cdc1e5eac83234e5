"""How often a delta is tried, and when the image is pulled instead: by `Deltas`, as downloads ask
it, with a server that fails."""

import asyncio
import hashlib
import re
import socketserver
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.deltas import door, folder, server
from gantry.supervisor.deltas.door import Deltas
from gantry.supervisor.deltas.hopeless import Hopeless
from gantry.supervisor.engine import Credentials, Engine, EngineInfo
from gantry.supervisor.host.variables import DeltaSettings
from gantry.supervisor.journal import Journal
from gantry.supervisor.pace import Pace
from gantry.supervisor.settings import read_settings
from gantry.supervisor.state import Container, ContainerState, CurrentState, EngineImage
from gantry.supervisor.steps import FetchImage
from gantry.supervisor.store import Store
from tests.integration.supervisor.delta_server import DeltaServer

# More than ten times what makes a cut download worth its while.
CONTENT = bytes(range(256)) * 3000
WORTH = 64 * 1024


class Registry(socketserver.ThreadingTCPServer):
    """Speaks no TLS, and never answers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.is_over = threading.Event()
        registry = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if self.request.recv(1) != b"\x16":
                    registry.is_over.wait()

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Bench:
    """A device with one image, and the next one wanted, which is never applied: its registry does
    not say what it is."""

    def __init__(self, home: Path) -> None:
        self.server = DeltaServer(home / "server")
        self.registry = Registry()
        self.name = f"127.0.0.1:{self.registry.server_address[1]}"
        self.old, self.new = self.reference("old"), self.reference("new")
        self.server.pairs[frozenset([self.old]), self.new] = (CONTENT, 2 * len(CONTENT))
        self.variables = DeltaSettings(retry_interval=0.0, apply_timeout=1.0)
        self.said: list[str] = []
        self.is_hopeless = False
        # The supervisor's image that is wanted.
        self.successor: str | None = None
        # What it remembers of its line, in bytes a second.
        self.rate: float | None = None
        self.home = home
        (home / "engine/image/overlay2/layerdb").mkdir(parents=True)

    def reference(self, name: str) -> str:
        return f"{self.name}/v2/{name}@sha256:{hashlib.sha256(name.encode()).hexdigest()}"

    def close(self) -> None:
        self.server.close()
        self.registry.is_over.set()
        self.registry.shutdown()
        self.registry.server_close()

    @property
    def files(self) -> list[str]:
        """The deltas on the device's disk."""
        home = self.home / "data" / "deltas"
        return [each.name for each in home.iterdir()] if home.exists() else []

    @property
    def questions(self) -> int:
        return len([path for path, _ in self.server.asked if path == "/gantry/v1/delta"])

    def _current(self) -> CurrentState:
        running = Container(
            id="one",
            name="main",
            app_id=7,
            service="main",
            commit="aaa1",
            config_hash="",
            state=ContainerState.RUNNING,
            image=self.old,
        )
        return CurrentState((running,), (EngineImage(id="old", references=(self.old,)),))

    def _deltas(self, hopeless: Hopeless, pace: Pace) -> Deltas:
        fleet = {"apiEndpoint": self.server.url, "deltaEndpoint": self.server.url}
        places = {"data": "DATA_DIRECTORY", "engine": "ENGINE_STORAGE"}
        return Deltas(
            read_settings({name: str(self.home / place) for place, name in places.items()}),
            DeviceConfig({"uuid": "u", "deviceApiKey": "key", **fleet}),
            Engine("/nowhere"),
            EngineInfo("Linux", "x86_64", "", storage_driver="overlay2"),
            lambda _: Credentials("d_u", "key", self.name),
            ssl.create_default_context,
            Journal(lambda text, _service: self.said.append(text)),
            self._current,
            lambda: self.variables,
            hopeless,
            pace,
            lambda: self.successor,
        )

    def live(self, work: Callable[[Deltas], Awaitable[None]]) -> None:
        """What is done by a supervisor between its start and its end."""

        async def run() -> None:
            (self.home / "data").mkdir(exist_ok=True)
            store = Store(self.home / "data" / "database.sqlite")
            await store.open()
            if self.rate is not None:
                await store.put("download_pace", self.rate)
            hopeless, pace = Hopeless(store), Pace(store)
            await hopeless.load()
            await pace.load()
            try:
                await work(self._deltas(hopeless, pace))
                self.is_hopeless = (self.new, self.old) in hopeless
            finally:
                await store.close()

        asyncio.run(run())

    def bring(self) -> bool:
        """Whether the image came by delta, which it never does: as far as that goes."""
        came = []

        async def work(deltas: Deltas) -> None:
            step = FetchImage(self.new, 7, "main", 1)
            came.append(await deltas.bring(step, asyncio.Semaphore(1), lambda *_: None))

        self.live(work)
        return came[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize("count", [3, 1, 5])
def test_so_many_failed_tries_and_the_image_is_pulled(bench: Bench, count: int) -> None:
    assert DeltaSettings().retry_count == 3
    bench.variables = replace(bench.variables, retry_count=count)
    bench.server.status = 503
    assert not bench.bring()
    assert bench.questions == count
    tries = f"{count} failed tries, the last one: " if count > 1 else ""
    url = f"{bench.server.url}/gantry/v1/delta"
    assert bench.said[-1] == (
        f"No delta for image '{bench.new}': {tries}{url}: HTTP 503 as the test asks; "
        "downloading it whole"
    )
    assert len(bench.said) == count
    # The server's trouble may be over the next time.
    assert not bench.is_hopeless
    bench.server.status = 200
    bench.bring()
    assert bench.server.sent == len(CONTENT)


def test_what_brings_nothing_is_a_failed_try(bench: Bench) -> None:
    bench.server.cut = WORTH - 1
    bench.bring()
    assert len(bench.server.files()) == 3
    assert bench.server.sent == 3 * (WORTH - 1)
    assert "3 failed tries, the last one: " in bench.said[-1]


def test_a_cut_that_brought_something_is_none(bench: Bench) -> None:
    bench.server.cut = WORTH
    bench.bring()
    whole = -(-len(CONTENT) // WORTH)
    assert whole > 10
    assert len(bench.server.files()) == whole
    assert bench.server.sent == len(CONTENT)
    assert "it was not applied within 1 s" in bench.said[-1]


def test_after_such_a_cut_it_goes_on_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_GO_ON", 0.01)
    bench.variables = replace(bench.variables, retry_interval=3600.0)
    bench.server.cut = 4 * WORTH
    bench.bring()
    assert bench.server.sent == len(CONTENT)


class Remade(dict[tuple[frozenset[str], str], tuple[bytes, int]]):
    """Another delta at each question."""

    def __init__(self, bench: Bench, size: int, whole: int) -> None:
        self._bench = bench
        self._size = size
        self._whole = whole

    def __contains__(self, _pair: object) -> bool:
        return True

    def __getitem__(self, _pair: tuple[frozenset[str], str]) -> tuple[bytes, int]:
        return bytes([self._bench.questions]) * self._size, self._whole


def test_no_more_is_downloaded_than_a_pull_would(bench: Bench) -> None:
    whole = 10 * WORTH
    bench.server.pairs = Remade(bench, 8 * WORTH, whole)
    bench.server.cut = 2 * WORTH
    bench.bring()
    assert bench.server.sent == whole
    assert (
        f": {whole} bytes came for it, and at most {whole} are worth their while; "
        in bench.said[-1]
    )
    assert not bench.is_hopeless


def test_a_trickle_is_a_failed_try(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STRETCH", 0.1)
    bench.variables = replace(bench.variables, request_timeout=1.0)
    bench.server.piece, bench.server.rate = 1, 20
    bench.bring()
    assert len(bench.server.files()) == 3
    assert re.search(
        r"3 failed tries, the last one: it brought only \d+ bytes in 1 s; ", bench.said[-1]
    )


def test_a_thin_line_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it was before, and however soon a pull would have been over then."""
    monkeypatch.setattr(server, "_STRETCH", 0.1)
    bench.variables = replace(bench.variables, request_timeout=1.0)
    content = CONTENT[:1000]
    bench.server.pairs[frozenset([bench.old]), bench.new] = (content, 2000)
    bench.server.piece, bench.server.rate = 10, 400
    bench.rate = 10_000_000.0
    bench.bring()
    assert len(bench.server.files()) == 1
    assert bench.server.sent == len(content)


def test_a_file_that_the_server_lost_is_asked_for_again(bench: Bench) -> None:
    bench.server.lost = 2
    bench.bring()
    assert (bench.questions, len(bench.server.files())) == (3, 3)
    assert bench.server.sent == len(CONTENT)
    # It may be lost for good.
    bench.server.pairs[frozenset([bench.old]), bench.new] = (CONTENT[1:], 2 * len(CONTENT))
    bench.server.lost = 100
    bench.is_hopeless = True
    bench.bring()
    assert (bench.questions, bench.server.lost) == (6, 97)
    assert not bench.is_hopeless


def test_where_there_is_no_room_nothing_of_it_takes_any(bench: Bench) -> None:
    bench.server.cut = WORTH - 1
    bench.variables = replace(bench.variables, retry_count=1)
    bench.bring()
    assert len(bench.files) == 1, "it would be gone on with"
    bench.server.announced = {"whole": 2**50}
    assert not bench.bring()
    assert "not enough room on the disk" in bench.said[-1]
    assert bench.files == []
    assert not bench.is_hopeless


def test_what_the_server_asks_for_is_waited_for_within_what_a_delta_is(bench: Bench) -> None:
    bench.variables = replace(bench.variables, retry_count=100, wait_timeout=1.5)
    bench.server.status, bench.server.retry_after = 429, "1"
    assert not bench.bring()
    # A second, and then it would be two.
    assert bench.questions == 2
    assert "HTTP 429 as the test asks; it is waited for 2 s at most" in bench.said[-1]
    assert not bench.is_hopeless


def test_what_is_not_applied_in_time_is_given_up(bench: Bench) -> None:
    assert not bench.bring()
    assert bench.said[-1].endswith(": it was not applied within 1 s; downloading it whole")
    assert bench.is_hopeless
    assert bench.files == []


async def _bring_successor(bench: Bench, deltas: Deltas, image: str) -> None:
    step = FetchImage(image, 0, "supervisor", 0)
    await deltas.bring_successor(step, asyncio.Semaphore(1), lambda *_: None, (bench.old,))


async def _half(bench: Bench, deltas: Deltas, successor: str | None) -> None:
    """Give the successor's download up in the middle, where this one is wanted then."""
    bench.server.rate = 100_000
    bringing = asyncio.create_task(_bring_successor(bench, deltas, bench.new))
    async with asyncio.timeout(60):
        while not bench.files or bench.server.sent < WORTH:
            await asyncio.wait({bringing}, timeout=0.01)
    bench.successor = successor
    bringing.cancel()
    await asyncio.wait({bringing})


def test_the_successors_half_file_outlives_a_loss_of_power(bench: Bench) -> None:
    bench.successor = bench.new
    bench.live(lambda deltas: _half(bench, deltas, bench.new))
    [half] = bench.files
    # Applications are looked at first.
    bench.live(lambda deltas: deltas.tidy([bench.old]))
    assert bench.files == [half]
    bench.server.rate = None
    bench.live(lambda deltas: _bring_successor(bench, deltas, bench.new))
    first, second = bench.server.files()
    assert (first, second != "bytes=0-") == (None, True)
    assert bench.server.sent < len(CONTENT) + 4 * WORTH


@pytest.mark.parametrize("is_here", [False, True])
def test_where_it_is_not_wanted_or_here_it_does_not(bench: Bench, is_here: bool) -> None:
    bench.successor = bench.new
    bench.live(lambda deltas: _half(bench, deltas, bench.new))
    if is_here:
        half = bench.home / "data" / "deltas" / bench.files[0]
        half.rename(half.with_name(f"{folder.key(bench.old)}-{half.name.partition('-')[2]}"))
    bench.successor = bench.old if is_here else None
    bench.live(lambda deltas: deltas.tidy([]))
    assert bench.files == []


def test_a_successor_that_is_withdrawn_leaves_nothing(bench: Bench) -> None:
    bench.successor = bench.new
    bench.live(lambda deltas: _half(bench, deltas, bench.reference("newer")))
    assert bench.files == []

    async def after(deltas: Deltas) -> None:
        await _bring_successor(bench, deltas, bench.new)
        await deltas.tidy([])
        assert len(bench.files) == 1, "it may be tried again"
        bench.successor = None
        await deltas.tidy([])
        assert bench.files == []

    bench.server.rate, bench.server.cut, bench.successor = None, WORTH - 1, bench.new
    bench.live(after)
