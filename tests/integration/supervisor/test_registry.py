"""What a registry says of an image's size: a real one, and one that answers nonsense."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gantry.supervisor.engine import Credentials
from gantry.supervisor.registry import RegistryError, image_layers
from gantry.supervisor.room import Layer
from tests.integration.supervisor.conftest import Registry


def layers(reference: str, credentials: Credentials | None = None) -> tuple[Layer, ...]:
    context = ssl.create_default_context()
    return asyncio.run(image_layers(reference, credentials, context, "x86_64"))


def test_the_layers_are_those_that_the_engine_gets(registry: Registry) -> None:
    reference = registry.push("echo", ballast=300_000)
    found = layers(reference)
    assert max(each.size for each in found) > 290_000
    image = registry.engine.images.pull(reference)
    assert [each.name for each in found] == image.attrs["RootFS"]["Layers"]


def test_an_image_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"manifests/sha256:0+: HTTP 404"):
        layers(f"{registry.address}/v2/none@sha256:{'0' * 64}")
    with pytest.raises(RegistryError, match=r"registry 127\.0\.0\.1:1: "):
        layers(f"127.0.0.1:1/v2/none@sha256:{'0' * 64}")


@pytest.fixture
def nonsense() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server's address, and what it answers."""
    answer: dict[str, Any] = {"status": 200, "headers": {}, "body": b"{}"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer["status"])
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", answer
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not json", "not valid JSON"),
        (b"[]", "an object is expected"),
        (b"{}", "layers is None: a list is expected"),
        (b'{"layers": [3]}', "an object is expected"),
        (b'{"layers": [{"digest": "x", "size": "big"}]}', "layer: size is 'big'"),
        (b'{"layers": [], "config": {}}', "config is None"),
        (b'{"manifests": [{"platform": {"architecture": "arm"}}]}', "other machines than x86_64"),
        (b"x" * 5 * 1024**2, "more than 4194304 bytes"),
    ],
)
def test_nonsense_is_named(nonsense: tuple[str, dict[str, Any]], body: bytes, message: str) -> None:
    address, answer = nonsense
    answer["body"] = body
    with pytest.raises(RegistryError, match=message):
        layers(f"{address}/v2/x@sha256:1")


@pytest.mark.parametrize("realm", ["http://127.0.0.1:1/token", "", "file:///etc/passwd"])
def test_a_key_goes_to_nobody_without_tls(nonsense: tuple[str, dict[str, Any]], realm: str) -> None:
    address, answer = nonsense
    answer["status"] = 401
    answer["headers"] = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    with pytest.raises(RegistryError, match="HTTP 401"):
        layers(f"{address}/v2/x@sha256:1", Credentials("d_1", "secret", address))
