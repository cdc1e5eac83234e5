"""The connection to the builder, against a server that answers by script."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from gantry.contracts.build import (
    BuildMessage,
    BuildResult,
    KeepAlive,
    Phase,
    ReleaseStatus,
    encode,
)
from gantry.git.building import BuilderError, BuildOrder, build

ORDER = BuildOrder(1, "f" * 32, "ada/bots", "raspberrypi3-64", 2, "ada", "1" * 40)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
DONE = BuildResult(ReleaseStatus.SUCCESS, "1" * 40, release_id=3)
Script = Callable[[socket.socket], None]


@contextlib.contextmanager
def builder(script: Script) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                script(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += connection.recv(65536)
    return received


def run(url: str, tree: Iterator[bytes], silence: float = 5) -> list[object]:
    sent: list[tuple[int, bool]] = []
    events: list[object] = list(
        build(url, "key", ORDER, tree, lambda n, done: sent.append((n, done)), silence)
    )
    return [*events, *sent]


def test_a_build() -> None:
    requests: list[bytes] = []

    def script(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(HEAD + encode(KeepAlive()) + b"\n" + encode(DONE))

    with builder(script) as url:
        assert run(url, iter([b"abc", b"de"])) == [KeepAlive(), DONE, (5, True)]
    head, body = requests[0].split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /v3/build?application_id=1&application_uuid=ffff")
    assert b"slug=ada%2Fbots" in head
    assert b"Authorization: Bearer key" in head
    assert body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def test_events_come_while_the_tree_still_goes() -> None:
    seen = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + encode(BuildMessage("early", Phase.RECEIVE)))
        assert seen.wait(5)
        connection.sendall(encode(DONE))

    def tree() -> Iterator[bytes]:
        yield b"first"
        seen.wait(5)
        yield b"second"

    with builder(script) as url:
        events = build(url, "key", ORDER, tree(), lambda *_: None)
        assert next(events) == BuildMessage("early", Phase.RECEIVE)
        seen.set()
        assert list(events) == [DONE]


def test_a_refusal_in_the_middle_of_the_tree_is_read() -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(1000)
        body = b'{"error": "the tree is larger than 1 MiB"}'
        connection.sendall(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            continue

    with builder(script) as url, pytest.raises(BuilderError, match="larger than 1 MiB"):
        run(url, (b"x" * 100_000 for _ in range(100)))


def test_a_builder_that_goes_away() -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + encode(KeepAlive()))

    with builder(script) as url, pytest.raises(BuilderError, match="went away before"):
        run(url, iter([b"x"]))


def test_a_builder_that_falls_silent() -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD)
        while connection.recv(100):
            continue

    with builder(script) as url, pytest.raises(BuilderError, match="has been silent for 0"):
        run(url, iter([b"x"]), silence=0.4)


def test_a_builder_that_speaks_otherwise() -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + b"<html>\n")

    with builder(script) as url, pytest.raises(BuilderError, match="does not speak our language"):
        run(url, iter([b"x"]))


def test_no_builder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(BuilderError, match="cannot be reached"):
        run(url, iter([b"x"]))


def test_a_tree_that_breaks_off_is_not_sent_as_whole() -> None:
    received: list[bytes] = []

    def script(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.append(data)

    def tree() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("git archive failed")

    with builder(script) as url, pytest.raises(RuntimeError, match="git archive failed"):
        run(url, tree())
    assert b"half" in b"".join(received)
    assert not b"".join(received).endswith(b"0\r\n\r\n")


def test_leaving_early_closes_the_connection() -> None:
    gone = threading.Event()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + encode(KeepAlive()))
        if connection.recv(10) == b"":
            gone.set()

    with builder(script) as url:
        events = build(url, "key", ORDER, iter([b"x"]), lambda *_: None)
        assert next(events) == KeepAlive()
        assert isinstance(events, Iterator)
        del events
        assert gone.wait(3)
