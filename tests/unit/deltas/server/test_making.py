"""The work folder of a delta that is being made, and what is made there. A process of a few lines
is in the place of the real one, which tests/integration/deltas has."""

import asyncio
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from gantry.deltas.create import create
from gantry.deltas.server import generator
from gantry.deltas.server.config import Limits
from gantry.deltas.server.errors import TemporaryError, WholeError
from gantry.deltas.server.generator import DiedError
from gantry.deltas.server.images import Plan
from gantry.deltas.server.layers import Layers
from gantry.deltas.server.making import Maker
from gantry.deltas.server.pairs import Pair
from gantry.deltas.server.registry import Registry
from tests.unit.deltas.server.parts import CONFIG, pair

IMAGE = "sha256:" + 64 * "c"


class Planned(Maker):
    """Needs no registry: there are no layers to be fetched."""

    async def plan(self, pair: Pair) -> Plan:
        return Plan((), (), IMAGE, 1000)


def maker(folder: Path) -> Planned:
    registry = Registry(httpx2.AsyncClient(), CONFIG)
    work = folder / "work"
    work.mkdir()
    return Planned(registry, Layers(folder / "layers", 1000, registry), work, Limits())


def speaks(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """What the process does; `out` is where its delta should be."""
    begin = "import json, os, signal\nout = json.loads(input())['out']\n"
    command = (sys.executable, "-c", begin + textwrap.dedent(program))
    monkeypatch.setattr(generator, "COMMAND", command)


@contextmanager
def left_empty(folder: Path) -> Iterator[None]:
    yield
    assert list((folder / "work").iterdir()) == []


def test_a_delta_is_there_until_it_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        told: list[int] = []
        async with maker(tmp_path).made(pair("x"), told.append) as made:
            create([], [], IMAGE, expected := tmp_path / "expected")
            assert made.size == made.path.stat().st_size < expected.stat().st_size
            assert made.whole == 1000
            assert made.path.is_relative_to(tmp_path / "work" / pair("x").name)

    with left_empty(tmp_path):
        asyncio.run(scenario())


async def make(folder: Path) -> None:
    async with maker(folder).made(pair("x"), lambda _: None):
        raise AssertionError("it was made")


@pytest.mark.parametrize("content", [b"", b"no delta", b"\x89G\x02" + bytes(300)])
def test_what_no_reader_opens_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    speaks(monkeypatch, f"open(out, 'wb').write({content!r}); print(json.dumps({{'size': 1}}))")
    with (
        left_empty(tmp_path),
        pytest.raises(WholeError, match=r"made cannot be opened: (the delta|this)"),
    ):
        asyncio.run(make(tmp_path))


def test_a_process_that_is_killed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
        os.mkdir(out + "x.part")
        open(out + "x.part/delta", "wb").write(bytes(1000))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    speaks(monkeypatch, program)
    with left_empty(tmp_path), pytest.raises(DiedError, match="-9"):
        asyncio.run(make(tmp_path))


def test_a_delta_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaks(monkeypatch, "print(json.dumps({'size': 1}))")
    with left_empty(tmp_path), pytest.raises(TemporaryError, match="no delta can be made in"):
        asyncio.run(make(tmp_path))


def test_one_that_gives_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaks(
        monkeypatch,
        """
        open(out, "wb").write(bytes(1000))
        print(json.dumps({"percent": 5}), flush=True)
        signal.pause()
        """,
    )

    async def scenario() -> None:
        begun = asyncio.Event()
        making = maker(tmp_path).made(pair("x"), lambda percent: begun.set() if percent else None)
        task = asyncio.create_task(making.__aenter__())
        await begun.wait()
        assert len(list((tmp_path / "work").rglob("*.gantry-delta"))) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with left_empty(tmp_path):
        asyncio.run(scenario())
