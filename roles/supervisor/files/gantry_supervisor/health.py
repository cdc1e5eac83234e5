"""Whether the supervisor is well, and telling systemd so."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 10.0
# Between two words to systemd while something takes long.
TELL_SECONDS = 15.0
# An image of 200 MB takes minutes to get onto a slow card, and hours over a slow line.
PATIENCE_SECONDS = 4 * 3600.0


def healthy(port: int, seconds: float = SECONDS) -> bool:
    """Whether `GET /v1/healthy` of the supervisor's HTTP API says so."""
    request = b"GET /v1/healthy HTTP/1.0\r\nHost: localhost\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                words = answer.readline(200).split()
    except OSError:
        return False
    return len(words) > 1 and words[1] == b"200"


def notify(**fields: str) -> None:
    """Tell systemd: READY, WATCHDOG, STATUS (sd_notify(3)). Nothing without systemd."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    text = "\n".join(f"{name}={value}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(text.encode(), address)
    except OSError:
        return


def alive(status: str = "") -> None:
    """This program turns: systemd's watchdog is put off."""
    notify(WATCHDOG="1", **({"STATUS": status} if status else {}))


@contextmanager
def patience(status: str, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Have systemd wait while an image is on its way; not for ever."""
    done = threading.Event()
    end = time.monotonic() + seconds

    def tell() -> None:
        while time.monotonic() < end:
            alive(status)
            if done.wait(TELL_SECONDS):
                return

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
