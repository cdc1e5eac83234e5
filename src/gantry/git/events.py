"""Lines for the container's log from programs whose own output goes to a user.

They go as datagrams to the service, which prints them: no file to rotate, and nothing is lost but
what is said while the service is down.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from gantry.git.settings import RUN_FOLDER

SOCKET = RUN_FOLDER / "events.sock"
MAX_LINE = 2000


def record(line: str, path: Path = SOCKET) -> None:
    """Sends one line. Never fails and never waits: a push goes on without its log line."""
    text = " ".join(line.split())[:MAX_LINE]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
    ):
        sender.sendto(text.encode(), str(path))


def listen(path: Path = SOCKET) -> socket.socket:
    """The receiving end, in place of one that an earlier run left."""
    path.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    return receiver


def lines(receiver: socket.socket) -> Iterator[str]:
    """Every line that arrives, until the socket is closed."""
    while True:
        try:
            yield receiver.recv(4 * MAX_LINE).decode(errors="replace")
        except OSError:
            return
