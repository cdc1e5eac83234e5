"""The doorway to the container engine: its HTTP API on the unix socket.

Requests are HTTP/1.0, so every answer ends where the connection ends, and none is chunked.
Paths and bodies: https://docs.docker.com/reference/api/engine/version/v1.41/.
"""

import base64
import json
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

SOCKET = os.environ.get("GANTRY_ENGINE_SOCKET", "/run/docker.sock")
# A layer of hundreds of megabytes is unpacked onto a slow card without a word in between.
SILENCE_SECONDS = 900.0
SECONDS = 60.0
_PIECE = 64 * 1024


class EngineError(Exception):
    """The engine refused or did not answer; `status` is its HTTP status, None without answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EngineGoneError(EngineError):
    """The engine did not answer at all, or not to the end."""


def split_reference(image: str) -> tuple[str, str]:
    """Name and tag (or digest) of an image; `latest` without one."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


class Answer:
    """An answer's body, as it comes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def line(self) -> bytes:
        """The next line with its end; b"" at the end of the answer."""
        while b"\n" not in self._rest:
            if not (piece := self._connection.recv(_PIECE)):
                break
            self._rest += piece
        line, end, self._rest = self._rest.partition(b"\n")
        return line + end

    def whole(self) -> bytes:
        """All that is left of it."""
        pieces = [self._rest]
        while piece := self._connection.recv(_PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    def piece(self, seconds: float) -> bytes | None:
        """What comes next; None when nothing has come in time, b"" at the end."""
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        ready, _, _ = select.select([self._connection], [], [], max(0.0, seconds))
        return self._connection.recv(_PIECE) if ready else None


class Engine:
    """A client of one engine; each request has a connection of its own."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Iterator[Answer]:
        """Ask, and give the answer's body.

        Raises:
            EngineError: a refusal, with the engine's words.
            EngineGoneError: no answer.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            with connection:
                connection.connect(self._path)
                _send(connection, method, path, body, headers or {})
                answer = Answer(connection)
                _check(answer, method, path)
                yield answer
        except OSError as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
            raise EngineGoneError(
                f"the engine at {self._path}: {method} {path}: {reason}"
            ) from error

    def ask(self, method: str, path: str, body: object = None, seconds: float = SECONDS) -> Any:
        """The answer's JSON; None for an empty one."""
        content = b"" if body is None else json.dumps(body).encode()
        with self.open(method, path, content, seconds=seconds) as answer:
            text = answer.whole()
        return json.loads(text) if text.strip() else None

    def find(self, path: str) -> Any:
        """As a GET by `ask`; None when there is no such thing."""
        try:
            return self.ask("GET", path)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def image(self, reference: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None if it does not have it."""
        found: dict[str, Any] | None = self.find(f"/images/{quote(reference)}/json")
        return found

    def container(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of a container; None if there is none."""
        found: dict[str, Any] | None = self.find(f"/containers/{name}/json")
        return found

    def pull(self, reference: str, login: tuple[str, str] | None) -> Iterator[str]:
        """Download an image; the engine's progress as it comes.

        Raises:
            EngineError: the download failed; the message is the engine's.
        """
        name, tag = split_reference(reference)
        headers = {}
        if login:
            document = {"username": login[0], "password": login[1]}
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(
                json.dumps(document).encode()
            ).decode()
        query = urlencode({"fromImage": name, "tag": tag})
        yield from self._lines(f"/images/create?{query}", b"", headers)

    def load(self, archive: Path) -> Iterator[str]:
        """Load an archive that `docker save` wrote; the engine's progress as it comes.

        Raises:
            EngineError: the archive is broken, or there is no room for it.
        """
        with archive.open("rb") as content:
            headers = {"Content-Type": "application/x-tar"}
            yield from self._lines("/images/load?quiet=1", content, headers)

    def _lines(
        self, path: str, body: bytes | IO[bytes], headers: Mapping[str, str]
    ) -> Iterator[str]:
        with self.open("POST", path, body, headers, SILENCE_SECONDS) as answer:
            while line := answer.line():
                message = json.loads(line) if line.strip() else {}
                if "error" in message:
                    raise EngineError(str(message["error"]).strip())
                yield str(message.get("status") or message.get("stream") or "")

    def remove_container(self, name: str, volumes: bool = False) -> bool:
        """Remove a container, running or not; whether there was one."""
        return self.remove(f"/containers/{name}?force=1&v={int(volumes)}")

    def remove(self, path: str) -> bool:
        """DELETE; whether there was such a thing."""
        try:
            self.ask("DELETE", path)
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True


def _send(
    connection: socket.socket,
    method: str,
    path: str,
    body: bytes | IO[bytes],
    headers: Mapping[str, str],
) -> None:
    length = len(body) if isinstance(body, bytes) else os.fstat(body.fileno()).st_size
    fields = {
        "Host": "engine",
        "Content-Type": "application/json",
        "Content-Length": str(length),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    start = f"{method} {path} HTTP/1.0\r\n{head}\r\n".encode()
    # An engine that refuses early reads no more; its answer says why.
    with suppress(BrokenPipeError):
        if isinstance(body, bytes):
            connection.sendall(start + body)
        else:
            connection.sendall(start)
            connection.sendfile(body)


def _check(answer: Answer, method: str, path: str) -> None:
    """Read the head of an answer.

    Raises:
        EngineError: it is a refusal, with the engine's words.
    """
    words = answer.line().split()
    if len(words) < 2 or not words[1].isdigit():
        raise EngineGoneError(f"{method} {path}: the engine ended the connection without an answer")
    while answer.line().strip():
        pass
    status = int(words[1])
    if status < 400:
        return
    content = answer.whole()
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content[:300].decode(errors="replace").strip()
    raise EngineError(message or f"{method} {path}: status {status}", status)
