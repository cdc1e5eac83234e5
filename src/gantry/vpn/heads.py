"""The heads of HTTP/1.1 requests and answers (RFC 9112): read within limits, taken apart, written.

Bodies are never looked at: after its head a connection is bytes.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from gantry.vpn.errors import VpnError

MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0
DEVICE_DOMAINS = ("gantry", "balena", "resin")
_TARGET = re.compile(r"([0-9a-f]{7,62})\.([a-z]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Head:
    """A head: its first line's three parts, its fields by lower-case name (the first one each)."""

    first: tuple[str, str, str]
    fields: Mapping[str, str]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a device; the uuid may be the beginning of one."""

    uuid: str
    port: int


async def read_head(reader: asyncio.StreamReader, seconds: float = HEAD_SECONDS) -> Head | None:
    """The next head; None when the other side left. The reader's limit is the head's.

    Raises:
        VpnError: 408 too slow, 431 too large, 400 none at all.
    """
    try:
        async with asyncio.timeout(seconds):
            raw = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError as error:
        raise VpnError(408, f"no whole request head within {seconds:g} s") from error
    except asyncio.LimitOverrunError as error:
        raise VpnError(431, f"the head has more than {MAX_HEAD_BYTES} bytes") from error
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """A head with its empty line.

    Raises:
        VpnError: 400, it is none.
    """
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) != 3 or "HTTP/1." not in first:
        raise VpnError(400, f"{first[:60]!r} begins no HTTP/1.1 request")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise VpnError(400, "a header field that is none")
        fields.setdefault(name.lower(), value.strip())
    return Head((parts[0], parts[1], parts[2]), fields, raw)


def connect_target(head: Head) -> Target:
    """What a CONNECT asks for.

    Raises:
        VpnError: 405 another method, 400 no device's port.
    """
    method, text, _ = head.first
    if method != "CONNECT":
        raise VpnError(405, f"this is a CONNECT proxy: {method[:20]!r} is not served")
    found = _TARGET.fullmatch(text.lower())
    if not found or found[2] not in DEVICE_DOMAINS or not 1 <= int(found[3]) <= 65535:
        raise VpnError(400, f"{text[:80]!r} is no port of a device: ask for <uuid>.gantry:<port>")
    return Target(found[1], int(found[3]))


def proxy_secret(head: Head) -> str:
    """The token or key of `Proxy-Authorization`: a bearer, or the password of Basic.

    Raises:
        VpnError: 407, there is none.
    """
    scheme, _, value = head.fields.get("proxy-authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return _plain(value)
    if scheme.lower() == "basic":
        try:
            secret = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError) as error:
            raise VpnError(407, "the Proxy-Authorization cannot be read") from error
        if secret:
            return _plain(secret)
    raise VpnError(407, "log in: Proxy-Authorization with a session token or an API key")


def _plain(secret: str) -> str:
    if not secret.isascii() or not secret.isprintable():
        raise VpnError(407, "the Proxy-Authorization cannot be read")
    return secret


def answer(status: int, text: str, media_type: str = "text/plain; charset=utf-8") -> bytes:
    """A whole answer, after which the connection is closed."""
    body = text.encode()
    more = 'Proxy-Authenticate: Basic realm="gantry"\r\n' if status == 407 else ""
    more += "Retry-After: 5\r\n" if status in (429, 503) else ""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    ).encode() + body
