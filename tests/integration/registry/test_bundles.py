"""A bundle is made of images in a registry that gives nothing without a token."""

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gantry.client import bundle_apply, bundle_file
from gantry.client.errors import NotAuthorisedError, NotFoundError
from gantry.client.registry import Registry as Reader

from .blobs import push_image
from .conftest import AUTH, Registry, Signer, Start

NAME = "v2/0123456789abcdef0123456789abcdef"
USER, PASSWORD = "ada", "a token of hers"


@dataclass
class Tokens:
    """The api's token endpoint, as far as a client knows it: a login, and what it asks for."""

    signer: Signer
    realm: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    # Claims of tokens that differ from good ones.
    claims: dict[str, Any] = field(default_factory=dict)

    def answer(self, path: str, authorization: str) -> tuple[int, str]:
        query = parse_qs(urlsplit(path).query)
        service, scope = query["service"][0], query["scope"][0]
        self.asked.append((service, scope))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization != f"Basic {login}":
            return 401, "{}"
        _, repository, actions = scope.split(":")
        return 200, f'{{"token": "{self.signer.token((repository, actions), **self.claims)}"}}'


@pytest.fixture
def tokens(signer: Signer) -> Iterator[Tokens]:
    tokens = Tokens(signer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = tokens.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        tokens.realm = f"http://127.0.0.1:{server.server_port}/auth/v1/token"
        yield tokens
        server.shutdown()
        thread.join()


@pytest.fixture
def registry(start: Start, tokens: Tokens) -> Iterator[Registry]:
    with start(auth=replace(AUTH, realm=tokens.realm)) as running:
        yield running


def write(registry: Registry, digests: list[str], path: Path, password: str = PASSWORD) -> None:
    address = registry.client.base_url.netloc.decode()
    services = {
        f"service{number}": {"image": f"{address}/{NAME}{number}@{digest}"}
        for number, digest in enumerate(digests)
    }
    release = {"id": 5, "services": services}
    app = {"id": 1, "name": "bots", "releases": {"abc1": release}}
    login = (USER, password)
    made = bundle_file.Release("f" * 32, app)
    bundle_file.write_bundle(made, lambda at: Reader(at, login), path, "arm64", lambda *_: None)


def test_images_of_several_repositories(
    registry: Registry, signer: Signer, tokens: Tokens, tmp_path: Path
) -> None:
    digests = [
        push_image(
            registry.client, f"{NAME}{number}", signer.token((f"{NAME}{number}", "pull,push"))
        )
        for number in range(2)
    ]
    path = tmp_path / "x.gantry-bundle"
    write(registry, digests, path)
    index = bundle_apply.verify(path)
    assert [each.manifest for each in index.images] == digests
    assert sum(each.size for each in index.parts if each.kind == "layer") == 200_000
    # One token for a repository, and for reading alone.
    scopes = [f"repository:{NAME}{number}:pull" for number in range(2)]
    assert tokens.asked == [(AUTH.service, scope) for scope in scopes]


def test_who_may_not_read_hears_it_and_no_file_is_left(
    registry: Registry, signer: Signer, tokens: Tokens, tmp_path: Path
) -> None:
    digest = push_image(registry.client, f"{NAME}0", signer.token((f"{NAME}0", "pull,push")))
    path = tmp_path / "x.gantry-bundle"
    with pytest.raises(NotAuthorisedError, match="you may not read this image; log in again"):
        write(registry, [digest], path, password="wrong")
    tokens.claims = {"aud": "registry.other.example.org"}
    with pytest.raises(NotAuthorisedError, match="you may not read this image"):
        write(registry, [digest], path)
    tokens.claims = {}
    with pytest.raises(NotFoundError, match="the registry does not have it"):
        write(registry, [f"sha256:{'0' * 64}"], path)
    assert list(tmp_path.iterdir()) == []
