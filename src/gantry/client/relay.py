"""Bytes between an open tunnel and something here: a socket, or standard input and output.

One thread, one poll(2): Python's TLS sockets may not be used by two threads at once.
"""

import os
import select
import ssl
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from gantry.client.tunnel import Tunnel

# Of either direction, on its way.
_HELD_BYTES = 256 * 1024
_PIECE = 64 * 1024
# As much as a pipe that blocks takes without blocking once poll(2) says so: PIPE_BUF.
_ATOMIC = 4096
_HANGUP = select.POLLERR | select.POLLHUP | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through, in bytes, and for how long."""

    sent: int
    received: int
    seconds: float


def relay(tunnel: Tunnel, source: int, sink: int, linger: float) -> Traffic:
    """Carry bytes until either side ends. `source` and `sink` are file descriptors, and may be one.

    TLS carries no half-closed connections: when `source` has ended, the device has `linger` seconds
    on end without a byte to finish its answer. The tunnel is closed, the descriptors are not.
    """
    return _Relay(tunnel, source, sink, linger).run()


class _Relay:
    def __init__(self, tunnel: Tunnel, source: int, sink: int, linger: float) -> None:
        self._tls = tunnel.socket
        self._source, self._sink, self._linger = source, sink, linger
        self._up, self._down = bytearray(), bytearray(tunnel.head)
        self._sent, self._received = 0, len(tunnel.head)
        self._source_ended = self._tunnel_ended = False
        self._heard = time.monotonic()

    def run(self) -> Traffic:
        began = self._heard
        self._tls.setblocking(False)
        self._writes = _ATOMIC
        # Of a terminal or a file others have the same description: it stays as it is.
        for each in {self._source, self._sink}:
            mode = os.fstat(each).st_mode
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                os.set_blocking(each, False)
                self._writes = _PIECE if each == self._sink else self._writes
        try:
            while self._turn():
                pass
        except OSError:
            pass  # one side is gone, without a good-bye
        finally:
            self._tls.close()
        return Traffic(self._sent, self._received, time.monotonic() - began)

    def _turn(self) -> bool:
        """Carry what can be carried now; False: that was all."""
        self._pull()
        self._push()
        if self._tunnel_ended and not self._down:
            return False
        ready = self._wait()
        if not ready and self._source_ended and self._quiet() <= 0:
            return False
        if self._down and ready.get(self._sink, 0) & (select.POLLOUT | _HANGUP):
            with suppress(BlockingIOError):
                count = os.write(self._sink, memoryview(self._down)[: self._writes])
                del self._down[:count]
        if self._reading() and ready.get(self._source, 0) & (select.POLLIN | _HANGUP):
            with suppress(BlockingIOError):
                piece = os.read(self._source, _PIECE)
                self._up += piece
                if not piece:
                    self._source_ended = True
                    self._heard = time.monotonic()
        return True

    def _reading(self) -> bool:
        return not self._source_ended and len(self._up) < _HELD_BYTES

    def _quiet(self) -> float:
        return self._heard + self._linger - time.monotonic()

    def _pull(self) -> None:
        """From the device, as long as there is room: TLS may hold what poll(2) does not see."""
        while not self._tunnel_ended and len(self._down) < _HELD_BYTES:
            try:
                piece = self._tls.recv(_PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self._heard = time.monotonic()
            self._received += len(piece)
            self._down += piece
            self._tunnel_ended = not piece

    def _push(self) -> None:
        while self._up:
            try:
                # A copy: a bytearray cannot shrink while somebody looks at it.
                count = self._tls.send(bytes(self._up[:_PIECE]))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self._heard = time.monotonic()
            self._sent += count
            del self._up[:count]

    def _wait(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        if not self._tunnel_ended:
            reads = select.POLLIN if len(self._down) < _HELD_BYTES else 0
            wanted[self._tls.fileno()] = reads | (select.POLLOUT if self._up else 0)
        if self._reading():
            wanted[self._source] = select.POLLIN
        if self._down:
            wanted[self._sink] = wanted.get(self._sink, 0) | select.POLLOUT
        poll = select.poll()
        for each, mask in wanted.items():
            if mask:  # without, poll(2) would still tell of a broken connection, again and again
                poll.register(each, mask)
        timeout = max(0.0, self._quiet()) * 1000 + 1 if self._source_ended else None
        return dict(poll.poll(timeout))
