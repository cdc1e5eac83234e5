"""A bundle as a registry on loopback, from which the engine pulls.

Pulled images have their digest checked by the engine once more, layers that are here already are
not unpacked again, and a later download over the network knows them too: of what comes by the
engine's `load`, it would know neither digest nor layers. The endpoints are those that pulling needs
(https://distribution.github.io/distribution/spec/api/). The repository's name is a secret of this
one loading: whoever else is on the machine reads nothing.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from gantry.contracts.bundle import BundleError, Part, PartKind
from gantry.supervisor import httpserver
from gantry.supervisor.bundle import Bundle
from gantry.supervisor.httpserver import Message

_LOG = logging.getLogger(__name__)
_RANGE = re.compile(rb"bytes=(\d{1,18})-")

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@asynccontextmanager
async def registry(bundle: Bundle, repository: str) -> AsyncIterator[str]:
    """Serve the bundle's images; gives the name that goes before `@sha256:…`."""

    async def answer(scope: Message, _receive: Receive, send: Send) -> None:
        if scope["path"] in ("/v2", "/v2/"):
            await _whole(send, 200, b"{}", b"application/json")
            return
        part = _part(bundle, repository, scope["path"])
        if part is None:
            await _whole(send, 404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', b"application/json")
            return
        start = _start(scope, part.size)
        headers = [
            (b"content-type", part.media_type.encode()),
            (b"content-length", str(part.size - start).encode()),
            (b"docker-content-digest", part.digest.encode()),
            (b"accept-ranges", b"bytes"),
        ]
        if start:
            span = f"bytes {start}-{part.size - 1}/{part.size}"
            headers.append((b"content-range", span.encode()))
        await send(
            {"type": "http.response.start", "status": 206 if start else 200, "headers": headers}
        )
        if scope["method"] != "HEAD":
            await _body(bundle, part, start, send)
        await send({"type": "http.response.body"})

    server = await httpserver.serve(answer, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}/{repository}"
    finally:
        server.close()


def _part(bundle: Bundle, repository: str, path: str) -> Part | None:
    kind, _, digest = path.removeprefix(f"/v2/{repository}/").partition("/")
    if not path.startswith(f"/v2/{repository}/") or kind not in ("manifests", "blobs"):
        return None
    found = next((each for each in bundle.index.parts if each.digest == digest), None)
    if found is None or found.kind is PartKind.TARGET:
        return None
    return found if (found.kind is PartKind.MANIFEST) == (kind == "manifests") else None


def _start(scope: Message, size: int) -> int:
    """Where to begin: the engine goes on where a download of its own broke off."""
    for name, value in scope["headers"]:
        if name.lower() == b"range" and (match := _RANGE.fullmatch(value)):
            start = int(match[1])
            return start if start < size else 0
    return 0


async def _body(bundle: Bundle, part: Part, start: int, send: Send) -> None:
    pieces = bundle.pieces(part)
    skipped = 0
    while (piece := await asyncio.to_thread(_next, pieces)) is not None:
        if skipped < start:
            cut = min(len(piece), start - skipped)
            skipped += cut
            piece = piece[cut:]
        if piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


def _next(pieces: Iterator[bytes]) -> bytes | None:
    try:
        return next(pieces, None)
    except BundleError as error:
        # The answer ends before its length: the engine tells that it could not download.
        raise OSError(str(error)) from error


async def _whole(send: Send, status: int, body: bytes, media_type: bytes) -> None:
    length = str(len(body)).encode()
    headers: list[Any] = [(b"content-type", media_type), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
