"""Local mode: reading targets, when it is on, and what it leaves."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor import wire
from gantry.supervisor.desired import DesiredState
from gantry.supervisor.engine import Engine
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.journal import Journal
from gantry.supervisor.local import LocalMode, LocalModeError
from gantry.supervisor.local_logs import BEHIND, LogRouter
from gantry.supervisor.local_target import local_document, read_local
from gantry.supervisor.logbuffer import LogLine, system_line
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.plan import plan
from gantry.supervisor.settings import read_settings
from gantry.supervisor.state import CurrentState, EngineImage, Owned
from gantry.supervisor.steps import RemoveImage, RemoveVolume
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetApp, TargetState

ON = {"RESIN_SUPERVISOR_LOCAL_MODE": "1"}
SERVICE = {
    "serviceName": "main",
    "imageId": "3",
    "image": "gantry-local/main:1",
    "environment": {"A": "b"},
    "labels": {},
    "running": True,
    "restart": "no",
}
APP: dict[str, Any] = {
    "name": "localapp",
    "commit": "c0ffee",
    "releaseId": "7",
    "services": {"3": SERVICE},
    "volumes": {"data": {}},
    "networks": {},
}
BODY = {"local": {"name": "crane", "config": {}, "apps": {"1": APP}}}


def test_the_familys_form_and_the_newer_one_are_the_same() -> None:
    newer = {
        "id": 1,
        "name": "localapp",
        "releases": {
            "c0ffee": {
                "id": 7,
                "services": {
                    "main": {
                        "id": 3,
                        "image_id": 3,
                        "image": "gantry-local/main:1",
                        "environment": {"A": "b"},
                        "composition": {"restart": "no"},
                    }
                },
                "volumes": {"data": {}},
            }
        },
    }
    target = read_local(BODY, ())
    assert read_local({"local": {"name": "crane", "apps": {"1": newer}}}, ()) == target
    assert read_local(local_document(target), ()) == target


def test_an_id_of_the_fleet_is_not_the_local_ones() -> None:
    """Volumes bear the id in their names: those of the fleet are not to be touched."""
    (app,) = read_local(BODY, {1}).apps
    assert app.id not in (1,)
    assert app.uuid == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"local": None}, None),
        ({}, '"local"'),
        ({"local": {"apps": []}}, "local: apps"),
        ({"local": {"apps": {"x": APP}}}, "app x: id"),
        ({"local": {"apps": {"1": APP | {"services": {"3": {}}}}}}, "serviceName"),
        (
            {"local": {"apps": {"1": APP | {"services": {"3": SERVICE | {"image": ""}}}}}},
            "service main: image",
        ),
    ],
)
def test_wrong_bodies_are_told(change: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert read_local(change, ()).apps == ()
        return
    with pytest.raises(wire.WireError, match=message):
        read_local(change, ())


FLEET = TargetState("crane", {}, (TargetApp("u", 9, "bots", "admin/bots", None),))
Work = Callable[[LocalMode, list[str]], Awaitable[None]]


def with_mode(path: Path, work: Work, variant: str = "development") -> None:
    async def run() -> None:
        store = Store(path / "database")
        await store.open()
        said: list[str] = []
        journal = Journal(lambda text, _service: said.append(text))
        mode = LocalMode(store, journal, LogRouter(lambda _line: None), variant)
        await mode.open()
        await work(mode, said)
        await store.close()

    asyncio.run(run())


def test_it_is_for_development_alone_and_says_so_once(tmp_path: Path) -> None:
    async def work(mode: LocalMode, said: list[str]) -> None:
        for config in (ON, ON, {}, {"BALENA_SUPERVISOR_LOCAL_MODE": "true"}):
            mode.follow(config)
            assert not mode.active
            assert mode.goal(FLEET) is FLEET
        assert [each for each in said if "production" in each] == said
        assert len(said) == 2
        with pytest.raises(LocalModeError, match="when device is in local mode"):
            mode.read(BODY, FLEET)

    with_mode(tmp_path, work, "production")


def test_a_production_host_goes_on_with_its_fleet(tmp_path: Path) -> None:
    """A variable of the whole fleet may be meant for its development devices."""

    async def work(mode: LocalMode, _said: list[str]) -> None:
        mode.follow({"BALENA_SUPERVISOR_LOCAL_MODE": "1"})
        assert not mode.active
        assert mode.goal(FLEET) is FLEET
        # What the fleet wants no more goes, as ever.
        assert mode.owned(frozenset(("r/v2/a",))) == Owned(frozenset(("r/v2/a",)))

    with_mode(tmp_path, work, "production")


def test_it_is_remembered_until_it_ends(tmp_path: Path) -> None:
    current = CurrentState(
        images=(EngineImage("sha256:1", ("gantry-local/main:1",)),),
        volumes=frozenset(("1_data", "9_data")),
    )

    async def begin(mode: LocalMode, _said: list[str]) -> None:
        mode.follow(ON)
        assert mode.goal(FLEET).apps == ()
        await mode.take(mode.read(BODY, FLEET), frozenset(("1_data",)))
        # What the local target wants no more may go; what the fleet wants stays.
        assert mode.owned(frozenset(("r/v2/a",))) == Owned(frozenset(("gantry-local/main:1",)))

    async def end(mode: LocalMode, _said: list[str]) -> None:
        mode.follow(ON)
        assert [each.name for each in mode.goal(FLEET).apps] == ["localapp"]
        mode.follow({})
        await mode.forget()
        owned = mode.owned(frozenset())
        assert owned == Owned(frozenset(("gantry-local/main:1",)), frozenset(("1_data",)))
        steps = plan(current, DesiredState(), owned.images, owned_volumes=owned.volumes)
        assert set(steps) == {RemoveImage("gantry-local/main:1"), RemoveVolume("1_data")}
        await mode.observed(current)
        assert mode.owned(frozenset()) == owned
        await mode.observed(CurrentState())

    async def after(mode: LocalMode, _said: list[str]) -> None:
        mode.follow(ON)
        assert mode.goal(FLEET).apps == ()
        mode.follow({})
        assert mode.owned(frozenset()) == Owned()

    for work in (begin, end, after):
        with_mode(tmp_path, work)


FLEETS = "r/v2/abc@sha256:" + "a" * 64


class OfImages(Engine):
    """An engine with two images that nothing uses: one of a fleet's, one of a developer's. What is
    at stake is in the supervisor; tests/integration has the real engine."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.here = [FLEETS, "gantry-local/main:1"]

    async def containers(self) -> list[dict[str, Any]]:
        return []

    async def images(self) -> list[dict[str, Any]]:
        return [{"Id": f"sha256:{name}", "RepoTags": [name]} for name in self.here]

    async def networks(self, _label: str) -> list[dict[str, Any]]:
        return []

    async def volumes(self) -> list[str]:
        return []

    async def remove_image(self, reference: str) -> None:
        self.here.remove(reference)


@pytest.mark.parametrize(
    ("variables", "is_loading", "kept", "left"),
    [
        (ON, False, frozenset(), [FLEETS]),
        ({}, False, frozenset(), []),
        # A bundle counts on what is here, whoever else had it.
        (ON, True, frozenset(), [FLEETS, "gantry-local/main:1"]),
        ({}, True, frozenset(), [FLEETS, "gantry-local/main:1"]),
        # It is the way back from a release on trial.
        (ON, False, frozenset((FLEETS,)), [FLEETS]),
        ({}, False, frozenset((FLEETS,)), [FLEETS]),
    ],
)
def test_a_local_target_may_name_an_image_of_the_fleet(
    tmp_path: Path,
    variables: dict[str, str],
    is_loading: bool,
    kept: frozenset[str],
    left: list[str],
) -> None:
    """It is not the local target's to be cleaned away, where the fleet has a use for it."""

    async def scenario() -> None:
        settings = read_settings({"DATA_DIRECTORY": str(tmp_path)})
        store = Store(settings.database_path)
        await store.open()
        journal = Journal(lambda _text, _service: None)
        offline = OfflineReleases(store, journal)
        offline.is_loading = is_loading
        mode = LocalMode(store, journal, LogRouter(lambda _line: None), "development")
        mode.follow(ON)
        services = {"3": SERVICE, "4": SERVICE | {"serviceName": "base", "image": FLEETS}}
        body = {"local": {"apps": {"1": APP | {"services": services}}}}
        await mode.take(mode.read(body, FLEET), frozenset())
        mode.follow(variables)
        engine = OfImages()
        hearers = Hearers(
            drain=lambda _container: asyncio.sleep(0),
            changed=lambda: None,
            observed=lambda _current: None,
            registries=lambda: offline.removable(["r"]),
        )
        fetcher = Fetcher(
            engine,
            lambda _reference: None,
            journal,
            lambda _ended: None,
            lambda _reference: asyncio.sleep(0),
        )
        holding = Holding(settings, engine, store, journal, fetcher, hearers)
        await holding.open()
        holding.reconciler.owned = mode.owned
        holding.reconciler.kept_images = lambda: kept
        holding.reconciler.aim(DesiredState())
        await holding.reconciler._round()
        assert engine.here == left
        await engine.close()
        await store.close()

    asyncio.run(scenario())


def test_lines_go_to_the_fleet_or_to_listeners_alone() -> None:
    async def run() -> None:
        shipped: list[LogLine] = []
        router = LogRouter(shipped.append)
        lines = router.listen()
        assert json.loads(await anext(lines))["message"] == "Streaming logs"
        router.add(system_line("shipped"))
        router.local = True
        router.add(system_line("heard"))
        router.add(system_line("heard too"))
        heard = (await anext(lines)).decode().splitlines()
        assert [json.loads(each)["message"] for each in heard] == ["heard", "heard too"]
        assert [json.loads(each.encoded)["message"] for each in shipped] == ["shipped"]

        for number in range(BEHIND + 3):
            router.add(system_line(str(number)))
        late = [json.loads(each)["message"] for each in (await anext(lines)).splitlines()]
        assert late[0].startswith("3 log lines were dropped")
        assert late[1] == "3"
        assert late[-1] == str(BEHIND + 2)
        await lines.aclose()
        router.add(system_line("nobody listens"))

    asyncio.run(run())
