"""The doorway to devices: HTTP through the server of the VPN that a device is connected to.

The server takes HTTP CONNECT (RFC 9110, 9.3.6) for `<uuid>.gantry:<port>`, of the api by the VPN's
service key; in the tunnel a second exchange is spoken with the supervisor. h11 speaks both: clients
of plain HTTP send whole URLs to their proxies, and open no tunnel.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

SUPERVISOR_PORT = 48484
CONNECT_SECONDS = 15.0
CLOSE_SECONDS = 2.0
PIECE = 64 * 1024
# What a server says of itself when it cannot: a sentence.
MAX_SENTENCE = 4096


class TunnelError(Exception):
    """A device was not asked, or gave no answer; why, in a sentence."""


class NotReachedError(TunnelError):
    """There is no way to the device now: it has heard nothing."""


class NoAnswerError(TunnelError):
    """The device was asked, and the connection ended or time was up before it answered."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How servers of the VPN are asked: their port, and the key that opens them."""

    port: int
    key: str


@dataclass(frozen=True, slots=True)
class Request:
    """What the supervisor is asked: a target such as `/v1/blink`, and its key."""

    method: str
    target: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The beginning of an answer; `body` is read as it comes, and raises NoAnswerError where it
    is cut off."""

    status: int
    media_type: str
    body: AsyncIterator[bytes]


class Tunnel:
    """A connection to a device's supervisor, for one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, request: Request, seconds: float) -> Answer:
        """The answer, once it has begun; `seconds` are the time that it may take until then.

        Raises:
            NoAnswerError: there was none.
        """
        headers = [
            ("Host", f"127.0.0.1:{SUPERVISOR_PORT}"),
            ("Authorization", f"Bearer {request.key}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(request.body))),
            ("Connection", "close"),
        ]
        begin = h11.Request(method=request.method, target=request.target, headers=headers)
        try:
            async with asyncio.timeout(seconds):
                await self._send(begin, h11.Data(request.body), h11.EndOfMessage())
                found = await self._next()
                while isinstance(found, h11.InformationalResponse):
                    found = await self._next()
        except TimeoutError as error:
            raise NoAnswerError(f"it did not answer within {seconds:.0f} s") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise NoAnswerError(f"the connection to it ended: {error}") from error
        if not isinstance(found, h11.Response):
            raise NoAnswerError("the connection to it ended before it answered")
        media_type = _header(found, b"content-type") or "application/octet-stream"
        return Answer(found.status_code, media_type, self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            while isinstance(found := await self._next(), h11.Data):
                yield bytes(found.data)
        except (OSError, h11.RemoteProtocolError) as error:
            raise NoAnswerError(f"the connection to it ended: {error}") from error

    async def connect(self, target: str, gate: Gate) -> "Tunnel":
        """The tunnel to this target, in this connection to a server.

        Raises:
            NotReachedError: the server does not let the api through, or cannot.
        """
        headers = [("Host", target), ("Proxy-Authorization", f"Bearer {gate.key}")]
        try:
            begin = h11.Request(method="CONNECT", target=target, headers=headers)
            await self._send(begin, h11.EndOfMessage())
            found = await self._next()
            if not isinstance(found, h11.Response):
                raise NotReachedError("the VPN's server ended the connection")
            if found.status_code >= 300:
                raise NotReachedError(await self._refusal(found.status_code))
        except h11.RemoteProtocolError as error:
            raise NotReachedError(f"the VPN's server does not speak HTTP: {error}") from error
        inner = Tunnel(self._reader, self._writer)
        # What came behind the answer is the device's already.
        if self._http.trailing_data[0]:
            inner._http.receive_data(self._http.trailing_data[0])
        return inner

    async def _refusal(self, status: int) -> str:
        sentence = b""
        with contextlib.suppress(OSError, h11.RemoteProtocolError):
            while isinstance(found := await self._next(), h11.Data):
                sentence += bytes(found.data)
                if len(sentence) > MAX_SENTENCE:
                    break
        text = sentence[:MAX_SENTENCE].decode(errors="replace").strip().partition("\n")[0]
        return f"the VPN's server says {status}{f': {text}' if text else ''}"

    async def _send(self, *events: h11.Event) -> None:
        for each in events:
            self._writer.write(self._http.send(each) or b"")
        await self._writer.drain()

    async def _next(self) -> h11.Event:
        while True:
            found = self._http.next_event()
            if found is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(PIECE))
            elif found is h11.PAUSED:
                raise h11.RemoteProtocolError("it went on where it should have ended")
            elif isinstance(found, h11.Event) and not isinstance(found, h11.ConnectionClosed):
                return found
            else:
                raise h11.RemoteProtocolError("it was closed")


@contextlib.asynccontextmanager
async def opened(server: str, uuid: str, gate: Gate) -> AsyncIterator[Tunnel]:
    """A tunnel to the supervisor of a device that is connected to this server.

    Raises:
        NotReachedError: there is none.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(server, gate.port)
                outer = Tunnel(reader, writer)
                inner = await outer.connect(f"{uuid}.gantry:{SUPERVISOR_PORT}", gate)
        except TimeoutError as error:
            raise NotReachedError(
                f"the VPN's server {server} did not open a way to it within {CONNECT_SECONDS:.0f} s"
            ) from error
        except OSError as error:
            raise NotReachedError(f"the VPN's server {server} is not there: {error}") from error
        yield inner
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await writer.wait_closed()


def _header(response: h11.Response, name: bytes) -> str | None:
    for each, value in response.headers:
        if each == name:
            return bytes(value).decode("latin-1")
    return None
