"""When the supervisor's image is made for an architecture."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry.builder.buildx import Buildx
from gantry.builder.catalogue import Catalogue
from gantry.builder.engine import Engine, EngineError
from gantry.builder.releases import ReleaseApi
from gantry.builder.supervisor_image import SupervisorImages
from gantry.contracts.device_types import Architecture


class Counting(SupervisorImages):
    """Makes nothing, for an engine is an integration test's: fails at first, then succeeds."""

    asked = 0

    async def ensure(self, arch: Architecture, say: Callable[[str], None]) -> str:
        self.asked += 1
        if self.asked == 1:
            raise EngineError("the registry is away")
        self._made.add(arch)
        return f"gantry/{arch}-supervisor"


def test_a_push_makes_it_once_and_again_after_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def push_five_times() -> int:
        engine = Engine(tmp_path / "none.sock", "registry.test", "builder", "key")
        buildx = Buildx(tmp_path / "none.sock")
        catalogue = Catalogue(engine, buildx, "registry.test", tmp_path, tmp_path)
        api = ReleaseApi("http://127.0.0.1:9", "key", "builder")
        images = Counting(engine, buildx, catalogue, api, "registry.test", tmp_path)
        for _ in range(5):
            await images.ensure_once(Architecture.RPI)
        await engine.close()
        await api.close()
        return images.asked

    assert asyncio.run(push_five_times()) == 2
    assert "the registry is away" in caplog.text
