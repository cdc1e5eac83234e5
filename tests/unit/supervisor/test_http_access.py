"""Who may ask the HTTP API for what: every endpoint of every table, over a real socket."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from gantry.supervisor import httpserver
from gantry.supervisor.keys import EVERYTHING, Scope
from gantry.supervisor.web import Endpoint, application
from gantry.supervisor.web.application import ENDPOINTS

KEYS = {"all": EVERYTHING, "seven": Scope(7), "eight": Scope(8)}
OPEN = {("GET", "/ping"), ("GET", "/v1/healthy")}
# Endpoints of one application, and what they say to the key of another.
OF_AN_APPLICATION = {
    ("POST", "/v1/restart"): 401,
    ("POST", "/v1/purge"): 401,
    ("GET", "/v1/apps/{app_id}"): 401,
    ("POST", "/v1/apps/{app_id}/stop"): 401,
    ("POST", "/v1/apps/{app_id}/start"): 401,
    ("GET", "/v2/applications/{app_id}/state"): 409,  # as the family: there is no such one
    ("POST", "/v2/applications/{app_id}/restart-service"): 401,
    ("POST", "/v2/applications/{app_id}/stop-service"): 401,
    ("POST", "/v2/applications/{app_id}/start-service"): 401,
    ("POST", "/v2/applications/{app_id}/restart"): 401,
    ("POST", "/v2/applications/{app_id}/purge"): 401,
    ("GET", "/gantry/v1/applications/{app_id}/lock"): 401,
    ("POST", "/gantry/v1/applications/{app_id}/lock"): 401,
    ("DELETE", "/gantry/v1/applications/{app_id}/lock"): 401,
}

# What the family says to the key of another, where it is not `failed: Unauthorized`.
DENIED = {
    ("GET", "/v1/apps/{app_id}"): {"status": "failed", "message": "Application is not available"},
    ("POST", "/v1/apps/{app_id}/stop"): "Unauthorized",
    ("POST", "/v1/apps/{app_id}/start"): "Unauthorized",
    ("GET", "/v2/applications/{app_id}/state"): {
        "status": "failed",
        "message": "Application ID does not exist: 7",
    },
}


class Waiting:
    """A supervisor that waits to be provisioned: whoever is let in hears 503 of it."""

    def __init__(self, local: bool = False) -> None:
        self._local = local

    def scope_of(self, key: str) -> Scope | None:
        return KEYS.get(key)

    def asks_no_key(self) -> bool:
        return self._local

    def complaints(self) -> list[str]:
        return []

    def bundles(self) -> Any:
        """None came, and there is no place for one."""
        return SimpleNamespace(status=None, folder=Path("/dev/null/bundles"))

    def services(self) -> None:
        return None


Ask = Callable[..., Awaitable[httpx2.Response]]


def answers(scenario: Callable[[Ask], Awaitable[None]], local: bool = False) -> None:
    async def main() -> None:
        server = await httpserver.serve(application(Waiting(local)), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
        try:

            async def ask(endpoint: Endpoint, app_id: object = 7, **how: object) -> httpx2.Response:
                path = endpoint.path.replace("{app_id}", str(app_id))
                if endpoint.path in ("/v1/restart", "/v1/purge") and "content" not in how:
                    how["json"] = {"appId": app_id}
                return await client.request(endpoint.method, path, **how)  # type: ignore[arg-type]

            await scenario(ask)
        finally:
            await client.aclose()
            server.close()
            await server.wait_closed()

    asyncio.run(main())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def name(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.method, endpoint.path


def test_only_ping_and_health_are_open() -> None:
    assert {name(each) for each in ENDPOINTS if each.is_open} == OPEN
    assert set(OF_AN_APPLICATION) <= {name(each) for each in ENDPOINTS}
    assert {name(each) for each in ENDPOINTS if "{app_id}" in each.path} <= set(OF_AN_APPLICATION)
    assert len({name(each) for each in ENDPOINTS}) == len(ENDPOINTS)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_every_endpoint_wants_the_right_key(endpoint: Endpoint) -> None:
    async def scenario(ask: Ask) -> None:
        refused = [200 if endpoint.is_open else 401]
        for how in ({}, {"headers": bearer("wrong")}, {"headers": bearer("-")}):
            assert [(await ask(endpoint, **how)).status_code] == refused
        for query in ("wrong", ""):
            assert [(await ask(endpoint, params={"apikey": query})).status_code] == refused
        for key in ("all", "seven"):
            for how in (
                {"headers": bearer(key)},
                {"headers": {"Authorization": f"apikey {key}"}},
                {"params": {"apikey": key}},
            ):
                # Everything past the door says that the device is not provisioned, or looks at
                # what was given first; for a bundle there is no room.
                assert (await ask(endpoint, **how)).status_code in (200, 400, 503, 507)
        other = await ask(endpoint, headers=bearer("eight"))
        if name(endpoint) in OF_AN_APPLICATION:
            assert other.status_code == OF_AN_APPLICATION[name(endpoint)]
            said = DENIED.get(name(endpoint), {"status": "failed", "message": "Unauthorized"})
            assert (other.text if isinstance(said, str) else other.json()) == said
        else:
            assert other.status_code in (200, 400, 503, 507)

    answers(scenario)


@pytest.mark.parametrize("key", OF_AN_APPLICATION, ids=" ".join)
def test_an_id_that_is_none_is_said(key: tuple[str, str]) -> None:
    endpoint = next(each for each in ENDPOINTS if name(each) == key)

    async def scenario(ask: Ask) -> None:
        for wrong in ("x", "7.5", "1" * 40, "7 or 8", "-"):
            answer = await ask(endpoint, wrong, headers=bearer("all"))
            assert answer.status_code == 400, wrong
            text = answer.text
            if text.startswith("{"):
                assert answer.json()["status"] == "failed"
                text = answer.json()["message"]
            assert "app" in text.lower()

    answers(scenario)


def test_in_local_mode_nobody_is_asked_for_a_key() -> None:
    async def scenario(ask: Ask) -> None:
        for endpoint in ENDPOINTS:
            assert (await ask(endpoint)).status_code in (200, 400, 503, 507)

    answers(scenario, local=True)


def test_a_body_that_is_none_is_said() -> None:
    async def scenario(ask: Ask) -> None:
        restart = next(each for each in ENDPOINTS if each.path == "/v1/restart")
        for content in (b"{", b"[]", b"3", b'{"appId": }', b"\xff\xfe"):
            answer = await ask(restart, content=content, headers=bearer("all"))
            assert answer.status_code == 400
            assert "JSON" in answer.json()["message"]
        big = b'{"appId": 7, "x": "' + b"y" * 10 * 1024**2 + b'"}'
        answer = await ask(restart, content=big, headers=bearer("all"))
        assert (answer.status_code, answer.json()["status"]) == (413, "failed")

    answers(scenario)
