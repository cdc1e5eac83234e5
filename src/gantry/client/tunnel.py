"""The one doorway to a fleet's tunnels: HTTP CONNECT to a device's port, over TLS.

What it speaks is the family's: `CONNECT <uuid>.gantry:<port>` to `tunnel.<host>` (RFC 9110, 9.3.6).
Nothing heavy is imported here, for each ssh session starts it (docs/decisions/0008).
"""

import base64
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from gantry import __version__
from gantry.client import session
from gantry.client.errors import (
    ClientError,
    NotAuthorisedError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from gantry.client.trust import trust

CONNECT_SECONDS = 15.0
# The fleet waits for the device, which may have to be woken.
ANSWER_SECONDS = 45.0
_HEAD_BYTES = 16 * 1024
_SENTENCE_BYTES = 4 * 1024
# A line that is cut off is noticed within about a minute. Linux's names; others have their own.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet's tunnels begin. `proxy`: the URL of a site's own HTTP proxy, if one must be
    passed to get there."""

    host: str
    port: int
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a device. `name` is for people."""

    uuid: str
    port: int
    name: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An open one. `head`: bytes of the device that came with the answer."""

    socket: ssl.SSLSocket
    head: bytes


def parse_place(text: str, proxy: str | None = None) -> Place:
    """From `host:port`, as a session keeps it.

    Raises:
        ClientError: it is something else.
    """
    parts = urlsplit(f"//{text}")
    try:
        if parts.hostname and parts.port:
            return Place(parts.hostname, parts.port, proxy)
    except ValueError:
        pass  # the port is no number
    raise ClientError(f"{text!r} is no place of tunnels: `gantry login` keeps it anew")


def proxy_for(host: str, kept: str | None) -> str | None:
    """The site's proxy on the way to `host`: the session's, else HTTPS_PROXY and NO_PROXY's."""
    if kept:
        return kept
    if not any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    if proxy_bypass(host):
        return None
    return found.get("https") or found.get("all")


def place_of(fleet: str) -> Place | None:
    """Where the tunnels of a fleet begin, as its session has it; None: it does not say.

    Raises:
        ClientError: nobody is logged in, or what is kept cannot be used.
    """
    kept = session.load(fleet)
    if kept.tunnel is None:
        return None
    place = parse_place(kept.tunnel)
    return Place(place.host, place.port, proxy_for(place.host, kept.proxy))


def dial(fleet: str, target: Target) -> Tunnel:
    """A tunnel with the session of a fleet as it is now: a newer token counts at once.

    Raises:
        ClientError: as `open_tunnel`.
    """
    place = place_of(fleet)
    if place is None:
        raise UnreachableError(
            f"no way into {fleet}'s VPN is known here: `gantry login --fleet {fleet}` asks for it"
        )
    authority = session.ca_path(fleet)
    context = trust(authority if authority.exists() else None)
    return open_tunnel(place, context, session.load(fleet).token, target, fleet)


def open_tunnel(
    place: Place, context: ssl.SSLContext, token: str, target: Target, fleet: str
) -> Tunnel:
    """A connection to a device's port. The socket blocks, without a time-out.

    Raises:
        UnreachableError: the fleet, the site's proxy, the device or its port does not answer.
        NotAuthorisedError: not with this token.
        NotFoundError: no such device.
        ClientError: another refusal.
    """
    where = f"{place.host}:{place.port}"
    raw = _connected(place)
    try:
        secured = context.wrap_socket(raw, server_hostname=place.host)
    except ssl.SSLCertVerificationError as error:
        raw.close()
        raise UnreachableError(
            f"{where}: its certificate is not trusted ({error.verify_message}): give the fleet's "
            f"CA with `gantry login --fleet {fleet} --ca FILE`"
        ) from error
    except OSError as error:
        raw.close()
        raise UnreachableError(f"{where} does not speak TLS with us: {_reason(error)}") from error
    try:
        status, sentence, head = _asked(secured, f"{target.uuid}.gantry:{target.port}", token)
        if not 200 <= status < 300:
            raise refusal(status, sentence, target, fleet)
        secured.settimeout(None)
    except OSError as error:
        secured.close()
        raise UnreachableError(f"the connection to {where} broke: {_reason(error)}") from error
    except BaseException:
        secured.close()
        raise
    return Tunnel(secured, head)


def refusal(status: int, sentence: str, target: Target, fleet: str) -> ClientError:
    """What the fleet answered instead of a tunnel, in words; its own sentence where it has one."""
    what = f"{target.name}, port {target.port}"
    again = f"log in again with `gantry login --fleet {fleet}`"
    kind, own = {
        400: (UsageError, "the fleet does not understand what was asked for"),
        401: (NotAuthorisedError, again),
        403: (NotAuthorisedError, "you may not reach this port of this device"),
        404: (NotFoundError, "the fleet has no such device, or not for you"),
        407: (NotAuthorisedError, again),
        409: (UnreachableError, "the device is not connected to the VPN"),
        429: (ClientError, "too many tunnels are open: end some, or wait"),
        502: (UnreachableError, "nothing listens on this port of the device"),
        503: (UnreachableError, "the device is not connected to the VPN"),
        504: (UnreachableError, "the device does not answer"),
    }.get(status, (ClientError, f"refused with HTTP {status}"))
    said = sentence.strip().rstrip(".")
    if status in (401, 407) and said:
        return kind(f"{what}: {said}: {own}")
    return kind(f"{what}: {said or own}")


def _connected(place: Place) -> socket.socket:
    """A TCP connection to the place, past the site's proxy if there is one."""
    if place.proxy is None:
        return _tcp(place.host, place.port, "is the fleet up, and its name known here?")
    parts = urlsplit(place.proxy if "//" in place.proxy else f"//{place.proxy}")
    shown = f"the proxy {parts.hostname}:{parts.port or 80}"
    if parts.scheme not in ("", "http") or not parts.hostname:
        raise UsageError(f"{shown}: only http:// proxies lead to tunnels")
    raw = _tcp(parts.hostname, parts.port or 80, "is it the right one?")
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    try:
        answer = _connect(raw, f"{place.host}:{place.port}", login)
    except OSError as error:
        raw.close()
        raise UnreachableError(f"{shown} does not answer: {_reason(error)}") from error
    if answer[0] != 200:
        raw.close()
        raise UnreachableError(
            f"{shown} lets nobody through to {place.host}:{place.port} (HTTP {answer[0]}): ask "
            "who runs it to allow it"
        )
    return raw


def _tcp(host: str, port: int, hint: str) -> socket.socket:
    try:
        made = socket.create_connection((host, port), CONNECT_SECONDS)
    except OSError as error:
        raise UnreachableError(
            f"{host}:{port} cannot be reached ({_reason(error)}): {hint}"
        ) from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    return made


def _asked(connection: socket.socket, target: str, token: str) -> tuple[int, str, bytes]:
    return _connect(connection, target, f"Bearer {token}")


def _connect(connection: socket.socket, target: str, login: str | None) -> tuple[int, str, bytes]:
    """Ask for a tunnel: the status, the sentence of a refusal, and what came after the answer.

    Raises:
        OSError: it ended, took too long, or was no HTTP.
    """
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: gantry/{__version__}"]
    lines += [f"Proxy-Authorization: {login}"] if login else []
    connection.settimeout(ANSWER_SECONDS)
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(4096)
        if not more:
            raise OSError("it ended before it answered")
        received += more
        if len(received) > _HEAD_BYTES:
            raise OSError("its answer is too long to be one")
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdecimal():
        raise OSError(f"it does not speak HTTP: {first!r:.60}")
    status = int(words[1])
    if 200 <= status < 300:
        return status, "", rest
    return status, _sentence(connection, others, rest), b""


def _sentence(connection: socket.socket, headers: list[str], rest: bytes) -> str:
    """The body of a refusal, as far as it is a sentence."""
    length = _SENTENCE_BYTES
    for each in headers:
        name, _, value = each.partition(":")
        if name.strip().lower() == "content-length" and value.strip().isdecimal():
            length = min(length, int(value))
    try:
        while len(rest) < length:
            more = connection.recv(length - len(rest))
            if not more:
                break
            rest += more
    except OSError:
        pass  # the status says enough
    text = rest[:length].decode(errors="replace").strip()
    if not text or "<" in text:
        return ""
    return "".join(each for each in text.splitlines()[0] if each.isprintable())[:500]


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) or type(error).__name__
