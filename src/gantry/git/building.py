"""The doorway to the builder: a tree goes up, events come down, on one connection.

Closing the connection, as the end of this process does, cancels the build.
"""

import http.client
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from gantry.contracts.build import BuildEvent, BuildResult, decode
from gantry.git.client import connect, sentence_of

CONNECT_TIMEOUT = 10.0
SILENCE = 60.0
"""Seconds without a byte in either direction after which the builder counts as lost."""
REPORT_EVERY = 5.0

_BEGINNING = "the builder "


class BuilderError(Exception):
    """There will be no result. The message is a sentence for the pusher."""


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What is built, for whom: the query of `POST /v3/build`."""

    application_id: int
    application_uuid: str
    slug: str
    device_type: str
    user_id: int
    username: str
    commit: str
    nocache: bool = False

    @property
    def path(self) -> str:
        """The request's target."""
        query = {
            "application_id": self.application_id,
            "application_uuid": self.application_uuid,
            "slug": self.slug,
            "device_type": self.device_type,
            "user_id": self.user_id,
            "username": self.username,
            "commit": self.commit,
            "nocache": int(self.nocache),
        }
        return f"/v3/build?{urlencode(query)}"


def build(
    url: str,
    key: str,
    order: BuildOrder,
    tree: Iterable[bytes],
    sent: Callable[[int, bool], None],
    silence: float = SILENCE,
) -> Iterator[BuildEvent]:
    """The events of one build, as they come; the last one is a BuildResult.

    `tree` is a tar stream. `sent` hears how many bytes went up: now and then, and at the end with
    True. It is called on another thread.

    Raises:
        BuilderError: the builder cannot be reached, refuses, falls silent or goes away.
        Exception: whatever `tree` raises; the builder is left with half a request then.
    """
    connection = connect(url, CONNECT_TIMEOUT)
    try:
        try:
            _begin(connection, order, key)
        except (OSError, http.client.HTTPException) as error:
            raise BuilderError(f"{_BEGINNING}cannot be reached ({error}).") from error
        with _Upload(connection.sock, tree, sent, silence) as upload:
            try:
                yield from _events(connection, upload)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise upload.reason(error) from error
    finally:
        connection.close()


def _begin(connection: http.client.HTTPConnection, order: BuildOrder, key: str) -> None:
    connection.putrequest("POST", order.path, skip_accept_encoding=True)
    connection.putheader("Authorization", f"Bearer {key}")
    connection.putheader("Content-Type", "application/x-tar")
    connection.putheader("Accept", "application/x-ndjson")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    # From here on the watch over both directions takes the place of the timeout of one.
    connection.sock.settimeout(None)


def _events(connection: http.client.HTTPConnection, upload: "_Upload") -> Iterator[BuildEvent]:
    response = connection.getresponse()
    if response.status != 200:
        sentence = sentence_of(response.status, response.read(64 * 1024))
        raise BuilderError(f"{_BEGINNING}refuses the build: {sentence}")
    while line := response.readline():
        upload.touch()
        if line.strip():
            event = decode(line)
            yield event
            if isinstance(event, BuildResult):
                return
    raise http.client.IncompleteRead(b"")


class _Upload:
    """Sends the tree on a thread of its own, so that an early answer is read and shown at once;
    another thread ends the connection when nothing moves in either direction."""

    def __init__(
        self,
        sock: socket.socket,
        tree: Iterable[bytes],
        sent: Callable[[int, bool], None],
        silence: float,
    ) -> None:
        self._sock = sock
        self._tree = tree
        self._sent = sent
        self._silence = silence
        self._moved = time.monotonic()
        self._failure: Exception | None = None
        self._is_silent = False
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._send, self._watch)
        ]

    def __enter__(self) -> "_Upload":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.put(None)
        self._shut()
        for thread in self._threads:
            thread.join(timeout=5)

    def touch(self) -> None:
        """Something moved."""
        self._moved = time.monotonic()

    def reason(self, error: Exception) -> Exception:
        """Why the answer broke off, when `error` is what reading it raised."""
        if self._failure is not None:
            return self._failure
        if self._is_silent:
            return BuilderError(f"{_BEGINNING}has been silent for {self._silence:.0f} s.")
        if isinstance(error, ValueError):
            return BuilderError(f"{_BEGINNING}does not speak our language: {error}")
        return BuilderError(f"{_BEGINNING}went away before the build was done.")

    def _send(self) -> None:
        total, told = 0, time.monotonic()
        try:
            for chunk in self._tree:
                self._sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                total += len(chunk)
                self.touch()
                if time.monotonic() - told >= REPORT_EVERY:
                    told = time.monotonic()
                    self._sent(total, False)
            self._sock.sendall(b"0\r\n\r\n")
        except OSError:
            return  # The builder closed: its answer says why, or reading it fails as well.
        except Exception as error:
            self._failure = error
            self._shut()
        else:
            self._sent(total, True)

    def _watch(self) -> None:
        while True:
            rest = self._moved + self._silence - time.monotonic()
            if rest <= 0:
                self._is_silent = True
                self._shut()
                return
            try:
                self._ended.get(timeout=rest)
            except queue.Empty:
                continue
            return

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It is closed already.
