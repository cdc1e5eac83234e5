"""What is heard, and what is asked after a time in which nothing was heard."""

import asyncio
from typing import Any

import pytest

from gantry.vpn import watch
from gantry.vpn.watch import Watch

from .parts import UUID, StandIn, eventually, serving

OTHER = "0ddba115" * 4


def test_what_was_missed_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two public URLs one was switched off; of two credentials one has ended."""
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.05)
    away = True

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if away:
            return 0, None
        match path:
            case "/check":
                return 200, {"ended": [each for each in body["credentials"] if each == "key:1"]}
            case "/changes":
                return 200, None
            case _ if path == f"/public-urls/{UUID}":
                return 404, {"error": "there is no public URL of this name"}
        return 409, {"error": "not connected"}

    async def run() -> None:
        nonlocal away
        async with serving(StandIn(answer)) as server:
            cut: list[str] = []
            forgotten: list[str] = []
            for topic in ("credential:key:1", "credential:key:2", f"public:{UUID}"):
                server.cuts.add(topic, (topic,), lambda _, topic=topic: cut.append(topic))
            server.cuts.add(OTHER, (f"public:{OTHER}",), lambda _: cut.append(OTHER))
            parts = Watch(server.api, server.cuts, forgotten.append)
            tasks = [asyncio.create_task(each()) for each in (parts.listen, parts.check)]
            await asyncio.sleep(0.2)
            assert cut == []
            away = False
            await eventually(lambda: {"credential:key:1", f"public:{UUID}"} <= set(cut))
            assert set(cut) == {"credential:key:1", f"public:{UUID}"}
            assert set(forgotten) == {UUID}
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
