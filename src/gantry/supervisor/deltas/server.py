"""The doorway to the delta server: which delta there is for a pair of images, and its bytes.

Requests: docs/deltas.md. The token is the registry's kind
(https://distribution.github.io/distribution/spec/auth/token/), of the fleet's api.
"""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2

from gantry.contracts.deltas import (
    DELTA_PATH,
    FILES_PATH,
    MAX_WAIT_SECONDS,
    DeltaAnswer,
    DeltaContractError,
    DeltaPair,
    DeltaState,
    ImageReference,
)
from gantry.supervisor import wire
from gantry.supervisor.cloud import http_client
from gantry.supervisor.config import DeviceConfig

# Bytes of an answer that is no delta.
_LIMIT = 256 * 1024
# Seconds to connect, and those by which an answer that the server is to wait with comes before the
# request's end.
_CONNECT, _MARGIN = 15.0, 5.0
# What a server asks for, it gets, within this, in seconds.
_LONGEST_WAIT = 300.0
# An answer that is no delta takes so long at most, in seconds.
_LONGEST_ANSWER = 60.0
# A download that brings less than this, in bytes a second, in a stretch of so many seconds, stands
# still. No line that images could come over is as thin.
_LEAST_RATE, _STRETCH = 100, 60.0
_SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class DeltaServerError(Exception):
    """No delta; the message says why. `is_final`: asking again would not help. `wait` is what the
    server asked for, in seconds."""

    def __init__(self, message: str, is_final: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.wait = wait


class _RefusedError(DeltaServerError):
    """401: the token is no longer good."""


class DeltaServer:
    """A client of one server, for one device and one pair. `seconds` is how long a request may
    take until its answer begins, and between two pieces of it."""

    def __init__(
        self, config: DeviceConfig, context: ssl.SSLContext, pair: DeltaPair, seconds: float
    ) -> None:
        self._config = config
        self._pair = pair
        self._base = str(config.delta_endpoint)
        self._seconds = seconds
        self._client = http_client(context, connections=2)
        self._token = ""

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def ask(self, wait: float) -> DeltaAnswer:
        """Which delta there is: `ready`, `whole`, or `working` when it is still being made after
        `wait` seconds, or as many as a request may take.

        Raises:
            DeltaServerError: no answer, or a refusal.
        """
        most = min(wait, float(MAX_WAIT_SECONDS), self._seconds - _MARGIN)
        path = f"{DELTA_PATH}?{self._pair.query(wait=max(0, int(most)))}"
        try:
            # One that begins to answer and does not go on is no answer.
            async with (
                asyncio.timeout(_CONNECT + 2 * self._seconds),
                self._authorized(path, {}) as answer,
            ):
                found = _answer(await _whole(answer), path)
        except TimeoutError as error:
            raise DeltaServerError(f"{self._base}: no whole answer in time") from error
        if found.state not in (DeltaState.READY, DeltaState.WHOLE, DeltaState.WORKING):
            raise DeltaServerError(f"{self._base}: its answer is {found.state}")
        return found

    @asynccontextmanager
    async def body(
        self, path: str, start: int, size: int
    ) -> AsyncIterator[tuple[int, AsyncGenerator[bytes, None]]]:
        """The file's bytes from `start` on, and where they really begin: at 0 if the server would
        not go on. Never more than the rest of `size`.

        Raises:
            DeltaServerError: no answer, a refusal, or another length than told.
        """
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        async with self._authorized(path, headers) as answer:
            begin = 0
            if answer.status_code == 206:
                span = _SPAN.fullmatch(answer.headers.get("Content-Range", ""))
                if span is None or [*map(int, span.groups())] != [start, size - 1, size]:
                    told = answer.headers.get("Content-Range", "nothing")
                    raise DeltaServerError(f"{path[:60]}: asked from {start} of {size}, got {told}")
                begin = start
            length = answer.headers.get("Content-Length")
            if length is not None and length != str(size - begin):
                raise DeltaServerError(
                    f"the delta has {length} bytes where {size - begin} were announced"
                )
            yield begin, _pieces(answer, size - begin, max(_STRETCH, self._seconds))

    @asynccontextmanager
    async def _authorized(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """An answer of 200, 202 or 206, asked for with a token; with a new one, once, at 401."""
        for is_last in (False, True):
            if not self._token:
                self._token = await self._new_token()
            try:
                more = {**headers, "Authorization": f"Bearer {self._token}"}
                async with self._exchange(f"{self._base}{path}", headers=more) as answer:
                    yield answer
                    return
            except _RefusedError as error:
                self._token = ""
                if is_last:
                    raise DeltaServerError(str(error), is_final=True) from error

    async def _new_token(self) -> str:
        """A token for pulling all images of the pair."""
        names = dict.fromkeys(
            ImageReference.parse(e).name for e in (*self._pair.src, self._pair.dest)
        )
        query = [("service", urlsplit(self._base).netloc)]
        query += [("scope", f"repository:{name}:pull") for name in names]
        url = f"{self._config.api_endpoint}/auth/v1/token?{urlencode(query)}"
        login = httpx2.BasicAuth(f"d_{self._config.uuid}", self._config.device_key or "")
        try:
            async with self._exchange(url, auth=login) as answer:
                document = wire.parse(await _whole(answer), "token")
                return wire.text(document.get("token"), "token")
        except (wire.WireError, _RefusedError) as error:
            raise DeltaServerError(f"{url.partition('?')[0]}: no token: {error}", True) from error

    @asynccontextmanager
    async def _exchange(self, url: str, **how: Any) -> AsyncIterator[httpx2.Response]:
        shown = url.partition("?")[0]
        timeout = httpx2.Timeout(self._seconds, connect=_CONNECT)
        try:
            async with self._client.stream("GET", url, timeout=timeout, **how) as answer:
                if answer.status_code not in (200, 202, 206):
                    raise _refusal(shown, answer, await _whole(answer))
                yield answer
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
            raise DeltaServerError(f"{shown}: {reason}") from error


def _refusal(url: str, answer: httpx2.Response, body: bytes) -> DeltaServerError:
    status = answer.status_code
    try:
        told = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        told = ""
    message = f"{url}: HTTP {status}{' ' if told else ''}{told[:200]}"
    if status == 401:
        return _RefusedError(message)
    after = answer.headers.get("Retry-After", "")
    wait = min(float(after), _LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", after) else None
    # A file that the server has lost since it told of it, it makes anew for who asks again.
    is_lost = status == 404 and f"{FILES_PATH}/" in url
    is_final = status < 500 and status not in (408, 429) and not is_lost
    return DeltaServerError(message, is_final, wait)


def _answer(content: bytes, where: str) -> DeltaAnswer:
    try:
        return DeltaAnswer.from_json(json.loads(content))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, DeltaContractError) else "no JSON"
        raise DeltaServerError(f"{where.partition('?')[0]}: {reason}") from error


async def _whole(answer: httpx2.Response) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(_LONGEST_ANSWER):
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > _LIMIT:
                    raise DeltaServerError(f"{answer.url.path}: more than {_LIMIT} bytes")
    except TimeoutError as error:
        text = f"{answer.url.path}: no whole answer in {_LONGEST_ANSWER:.0f} s"
        raise DeltaServerError(text) from error
    return bytes(content)


async def _pieces(
    answer: httpx2.Response, length: int, stretch: float
) -> AsyncGenerator[bytes, None]:
    begun, come = time.monotonic(), 0
    async for piece in answer.aiter_raw():
        if len(piece) > length:
            raise DeltaServerError("the delta has more bytes than were announced")
        length -= len(piece)
        yield piece
        come += len(piece)
        passed = time.monotonic() - begun
        if passed >= stretch:
            if come < _LEAST_RATE * passed:
                raise DeltaServerError(f"it brought only {come} bytes in {passed:.0f} s")
            begun, come = time.monotonic(), 0
    if length:
        raise DeltaServerError(f"the download was cut off, {length} bytes before its end")
