"""Room on the disk, and locks around a plan."""

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor import registry, room, roomcheck
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.exclusion import Exclusion, disturbed_apps, without_disturbance
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import Locks
from gantry.supervisor.plan import plan
from gantry.supervisor.room import Layer, NoRoomError, missing, needed
from gantry.supervisor.store import Store
from tests.unit.supervisor.engine_model import Model, desire, kinds

LAYERS = (Layer("base", 100), Layer("middle", 30), Layer("top", 10))


@pytest.mark.parametrize(
    ("here", "fetched", "size"),
    [
        ([], 140, 240),
        ([("base",)], 40, 70),
        ([("base", "other"), ("base", "middle")], 10, 20),
        ([("middle", "top")], 140, 240),  # a layer is the same upon the same lower ones only
        ([("base", "middle", "top", "more")], 0, 0),
    ],
)
def test_what_an_image_needs_at_least(here: list[tuple[str, ...]], fetched: int, size: int) -> None:
    sizes = missing(LAYERS, here)
    assert (sum(sizes), needed(sizes)) == (fetched, size)


def test_what_cannot_fit_is_refused_with_figures(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    asyncio.run(room.check(tmp_path, 1))
    with pytest.raises(NoRoomError, match=r"at least \d+ MB are needed, \d+ MB are free"):
        asyncio.run(room.check(tmp_path, free))
    assert room.is_full("failed to register layer: write /x: No space left on device")


class Shared(Engine):
    """An engine that others use too: an image that it lists is gone when it is asked for."""

    def __init__(self) -> None:
        super().__init__("/nowhere")

    async def images(self) -> list[dict[str, Any]]:
        return [{"Id": "gone"}, {"Id": "here"}]

    async def layers(self, image: str) -> tuple[str, ...]:
        if image == "gone":
            raise EngineError("no such image: gone", 404)
        return ("base",)


def test_an_image_that_goes_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path).free
    offered = (Layer("base", free), Layer("top", 1))

    async def layers(*_: Any) -> tuple[Layer, ...]:
        return offered

    monkeypatch.setattr(registry, "image_layers", layers)
    check = roomcheck.RoomCheck(
        Shared(), lambda _: None, ssl.create_default_context, tmp_path, "amd64"
    )
    assert asyncio.run(check("r/v2/a@sha256:1")) == 1
    offered = (Layer("other", free),)
    with pytest.raises(NoRoomError):
        asyncio.run(check("r/v2/a@sha256:2"))

    async def silent(*_: Any) -> tuple[Layer, ...]:
        raise registry.RegistryError("no answer")

    monkeypatch.setattr(registry, "image_layers", silent)
    assert asyncio.run(check("r/v2/a@sha256:2")) is None


def test_a_locked_application_is_kept_running_and_nothing_else_is_done_to_it(
    tmp_path: Path,
) -> None:
    model = Model()
    model.settle(desire({"a": {}, "b": {}}))
    for each in model.current.containers:
        if each.service == "b":
            model.change(each.name, state=each.state.EXITED)
    new = desire({"a": {"environment": {"X": "1"}}, "b": {}, "c": {"image": "r/v2/a@sha256:1"}})
    steps = plan(model.current, new, frozenset())
    assert disturbed_apps(steps, model.current) == {1}
    assert [each.lane for each in without_disturbance(steps, frozenset({1}))] == ["service 1 b"]
    said: list[str] = []

    async def scenario() -> None:
        store = Store(tmp_path / "database.sqlite")
        await store.open()
        locks = Locks(tmp_path, store)
        exclusion = Exclusion(locks, Journal(lambda text, _service: said.append(text)))
        none: frozenset[int] = frozenset()
        lease = await locks.lease(1, 60.0, "lab")
        for _ in range(2):
            assert len(await exclusion.permitted(steps, model.current, none)) == 1
        assert [each.holder for each in exclusion.holders[1]] == ["lab"]
        # An intervention may be forced.
        assert await exclusion.permitted(steps, model.current, frozenset({1})) == steps
        await exclusion.release()
        assert not await locks.release(lease.lease)
        await locks.lease(1, 60.0, "lab")
        # A forced update counts no lock until it is through, also while it still downloads.
        exclusion.force()
        fetches = plan(model.current, desire({"d": {}}), frozenset())
        assert kinds(fetches)[0] == "FetchImage"
        await exclusion.permitted(fetches, model.current, none)
        assert await exclusion.permitted(steps, model.current, none) == steps
        await exclusion.permitted((), model.current, none)
        await locks.lease(1, 60.0, "lab")
        assert len(await exclusion.permitted(steps, model.current, none)) == 1
        await store.close()

    asyncio.run(scenario())
    assert len([each for each in said if "is locked by lab since" in each]) == 2
