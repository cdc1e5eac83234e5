"""Ports for servers of tests."""

import secrets
import socket

# Below those that the kernel gives to connections, and Docker to containers: one of those may be
# taken between the question and the server's start.
_FIRST, _LAST = 15_000, 32_000


def free_port() -> int:
    """A port of this host at which nobody listens; as good as certainly no other test has it."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
