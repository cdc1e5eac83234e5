"""What a device of a fleet is to run: targets that come from two sides at once."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.aiming import Aiming
from gantry.supervisor.chores import Chores
from gantry.supervisor.cloud import Cloud, TargetAnswer
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.device import recall
from gantry.supervisor.engine import Engine, EngineInfo
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.journal import Journal
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.parts import Parts
from gantry.supervisor.settings import read_settings
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetState

UUID = "d" * 32


class Said(Aiming):
    """Says what it would aim at: no engine is asked."""

    def __init__(self, parts: Parts, held: Holding) -> None:
        super().__init__(parts, held, Chores(), lambda: None, lambda _variables: None)
        self.aims: list[str] = []

    def _aim(self, target: TargetState) -> None:
        self.aims.append(target.name)


def target(name: str) -> dict[str, Any]:
    return {UUID: {"name": name, "config": {}, "apps": {}}}


async def holding(parts: Parts) -> Holding:
    """What would hold the engine, if its loops were run."""

    async def nothing(_name: str) -> None:
        return

    fetcher = Fetcher(
        parts.engine, lambda _reference: None, parts.journal, lambda _ended: None, nothing
    )
    hearers = Hearers(nothing, lambda: None, lambda _current: None, lambda: ())
    held = Holding(parts.settings, parts.engine, parts.store, parts.journal, fetcher, hearers)
    await held.open()
    return held


async def opened(directory: Path) -> tuple[Said, Store, Callable[[], Coroutine[Any, Any, None]]]:
    """The aiming of a device that has the target `old`, its store, and how to close it."""
    settings = read_settings(
        {"DATA_DIRECTORY": str(directory), "RUNTIME_DIRECTORY": str(directory / "run")}
    )
    store = Store(settings.database_path)
    await store.open()
    await store.put("target", target("old"))
    config = DeviceConfig({"uuid": UUID, "apiEndpoint": "http://localhost:9", "deviceApiKey": "k"})
    shipper = LogShipper(lambda _positions: asyncio.sleep(0))
    journal = Journal(lambda _text, _service: None)
    parts = Parts(
        settings=settings,
        config=config,
        store=store,
        engine=Engine("/nowhere"),
        info=EngineInfo("an OS", "x86_64", "172.17.0.1"),
        memory=await recall(store),
        cloud=Cloud(config, ssl.create_default_context()),
        shipper=shipper,
        journal=journal,
        logs=LogRouter(shipper.add),
        offline=OfflineReleases(store, journal),
    )

    async def close() -> None:
        await parts.cloud.close()
        await parts.engine.close()
        await store.close()

    return Said(parts, await holding(parts)), store, close


@pytest.mark.parametrize("bundle_first", [True, False])
def test_a_new_target_holds_though_a_bundle_comes_at_that_moment(
    tmp_path: Path, bundle_first: bool
) -> None:
    async def scenario() -> None:
        aiming, store, close = await opened(tmp_path)
        try:
            bundle = aiming.follow_offline()
            answer = aiming.receive(TargetAnswer(target("new"), '"1"'))
            both = (bundle, answer) if bundle_first else (answer, bundle)
            await asyncio.gather(*both)
            assert aiming.aims == (["old", "new"] if bundle_first else ["new", "new"])
            assert await store.get("target") == target("new")
        finally:
            await close()

    asyncio.run(scenario())
