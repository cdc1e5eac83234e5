"""A registry that does not answer as it should."""

from typing import Any

import pytest

from gantry.client.errors import UnreachableError
from gantry.client.registry import Registry
from tests.unit.conftest import answer


def blob(server: Any) -> bytes:
    with Registry(server.url.partition("://")[2], ("ann", "token")) as registry:
        return b"".join(registry.blob("v2/abc", "sha256:d"))


def test_a_blob_that_ends_early(server: Any) -> None:
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"half")

    server.answers["/v2/v2/abc/blobs/sha256:d"] = half
    with pytest.raises(UnreachableError, match=r"the connection to http://localhost:\d+ broke"):
        blob(server)


def test_a_token_service_that_is_not_there(server: Any) -> None:
    def ask_for_login(handler: Any) -> None:
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", 'Bearer realm="http://localhost:1/auth"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers["/v2/v2/abc/blobs/sha256:d"] = ask_for_login
    with pytest.raises(UnreachableError, match="http://localhost:1 cannot be reached"):
        blob(server)


def test_a_token_that_is_got_opens_it(server: Any) -> None:
    def asked(handler: Any) -> None:
        if handler.headers.get("Authorization") == "Bearer opens":
            answer(200, b"content", "text/plain")(handler)
            return
        handler.send_response(401)
        challenge = f'Bearer realm="{server.url}/auth",service="registry"'
        handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers["/v2/v2/abc/blobs/sha256:d"] = asked
    server.answers["/auth"] = answer(200, {"token": "opens"})
    assert blob(server) == b"content"
