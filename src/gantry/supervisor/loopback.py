"""A registry on loopback, from which the engine pulls what came otherwise than from its fleet's.

Pulled images have their digest checked by the engine once more, layers that are here already are
not unpacked again, and a later download over the network knows them too: of what comes by the
engine's `load`, it would know neither digest nor layers. The endpoints are those that pulling needs
(https://distribution.github.io/distribution/spec/api/). The repository's name is a secret of this
one pull: whoever else is on the machine reads nothing.
"""

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import httpserver
from gantry.supervisor.engine import Engine
from gantry.supervisor.httpserver import Message

_RANGE = re.compile(rb"bytes=(\d{1,18})-")

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Served:
    """A manifest or a blob: so many bytes, which `read` gives from its beginning. It raises OSError
    where it cannot: the answer then ends too early, and the engine does not take it."""

    digest: str
    size: int
    media_type: str
    read: Callable[[], AsyncGenerator[bytes, None]]
    is_manifest: bool = False


def mark(kind: str, instance: str) -> str:
    """Beginning of the repositories that this supervisor has things of one kind pulled from."""
    return f"{kind}/{re.sub('[^a-z0-9]+', '-', instance.lower()).strip('-') or 'device'}"


async def clean(engine: Engine, kind: str, instance: str) -> None:
    """Take away names that a pull which broke off has left in the engine.

    Raises:
        EngineError: the engine did not answer.
    """
    sign = f"/{mark(kind, instance)}/"
    for image in await engine.images():
        for name in image.get("RepoDigests") or []:
            if name.startswith("127.0.0.1:") and sign in name:
                await engine.remove_image(name)


@asynccontextmanager
async def registry(
    find: Callable[[str], Served | None], kind: str, instance: str
) -> AsyncIterator[str]:
    """Serve what `find` gives for a digest; gives the name that goes before `@sha256:…`."""
    repository = f"{mark(kind, instance)}/{secrets.token_hex(16)}"

    async def answer(scope: Message, _receive: Receive, send: Send) -> None:
        if scope["path"] in ("/v2", "/v2/"):
            await _whole(send, 200, b"{}", b"application/json")
            return
        found = _found(find, repository, scope["path"])
        if found is None:
            await _whole(send, 404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', b"application/json")
            return
        start = _start(scope, found.size)
        headers = [
            (b"content-type", found.media_type.encode()),
            (b"content-length", str(found.size - start).encode()),
            (b"docker-content-digest", found.digest.encode()),
            (b"accept-ranges", b"bytes"),
        ]
        if start:
            span = f"bytes {start}-{found.size - 1}/{found.size}"
            headers.append((b"content-range", span.encode()))
        await send(
            {"type": "http.response.start", "status": 206 if start else 200, "headers": headers}
        )
        if scope["method"] != "HEAD":
            await _body(found, start, send)
        await send({"type": "http.response.body"})

    server = await httpserver.serve(answer, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}/{repository}"
    finally:
        server.close()


def _found(find: Callable[[str], Served | None], repository: str, path: str) -> Served | None:
    kind, _, digest = path.removeprefix(f"/v2/{repository}/").partition("/")
    if not path.startswith(f"/v2/{repository}/") or kind not in ("manifests", "blobs"):
        return None
    found = find(digest)
    return found if found is not None and found.is_manifest == (kind == "manifests") else None


def _start(scope: Message, size: int) -> int:
    """Where to begin: the engine goes on where a download of its own broke off."""
    for name, value in scope["headers"]:
        if name.lower() == b"range" and (match := _RANGE.fullmatch(value)):
            start = int(match[1])
            return start if start < size else 0
    return 0


async def _body(found: Served, start: int, send: Send) -> None:
    skipped = 0
    async with aclosing(found.read()) as pieces:
        async for piece in pieces:
            if skipped < start:
                cut = min(len(piece), start - skipped)
                skipped += cut
                piece = piece[cut:]
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _whole(send: Send, status: int, body: bytes, media_type: bytes) -> None:
    length = str(len(body)).encode()
    headers: list[Any] = [(b"content-type", media_type), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
