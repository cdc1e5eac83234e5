"""What the collector hears of servers that do not answer as agreed."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gantry.contracts.delta_space import DeltaSpace
from gantry.contracts.registry_space import RunKind, SpaceReport
from gantry.registry.running import with_deltas
from gantry.registry.web import Answer, Deltas, Tokens, WebError


@contextmanager
def server(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An api that gives tokens, and a delta server that gives these answers, one after the other.
    Its URL, and what it was asked: the credentials and the body."""
    waiting, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, json.dumps({"token": f"token-{len(asked)}"}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.headers["Authorization"], body))
            self._send(*waiting.pop(0))

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}", asked
        finally:
            made.shutdown()
            thread.join()


def deltas(url: str) -> Deltas:
    return Deltas(url, Tokens(url, "delta.example.org", "a-secret-key"))


def test_a_token_that_is_over_is_taken_anew() -> None:
    told = json.dumps(DeltaSpace(count=7).to_json()).encode()
    with server((200, told), (401, b"{}"), (200, told)) as (url, asked):
        asker = deltas(url)
        assert asker.collect().count == 7
        assert asker.look([("v2/x", "sha256:a")]).count == 7
    assert [each[0] for each in asked] == ["Bearer token-0", "Bearer token-0", "Bearer token-2"]
    assert json.loads(asked[2][1]) == {"going": ["v2/x@sha256:a"]}


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (503, b'{"message": "the registry does not answer"}', ": the registry does not answer"),
        (403, b'{"error": "not you"}', "refused /gantry/v1/space/collect: not you"),
        (502, b"<html>", "status 502"),
        (404, b"[1]", "status 404"),
        (200, b"<html>", "of no use"),
        (200, b"[]", "of no use: \\[\\] does not say what deltas take"),
    ],
)
def test_what_is_wrong_is_told(status: int, content: bytes, said: str) -> None:
    with server((status, content)) as (url, _), pytest.raises(WebError, match=said) as caught:
        deltas(url).collect()
    assert "secret" not in str(caught.value)


def test_a_report_says_why_nothing_is_known_of_deltas() -> None:
    report = SpaceReport(size=7, removed=1)
    with server((503, b'{"message": "away"}')) as (url, _):
        found = with_deltas(report, RunKind.SURVEY, deltas(url))
    assert found.deltas
    assert "away" in str(found.deltas.error)
    # Nobody listens there any more.
    found = with_deltas(report, RunKind.COLLECT, deltas(url))
    assert found.deltas
    assert f"{url} cannot be reached" in str(found.deltas.error)
    assert (found.size, found.removed) == (7, 1)


def test_servers_say_why_in_two_ways() -> None:
    assert Answer(400, b'{"error": "one"}').sentence == "one"
    assert Answer(400, b'{"message": "two"}').sentence == "two"
    assert Answer(400, b"null").sentence == "status 400"
