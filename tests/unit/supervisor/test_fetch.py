"""Downloads: how far they are. The engine's messages are those of Docker 26."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from gantry.supervisor.deltas.door import Deltas
from gantry.supervisor.engine import Credentials, Engine, EngineError
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.journal import Journal
from gantry.supervisor.progress import DownloadWay, Moved, Received
from gantry.supervisor.steps import FetchImage

STEP = FetchImage("r/v2/new@sha256:1", 7, "main", 1)


def message(status: str, layer: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total else {}
    return {"status": status, "id": layer, "progressDetail": detail}


class Telling(Engine):
    """Tells these messages of a pull; then it fails."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        super().__init__("/nowhere")
        self.messages = messages

    async def pull(
        self, _reference: str, _credentials: Credentials | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        for each in self.messages:
            yield each
        raise EngineError("the line was cut")


class Refusing(Deltas):
    """Brings half of a delta, and gives it up."""

    def __init__(self) -> None:
        self.begun: list[Received] = []

    async def tidy(self, _wanted: object) -> None:
        return

    async def bring(
        self,
        step: FetchImage,
        turns: asyncio.Semaphore,
        moved: Moved,
        sources: tuple[str, ...] | None = None,
    ) -> bool:
        for percent, done in ((30, 500), (0, 0), (12, 200)):
            moved(percent, Received(DownloadWay.DELTA, done, 1000))
        return False


Told = list[tuple[int | None, Received | None]]


def fetched(
    engine: Engine, size: int | None, deltas: Deltas | None = None
) -> tuple[Told, Callable[[], dict[str, Received]]]:
    """What is told of one download until it fails, and what then is."""
    told: Told = []

    async def weigh(_reference: str) -> int | None:
        return size

    def changed(is_end: bool) -> None:
        told.append((fetcher.progress()[STEP.reference], fetcher.received().get(STEP.reference)))
        if is_end:
            ended.set()

    journal = Journal(lambda _text, _service: None)
    fetcher = Fetcher(engine, lambda _: None, journal, changed, weigh, deltas)
    ended = asyncio.Event()

    async def run() -> None:
        await fetcher.want([STEP])
        await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(run())
    return told, fetcher.received


def test_a_pull_is_told_in_bytes_of_all_that_it_fetches() -> None:
    engine = Telling(
        *(message("Pulling fs layer", each) for each in ("base", "a", "b")),
        message("Already exists", "base"),
        message("Downloading", "a", 100, 400),
        message("Downloading", "b", 150, 300),
        message("Download complete", "a"),
        message("Download complete", "b"),
        message("Pull complete", "a"),
    )
    told, received = fetched(engine, 1000)
    done = [(each.done, each.total) for _, each in told if each is not None]
    assert done == [(each, 1000) for each in (0, 0, 100, 250, 550, 700, 700)]
    assert {each.way for _, each in told if each is not None} == {DownloadWay.PULL}
    assert told[-1] == (None, None)
    assert received() == {}


def test_a_pull_may_fetch_more_than_was_known_or_an_unknown_amount() -> None:
    engine = Telling(message("Downloading", "a", 500, 600))
    told, _ = fetched(engine, 10)
    assert told[-2] == (58, Received(DownloadWay.PULL, 500, 600))
    told, _ = fetched(engine, None)
    assert told[-2] == (58, Received(DownloadWay.PULL, 500, None))


def test_bytes_alone_are_told_once_a_second() -> None:
    many = [message("Downloading", "a", each, 10**9) for each in range(1, 5000)]
    begun = time.monotonic()
    told, _ = fetched(Telling(*many), 10**9)
    assert len(told) <= 3 + (time.monotonic() - begun)


def test_where_a_delta_is_given_up_the_pull_is_told_of() -> None:
    told, _ = fetched(Telling(message("Downloading", "a", 10, 1000)), 2000, Refusing())
    assert told[0] == (30, Received(DownloadWay.DELTA, 500, 1000))
    # The percentage of a delta does not go back; bytes are what they are.
    assert (30, Received(DownloadWay.DELTA, 0, 1000)) not in told
    assert told[1:] == [(0, Received(DownloadWay.PULL, 0, 2000)), (None, None)]
