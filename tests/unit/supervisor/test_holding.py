"""The reconciler with its locks, against an engine that takes its time."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.engine import Engine
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import LockedError
from gantry.supervisor.settings import read_settings
from gantry.supervisor.store import Store
from tests.unit.supervisor.engine_model import desire


class SlowEngine(Engine):
    """Has the image, and does not come to an end of a start."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.starts = asyncio.Event()
        self.made: list[dict[str, Any]] = []

    async def containers(self) -> list[dict[str, Any]]:
        return []

    async def images(self) -> list[dict[str, Any]]:
        return [{"Id": "sha256:1", "RepoDigests": ["r/v2/a@sha256:1"], "RepoTags": []}]

    async def networks(self, label: str) -> list[dict[str, Any]]:
        return self.made

    async def volumes(self) -> list[str]:
        return []

    async def create_network(self, body: Mapping[str, Any]) -> None:
        self.made.append({"Id": "1", **body})

    async def create_volume(self, body: Mapping[str, Any]) -> None:
        return

    async def create_container(self, name: str, body: Mapping[str, Any]) -> str:
        return "1"

    async def start_container(self, container: str) -> None:
        self.starts.set()
        await asyncio.Event().wait()


async def nothing(_: str) -> None:
    return


def test_a_lock_that_is_taken_at_once_counts_before_the_start_was_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        places = {"RUNTIME_DIRECTORY": str(tmp_path), "DATA_DIRECTORY": str(tmp_path)}
        settings = read_settings(places)
        engine = SlowEngine()
        store = Store(settings.database_path)
        await store.open()
        journal = Journal(lambda _text, _service: None)
        fetcher = Fetcher(engine, lambda _: None, journal, lambda _: None, nothing)
        hearers = Hearers(nothing, lambda: None, lambda _: None, lambda: ())
        held = Holding(settings, engine, store, journal, fetcher, hearers)
        await held.open()
        held.reconciler.aim(desire({"a": {}}))
        running = asyncio.create_task(held.reconciler.run())
        await asyncio.wait_for(engine.starts.wait(), 30)
        (tmp_path / "services/1/a/updates.lock").write_text("")
        with pytest.raises(LockedError, match="application 1 is locked"):
            async with held.locks.hold([1]):
                pass
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    asyncio.run(scenario())
