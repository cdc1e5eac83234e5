"""The container's health: sshd greets, and the accounts are being kept up to date."""

import socket
import sys
import time

from gantry.git.places import Places

PORT = 2222
MAX_AGE = 30.0
"""Seconds since the accounts were last asked for. An api that is down is not our illness."""


def problems(places: Places, port: int = PORT, now: float | None = None) -> list[str]:
    """What is wrong, in sentences; nothing when all is well."""
    found = []
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            greeting = connection.recv(64)
        if not greeting.startswith(b"SSH-2.0-"):
            found.append(f"port {port} does not greet as an SSH server: {greeting!r}")
    except OSError as error:
        found.append(f"sshd does not answer on port {port}: {error}")
    try:
        age = (time.time() if now is None else now) - places.synced.stat().st_mtime
        if age > MAX_AGE:
            found.append(f"the accounts were last asked for {age:.0f} s ago")
    except FileNotFoundError:
        found.append("the api has never given the accounts")
    return found


def main() -> int:
    """Prints what is wrong; 0 when nothing is."""
    found = problems(Places())
    sys.stdout.writelines(line + "\n" for line in found or ["healthy"])
    return 1 if found else 0
