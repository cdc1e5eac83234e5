"""What is remembered, what is read, what the host sets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.settings import SettingsError, read_settings
from gantry.supervisor.store import LogPosition, Store
from gantry.supervisor.target import read_target
from gantry.supervisor.wire import WireError


async def reopened(path: Path) -> tuple[Any, Any, dict[str, LogPosition]]:
    store = Store(path)
    await store.open()
    found = await store.get("target"), await store.get("begun_at_ns"), await store.log_positions()
    await store.close()
    return found


def test_facts_and_positions_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "database.sqlite"

    async def scenario() -> None:
        store = Store(path)
        await store.open()
        await store.put("target", {"a": [1, None]})
        await store.put("gone", 1)
        await store.put("gone", None)
        assert await store.get("gone") is None
        await store.save_log_positions({"a": LogPosition(2**62, 3)}, {"a", "b"})
        await store.save_log_positions({"b": LogPosition(1, 1)}, {"b", "a"})
        await store.save_log_positions({}, {"a"})
        await store.close()
        target, begun, positions = await reopened(path)
        assert target == {"a": [1, None]}
        assert begun > 10**18
        assert positions == {"a": LogPosition(2**62, 3)}

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["header", "middle", "while open"])
def test_a_broken_database_is_begun_afresh(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "database.sqlite"

    async def scenario() -> None:
        store = Store(path)
        await store.open()
        for number in range(300):
            await store.put(f"fact {number}", "x" * 300)
        if damage != "while open":
            await store.close()
        else:
            await store._run(lambda: store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        content = bytearray(path.read_bytes())
        start = 0 if damage == "header" else 5000
        content[start : start + 60_000] = b"\x5a" * 60_000
        path.write_bytes(content)
        if damage == "while open":
            await store._run(lambda: store._database.execute("PRAGMA shrink_memory"))
            for number in range(300):
                await store.get(f"fact {number}")
            await store.put("target", 1)
            await store.close()
        target, begun, _ = await reopened(path)
        assert begun is not None
        assert target == (1 if damage == "while open" else None)

    asyncio.run(scenario())
    assert (tmp_path / "database.sqlite.broken").exists()


def document(service: dict[str, Any]) -> dict[str, Any]:
    release = {"id": "5", "services": {"main": service}}
    app = {"id": "42", "name": "bots", "releases": {"abc1": release}}
    host = {"id": 1, "name": "os", "is_host": True, "releases": {}}
    return {"d": {"name": "quiet-robot", "config": {"A": 1}, "apps": {"u": app, "h": host}}}


def test_a_target_is_read_with_ids_as_numbers_or_texts() -> None:
    service = {"id": "1", "image_id": 2, "image": "r/x", "labels": {"a": True}, "environment": None}
    target = read_target(document(service), "d")
    assert [app.id for app in target.apps] == [42]
    release = target.apps[0].release
    assert release is not None
    assert (release.id, release.services[0].id, release.services[0].running) == (5, 1, True)
    assert release.services[0].labels == {"a": "true"}
    assert target.config == {"A": "1"}


def test_what_is_no_target_is_refused() -> None:
    with pytest.raises(WireError, match="not for this device"):
        read_target({"other": {}}, "d")
    with pytest.raises(WireError, match="service main: image"):
        read_target(document({"id": 1, "image_id": 2}), "d")
    with pytest.raises(WireError, match="service main: id is 'x'"):
        read_target(document({"id": "x", "image_id": 2, "image": "r/x"}), "d")


def test_settings() -> None:
    plain = read_settings({})
    assert plain.config_path == Path("/mnt/boot/config.json")
    assert plain.database_path == Path("/data/database.sqlite")
    assert read_settings({"CONFIG_MOUNT_POINT": "/x/c.json"}).config_path == Path("/x/c.json")
    with pytest.raises(SettingsError, match="LISTEN_PORT is 'x'"):
        read_settings({"LISTEN_PORT": "x"})
