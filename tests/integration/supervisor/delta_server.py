"""A delta server for tests of the supervisor: a real HTTP server, and real deltas made by
`gantry.deltas.create` from what a real registry has. It knows the pairs that a test gives it, and
misbehaves as it is told, which the fleet's own server (tests/integration/deltas) would not."""

import base64
import gzip
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from gantry.deltas.create import LayerTar, Options, create
from gantry.deltas.names import names_of_pair

_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the registry has it: its configuration's digest, layers, and their size there."""

    config: str
    layers: tuple[LayerTar, ...]
    packed: tuple[int, ...]

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(each.diff_id for each in self.layers)


def image_of(reference: str, folder: Path) -> Image:
    """Fetch an image's layers, unpacked, into a folder."""
    name, _, digest = reference.partition("@")
    registry, _, repository = name.partition("/")
    base = f"http://{registry}/v2/{repository}"
    types = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    with httpx2.Client() as client:
        manifest = client.get(f"{base}/manifests/{digest}", headers=types).json()
        config = client.get(f"{base}/blobs/{manifest['config']['digest']}").json()
        found = []
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            path = folder / f"{diff_id.partition(':')[2]}.tar"
            if not path.exists():
                content = client.get(f"{base}/blobs/{layer['digest']}").content
                path.write_bytes(gzip.decompress(content))
            found.append(LayerTar(diff_id, path))
    packed = tuple(each["size"] for each in manifest["layers"])
    return Image(manifest["config"]["digest"], tuple(found), packed)


class DeltaServer:
    """Serves deltas. Attributes are changed while it runs.

    `rate` is in bytes a second, in steps of `piece` bytes; `cut` ends each file's answer after so
    many bytes of it; `change` makes other bytes of a file than announced; `answer` is given in
    place of the truth; `working` is how often it says first that it is at work, and `expected` what
    it says of that; `lost` is how often it has a file no more of which it told; `stall` is how
    long the words of a refusal take after its status, in seconds; `given` are the
    tokens that it gives as an api, of which `good` alone is good. `asked` are the requests (path,
    Range), `sent` the bytes of files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.rate: float | None = None
        self.piece = _PIECE
        self.cut: int | None = None
        self.change: Callable[[bytes], bytes] | None = None
        self.announced: dict[str, Any] = {}
        self.status = 200
        self.retry_after: str | None = None
        self.stall = 0.0
        self.working = 0
        self.expected: dict[str, Any] = {}
        self.lost = 0
        self.given = ["good"]
        self.logins: list[tuple[str, str]] = []
        self.is_endless = False
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self.pairs: dict[tuple[frozenset[str], str], tuple[bytes, int]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def end_headers(self) -> None:
                self.send_header("Connection", "close")
                super().end_headers()

            def do_GET(self) -> None:
                try:
                    server._answer(self)
                except OSError:
                    return

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def make(self, src: Sequence[str], dest: str) -> int:
        """Make the delta of a pair, of the layers above those that it has in common with one of
        its sources, as the fleet's server does; its size."""
        target = image_of(dest, self.folder)
        sources = [image_of(each, self.folder) for each in src]
        names = names_of_pair([each.diff_ids for each in sources], target.config, target.diff_ids)
        layers = {each.diff_id: each for image in (*sources, target) for each in image.layers}
        out = self.folder / f"{len(self.pairs)}.gantry-delta"
        create(
            [layers[each] for each in names.sources],
            [layers[each] for each in names.layers],
            target.config,
            out,
            Options(bare=True),
        )
        content = out.read_bytes()
        whole = sum(dict(zip(target.diff_ids, target.packed, strict=True))[e] for e in names.layers)
        self.pairs[frozenset(src), dest] = (content, whole)
        return len(content)

    def files(self) -> list[str | None]:
        """What of files was asked for: the Range of each request."""
        return [span for path, span in self.asked if path.startswith("/gantry/v1/deltas/")]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        if url.path == "/auth/v1/token":
            self._token(request)
            return
        span = request.headers.get("Range")
        self.asked.append((url.path, span))
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token != "good":
            _json(request, 401, {"message": "no such token"})
            return
        if self.status != 200:
            told = {"message": "as the test asks"}
            _json(request, self.status, told, self.retry_after, self.stall)
            return
        query = parse_qs(url.query)
        pair = frozenset(query["src"]), query["dest"][0]
        if pair not in self.pairs:
            _json(request, 404, {"message": "no such image"})
            return
        content, whole = self.pairs[pair]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if url.path != "/gantry/v1/delta":
            assert url.path == f"/gantry/v1/deltas/{digest}"
            if self.lost:
                self.lost -= 1
                _json(request, 404, {"message": "there is no such delta: ask for it first"})
                return
            self._file(request, self.change(content) if self.change else content, span)
        elif self.working:
            self.working -= 1
            told = {"state": "working", "percent": None, "retry_after": 1}
            _json(request, 202, {**told, **self.expected})
        else:
            told = {"state": "ready", "digest": digest, "size": len(content), "whole": whole}
            told["url"] = f"/gantry/v1/deltas/{digest}?{url.query.partition('&wait')[0]}"
            _json(request, 200, {**told, **self.announced})

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        """Where this is the api as well."""
        login = (request.headers.get("Authorization") or "").removeprefix("Basic ")
        name, _, key = base64.b64decode(login).decode().partition(":")
        self.logins.append((name.removeprefix("d_"), key))
        _json(request, 200, {"token": self.given.pop(0) if len(self.given) > 1 else self.given[0]})

    def _file(self, request: BaseHTTPRequestHandler, content: bytes, span: str | None) -> None:
        if self.is_endless:
            request.send_response(200)
            request.end_headers()
            while True:
                request.wfile.write(bytes(_PIECE))
        start = 0
        if span and (match := re.fullmatch(r"bytes=(\d+)-", span)):
            start = int(match[1])
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        end = len(content) if self.cut is None else min(len(content), start + self.cut)
        while start < end:
            piece = content[start : min(end, start + self.piece)]
            request.wfile.write(piece)
            start += len(piece)
            self.sent += len(piece)
            if self.rate is not None:
                time.sleep(len(piece) / self.rate)


def _json(
    request: BaseHTTPRequestHandler,
    status: int,
    body: Any,
    retry_after: str | None = None,
    stall: float = 0.0,
) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(content)))
    if retry_after:
        request.send_header("Retry-After", retry_after)
    request.end_headers()
    time.sleep(stall)
    request.wfile.write(content)
