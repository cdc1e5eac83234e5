"""Leases of pushes: waited for, renewed, given back; a push without one is broken off."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gantry.builder import pushing
from gantry.builder.engine import EngineError
from gantry.builder.pushing import Leases

REPOSITORY = f"v2/{'1' * 32}"


class Api:
    """What the api does: `refusals` come first, and `renewals` says how renewing goes on."""

    def __init__(self) -> None:
        self.refusals: list[int] = []
        self.renewals: list[int] = []
        self.seconds = 12.0
        self.said: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self, status: int, body: object = None) -> None:
                data = json.dumps(body).encode() if body is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert body == {"builder": "one", "repository": REPOSITORY}
                assert self.headers["Authorization"] == "Bearer a-key"
                outer.said.append("begin")
                if outer.refusals:
                    return self._answer(outer.refusals.pop(0), {"error": "not now"})
                return self._answer(201, {"push": 7, "seconds": outer.seconds})

            def do_PUT(self) -> None:
                assert self.path == "/services/builder/pushes/7"
                outer.said.append("renew")
                self._answer(outer.renewals.pop(0) if outer.renewals else 204)

            def do_DELETE(self) -> None:
                assert self.path == "/services/builder/pushes/7"
                outer.said.append("end")
                self._answer(204)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def leases(self) -> Leases:
        return Leases(f"http://127.0.0.1:{self.server.server_port}", "a-key", "one")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(pushing, "PAUSE_SECONDS", 0.01)
    made = Api()
    yield made
    made.server.shutdown()
    made.server.server_close()


def push(api: Api, seconds: float) -> None:
    async def run() -> None:
        leases = api.leases
        try:
            async with leases.pushing(REPOSITORY):
                await asyncio.sleep(seconds)
        finally:
            await leases.close()

    asyncio.run(run())


def test_a_push_waits_until_it_may_begin_and_gives_its_lease_back(api: Api) -> None:
    api.refusals = [503, 503]
    push(api, 0.0)
    assert api.said == ["begin", "begin", "begin", "end"]


def test_a_refusal_is_the_push_s_error(api: Api) -> None:
    api.refusals = [403]
    with pytest.raises(EngineError, match=r"no lease for a push.*not now"):
        push(api, 0.0)
    assert api.said == ["begin"]


def test_a_long_push_is_renewed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "MARGIN_SECONDS", 0.1)
    api.seconds = 0.6
    # One that fails is tried again in time.
    api.renewals = [503]
    push(api, 1.5)
    assert api.said.count("renew") >= 4
    assert api.said[-1] == "end"


@pytest.mark.parametrize("renewals", [[404], [503] * 100])
def test_a_push_whose_lease_is_over_is_broken_off(
    api: Api, monkeypatch: pytest.MonkeyPatch, renewals: list[int]
) -> None:
    monkeypatch.setattr(pushing, "MARGIN_SECONDS", 0.1)
    api.seconds = 0.4
    api.renewals = renewals
    with pytest.raises(EngineError, match="broken off: the api did not renew"):
        push(api, 20.0)
    assert api.said[-1] == "end"


def test_an_error_of_the_push_is_its_own_and_the_lease_is_given_back(api: Api) -> None:
    async def run() -> None:
        async with api.leases.pushing(REPOSITORY):
            raise TimeoutError("the engine's own")

    with pytest.raises(TimeoutError, match="the engine's own"):
        asyncio.run(run())
    assert api.said == ["begin", "end"]
