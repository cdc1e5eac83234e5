"""Keys of the HTTP API, in a real store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gantry.supervisor.keys import EVERYTHING, KeyRing, Scope, recall_keys
from gantry.supervisor.store import Store


def with_store(path: Path, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(path / "database.sqlite")
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


async def everything(store: Store) -> str:
    document = await store.get("supervisor_keys")
    return str(document["everything"])


def test_each_application_has_a_key_that_opens_it_alone(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        ring = await recall_keys(store)
        assert ring.provide([7, 8])
        assert not ring.provide([8, 7])
        seven, eight = ring.applications[7], ring.applications[8]
        assert seven != eight
        assert ring.scope_of(seven) == Scope(7)
        assert ring.scope_of(eight) == Scope(8)
        assert ring.scope_of(await everything(store)) == EVERYTHING
        for nobody in ("", "x", seven + "x", seven[:-1], "ä"):
            assert ring.scope_of(nobody) is None
        assert Scope(7).covers(7)
        assert not Scope(7).covers(8)
        assert EVERYTHING.covers(8)

    with_store(tmp_path, scenario)


def test_keys_outlive_a_restart_and_go_with_their_application(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        ring = await recall_keys(store)
        ring.provide([7, 8])
        await ring.save()
        again = await recall_keys(store)
        assert again.applications == ring.applications
        assert again.scope_of(await everything(store)) == EVERYTHING
        gone = ring.applications[8]
        assert again.provide([7])
        assert again.scope_of(gone) is None
        assert again.provide([7, 8])
        assert again.applications[8] != gone

    with_store(tmp_path, scenario)


def test_a_new_key_ends_the_old_one_at_once_and_for_good(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        ring = await recall_keys(store)
        ring.provide([7, 8])
        old, other, all_of_it = ring.applications[7], ring.applications[8], await everything(store)
        new = await ring.regenerate(Scope(7))
        assert ring.scope_of(old) is None
        assert ring.scope_of(new) == Scope(7)
        assert ring.scope_of(other) == Scope(8)
        assert ring.scope_of(all_of_it) == EVERYTHING
        newest = await ring.regenerate(EVERYTHING)
        again = await recall_keys(store)
        assert again.scope_of(all_of_it) is None
        assert again.scope_of(newest) == EVERYTHING
        assert again.applications == {7: new, 8: other}

    with_store(tmp_path, scenario)


def test_the_key_that_all_had_stays_with_the_first_application(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.put("supervisor_key", "older")
        await recall_keys(store)  # and power is lost before there is a target
        ring = await recall_keys(store)
        assert ring.scope_of("older") is None
        ring.provide([7, 8])
        await ring.save()
        assert ring.applications[7] == "older"
        assert ring.applications[8] != "older"
        assert await store.get("supervisor_key") is None
        again = await recall_keys(store)
        again.provide([7, 8, 9])
        assert list(again.applications.values()).count("older") == 1

    with_store(tmp_path, scenario)


def test_a_record_that_is_none_gives_new_keys(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        wrongs: list[dict[str, object]] = [
            {},
            {"everything": None, "applications": []},
            {"applications": {"x": "y"}},
        ]
        for wrong in wrongs:
            await store.put("supervisor_keys", wrong)
            ring: KeyRing = await recall_keys(store)
            assert ring.scope_of("") is None
            assert ring.applications == {}

    with_store(tmp_path, scenario)
