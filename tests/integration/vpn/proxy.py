"""A client of the CONNECT proxy that looks at every byte."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from tests.integration.vpn.network import HOST, Server


@dataclass
class Answer:
    """What the proxy said, and the connection for what comes after it."""

    status: int
    body: str
    socket: socket.socket

    def carry(self, content: bytes) -> bytes:
        """Sends it to an echo server, and as many bytes back."""
        self.socket.sendall(content)
        back = b""
        while len(back) < len(content):
            piece = self.socket.recv(65536)
            assert piece, f"ended after {len(back)} bytes"
            back += piece
        return back

    def ended(self, timeout: float) -> bool:
        """Whether the other side ends the connection in time."""
        self.socket.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            try:
                return self.socket.recv(1) == b""
            except OSError:
                return True
        return False


@contextlib.contextmanager
def ask(
    server: Server,
    target: str,
    authorization: str | None = None,
    *,
    tls: bool = True,
    at: tuple[str, int] | None = None,
    request: bytes | None = None,
) -> Iterator[Answer]:
    """The answer to `CONNECT target`, over TLS to port 3129 or plain to port 3128."""
    place = at or (server.address, 3129 if tls else 3128)
    with contextlib.ExitStack() as stack:
        end: socket.socket = stack.enter_context(socket.create_connection(place, 20))
        if tls:
            context = ssl.create_default_context(cadata=server.net.authority.certificate_pem)
            wrapped = context.wrap_socket(end, server_hostname=f"tunnel.{HOST}")
            end = stack.enter_context(wrapped)
        end.sendall(request or _request(target, authorization))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = end.recv(1)
            assert piece, f"the proxy left after {head!r}"
            head += piece
        status = int(head.split(b" ")[1])
        body = b""
        while status != 200 and (piece := end.recv(4096)):
            body += piece
        yield Answer(status, body.decode(), end)


def _request(target: str, authorization: str | None) -> bytes:
    more = f"Proxy-Authorization: {authorization}\r\n" if authorization else ""
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n".encode()
