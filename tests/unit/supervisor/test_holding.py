"""The reconciler with its locks, against an engine that takes its time."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.engine import Engine
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.journal import Journal
from gantry.supervisor.labels import Label
from gantry.supervisor.locks import LockedError
from gantry.supervisor.settings import read_settings
from gantry.supervisor.state import Container, ContainerState, CurrentState
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


async def hold(tmp_path: Path, engine: Engine) -> tuple[Holding, Store]:
    """All of it on a store of its own."""
    places = {"RUNTIME_DIRECTORY": str(tmp_path), "DATA_DIRECTORY": str(tmp_path)}
    settings = read_settings(places)
    store = Store(settings.database_path)
    await store.open()
    journal = Journal(lambda _text, _service: None)
    fetcher = Fetcher(engine, lambda _: None, journal, lambda _: None, nothing)
    hearers = Hearers(nothing, lambda: None, lambda _: None, lambda: ())
    held = Holding(settings, engine, store, journal, fetcher, hearers)
    await held.open()
    return held, store


def test_a_lock_that_is_taken_at_once_counts_before_the_start_was_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = SlowEngine()
        held, store = await hold(tmp_path, engine)
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


def test_a_lock_outlives_its_container_only_where_another_of_its_service_runs(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        held, store = await hold(tmp_path, SlowEngine())
        lock = tmp_path / "services/1/a/updates.lock"
        lock.parent.mkdir(parents=True)
        lock.write_text("")
        labels = {Label.APP_ID: "1", Label.SERVICE_NAME: "a"}
        event = {
            "Action": "die",
            "Actor": {"ID": "old", "Attributes": labels},
            "timeNano": time.time_ns() + 10**9,
        }
        ended = held.reconciler.ended
        await ended(event)  # before the first look, who else runs is not known
        held.reconciler.looked = True
        old = Container("old", "a_1", 1, "a", "aaa1", "hash", ContainerState.RUNNING)
        new = replace(old, id="new", commit="bbb2")
        held.reconciler.current = CurrentState((old, new))
        await ended(event)
        held.reconciler.current = CurrentState((old,))
        held.executor.started.add((1, "a"))
        await ended(event)
        assert lock.exists()
        held.executor.started.clear()
        await ended({**event, "Actor": {"ID": "x", "Attributes": {}}})  # no service of ours
        assert lock.exists()
        await ended(event)
        assert not lock.exists()
        await store.close()

    asyncio.run(scenario())
