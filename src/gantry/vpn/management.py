"""The doorway to openvpn: its management interface (OpenVPN 2.6, doc/management-notes.txt).

openvpn connects to our unix socket and sends notifications, a line each, that begin with `>`. Those
of clients are a head and `>CLIENT:ENV,name=value` lines until `>CLIENT:ENV,END`. Commands are lines
too; each is answered with `SUCCESS: …` or `ERROR: …`, in their order.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address

MAX_LINE_BYTES = 64 * 1024
# openvpn reads a command into a buffer of 1024 bytes; reasons are cut long before.
MAX_REASON = 120
MAX_FIELDS = 200


class ManagementError(Exception):
    """openvpn said something that is not of its protocol, or is gone."""


class Kind(StrEnum):
    """What a notification about a client says."""

    CONNECT = "CONNECT"
    REAUTH = "REAUTH"
    ESTABLISHED = "ESTABLISHED"
    DISCONNECT = "DISCONNECT"


@dataclass(frozen=True, slots=True)
class ClientNotice:
    """A notification. `client` is one connection, `key` one exchange of keys within it.

    The environment holds the password in the clear: it is not shown.
    """

    kind: Kind
    client: int
    key: int | None
    environment: Mapping[str, str] = field(repr=False)


class Parser:
    """Puts lines together to notices; keeps what is not finished."""

    def __init__(self) -> None:
        self._head: tuple[Kind, int, int | None] | None = None
        self._environment: dict[str, str] = {}

    def feed(self, line: str) -> ClientNotice | None:
        """A notice when this line ends one. Notifications of other kinds are passed over.

        Raises:
            ManagementError: not of the protocol.
        """
        if not line.startswith(">CLIENT:"):
            return None
        body = line.removeprefix(">CLIENT:")
        if body.startswith("ENV,"):
            return self._on_environment(body.removeprefix("ENV,"))
        name, *numbers = body.split(",")
        if name not in set(Kind):
            self._head = None  # ADDRESS has no environment; others are not ours to answer
            return None
        try:
            client, *keys = (int(each) for each in numbers)
        except ValueError as error:
            raise ManagementError(f"openvpn's notification {line[:80]!r} has no number") from error
        self._head = (Kind(name), client, keys[0] if keys else None)
        self._environment = {}
        return None

    def _on_environment(self, text: str) -> ClientNotice | None:
        if text == "END":
            head, self._head = self._head, None
            return ClientNotice(*head, self._environment) if head else None
        name, _, value = text.partition("=")
        if len(self._environment) < MAX_FIELDS:
            self._environment[name] = value
        return None


def allow(client: int, key: int, address: IPv4Address, netmask: IPv4Address) -> str:
    """Let a client in, with this address."""
    return f"client-auth {client} {key}\nifconfig-push {address} {netmask}\nEND"


def allow_again(client: int, key: int) -> str:
    """Let a client go on with new keys and what it has."""
    return f"client-auth-nt {client} {key}"


def deny(client: int, key: int, reason: str) -> str:
    """Refuse it for good; it hears why."""
    text = quoted(reason)
    return f"client-deny {client} {key} {text} {text}"


def deny_for_now(client: int, key: int, reason: str, seconds: int) -> str:
    """Refuse it, and have it come back after `seconds` (AUTH_FAILED,TEMP of OpenVPN 2.6)."""
    told = quoted(f"TEMP[backoff {seconds}]:{reason}")
    return f"client-deny {client} {key} {quoted(reason)} {told}"


def kill(client: int) -> str:
    """End a connection: the client is told to begin anew, and cut off five seconds later."""
    return f"client-kill {client}"


def quoted(text: str) -> str:
    """A parameter for openvpn's parser, which knows quotes and backslashes; nothing ends it."""
    plain = re.sub(r"[^\x20-\x7e]", "?", text)[:MAX_REASON]
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Management:
    """One connection of openvpn's, from its start to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: deque[asyncio.Future[str]] = deque()

    @property
    def closed(self) -> bool:
        """openvpn is gone, or is about to be."""
        return self._writer.is_closing()

    async def run(self, on_notice: Callable[[ClientNotice], None]) -> None:
        """Call `on_notice` for each, until openvpn ends the connection.

        Raises:
            ManagementError: not of the protocol.
        """
        parser = Parser()
        # Only what is used of a client's environment.
        self._writer.write(b"env-filter 1\n")
        self._answers.append(asyncio.get_running_loop().create_future())
        try:
            while line := await self._line():
                if not line.startswith(">"):
                    self._on_answer(line)
                elif notice := parser.feed(line):
                    on_notice(notice)
        finally:
            self.close()

    def send(self, command: str) -> asyncio.Future[str]:
        """Send a command; the answer's text. A future that nobody awaits does no harm."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self._writer.is_closing():
            answer.set_result("ERROR: openvpn is gone")
            return answer
        self._answers.append(answer)
        self._writer.write(command.encode() + b"\n")
        return answer

    def close(self) -> None:
        """Ends the connection, and openvpn with it."""
        with _quiet():
            self._writer.close()
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result("ERROR: openvpn is gone")

    async def _line(self) -> str:
        try:
            raw = await self._reader.readline()
        except ConnectionError:
            return ""
        except ValueError as error:
            raise ManagementError(
                f"openvpn sent more than {MAX_LINE_BYTES} bytes a line"
            ) from error
        # `ENTER PASSWORD:` and empty lines do not occur without a password.
        return raw.decode(errors="replace").rstrip("\r\n") or ("\0" if raw else "")

    def _on_answer(self, line: str) -> None:
        if not line.startswith(("SUCCESS:", "ERROR:")):
            return
        if not self._answers:
            raise ManagementError(f"openvpn answered what nobody asked: {line[:80]!r}")
        answer = self._answers.popleft()
        if not answer.done():
            answer.set_result(line)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.suppress(OSError, RuntimeError):
        yield
