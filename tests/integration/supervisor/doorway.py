"""What stands between a device and its servers in a test: a proxy that is slow, breaks bytes or
hangs up as it is told, and a server that hears the heartbeats of applications."""

import itertools
import socket
import socketserver
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_PIECE = 16 * 1024
# Beyond this an answer is a blob with ballast; headers and manifests are shorter.
_HEADERS = 32 * 1024


class Proxy:
    """Passes TCP on to `target`. Attributes are changed while it runs.

    `rate` is in bytes a second; `breaks` makes one byte of each long answer another; `cut` ends
    each connection after so many bytes of answers; `garbage` is answered in place of the target.
    """

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        self.target = target
        self.rate: float | None = None
        self.breaks = False
        self.cut: int | None = None
        self.garbage: bytes | None = None
        self.passed = 0
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server((address, 0), Handler)
        self.port = int(self._server.server_address[1])
        self.address = f"{address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, near: socket.socket) -> None:
        if self.garbage is not None:
            near.recv(_PIECE)
            near.sendall(self.garbage)
            return
        with socket.create_connection(self.target) as far:
            up = threading.Thread(target=self._pass_up, args=(near, far), daemon=True)
            up.start()
            self._pass_down(far, near)
            for each in (near, far):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            up.join(10)

    @staticmethod
    def _pass_up(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := near.recv(_PIECE):
                far.sendall(piece)
            far.shutdown(socket.SHUT_WR)

    def _pass_down(self, far: socket.socket, near: socket.socket) -> None:
        count = 0
        broken = False
        with suppress(OSError):
            while piece := far.recv(_PIECE):
                if self.breaks and not broken and count > _HEADERS:
                    piece = bytes([piece[0] ^ 0xFF]) + piece[1:]
                    broken = True
                if self.cut is not None and count + len(piece) > self.cut:
                    near.sendall(piece[: self.cut - count])
                    return
                if self.rate is not None:
                    time.sleep(len(piece) / self.rate)
                near.sendall(piece)
                count += len(piece)
                self.passed += len(piece)


class Beats:
    """Hears `GET /<release>` of each running application; (time, release) in order."""

    def __init__(self, address: str) -> None:
        self.heard: list[tuple[float, str]] = []
        beats = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                beats.heard.append((time.monotonic(), self.path.strip("/")))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def silence(self, since: float, releases: set[str]) -> float:
        """The longest time without a beat of one of these since then, until now."""
        heard = [each for each, of in list(self.heard) if each > since and of in releases]
        times = [since, *heard, time.monotonic()]
        return max(after - before for before, after in itertools.pairwise(times))

    def last(self) -> str:
        return self.heard[-1][1] if self.heard else ""

    def script(self, release: str) -> str:
        """An application that beats for ever."""
        return f"while true; do wget -q -O /dev/null {self.url}/{release}; sleep 0.2; done"
