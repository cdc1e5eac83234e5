"""Simulated devices stay on this machine: ten thousand of them are an attack anywhere else."""

import ipaddress
import socket
from urllib.parse import urlsplit


class NotLoopbackError(ValueError):
    """A target that is not this machine, or none at all; the message says what it leads to."""


def require_loopback(url: str) -> None:
    """Refuse a URL of which any address is not this machine's loopback.

    Raises:
        NotLoopbackError: another machine's address, a name that is unknown here, or no URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotLoopbackError(f"{url!r} is no URL of an api: give http://… or https://…")
    try:
        found = socket.getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotLoopbackError(
            f"{parts.hostname} is not known here ({error}): `gantry connect` makes it so"
        ) from error
    for address in {str(each[4][0]) for each in found}:
        if not ipaddress.ip_address(address).is_loopback:
            raise NotLoopbackError(
                f"{parts.hostname} leads to {address}: devices are simulated through loopback "
                "only, on the machine that runs the fleet"
            )
