#!/usr/bin/python3
"""Answer to one more name over mDNS, as long as this runs: `publish_alias.py NAME [NOT_ON…]`.

Avahi takes a fixed address with such a name, so it is given anew whenever the device's own
changes. Ends with an error where another device of the network has the name.
"""

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase as fnmatch
from typing import Any

# Addresses come and go several at a time.
SETTLING_SECONDS = 1.0


def address_of(
    routes: Iterable[Mapping[str, Any]],
    links: Iterable[Mapping[str, Any]],
    denied: Sequence[str],
) -> str:
    """The IPv4 address by which the network knows the device; '' while it has none.

    That is the one of the best default route, else the first of any link; `routes` and `links`
    are iproute2's, `denied` are links' names with wildcards.
    """
    found = {
        str(link["ifname"]): str(info["local"])
        for link in links
        if link.get("link_type") != "loopback"
        and not any(fnmatch(str(link["ifname"]), each) for each in denied)
        for info in reversed(link.get("addr_info", []))
        if info.get("family") == "inet" and info.get("scope") == "global"
    }
    for route in sorted(routes, key=lambda each: int(each.get("metric", 0))):
        if route.get("dev") in found:
            return found[str(route["dev"])]
    return next(iter(found.values()), "")


def ip(*arguments: str) -> list[dict[str, Any]]:
    """iproute2's answer."""
    done = subprocess.run(["ip", "-4", "-json", *arguments], capture_output=True, check=True)
    return list(json.loads(done.stdout or b"[]"))


def follow(name: str, denied: Sequence[str]) -> str:
    """Publish the name, and again at each change of address; returns why it cannot go on."""
    # Listening before looking: no change is missed between the two.
    monitor = subprocess.Popen(
        ["ip", "-4", "monitor", "address", "route"], stdout=subprocess.PIPE, bufsize=0
    )
    assert monitor.stdout is not None  # noqa: S101 (for mypy: it is a pipe)
    publisher: subprocess.Popen[bytes] | None = None
    published = ""
    try:
        while True:
            address = address_of(ip("route", "show", "default"), ip("address"), denied)
            if address != published:
                if publisher is not None:
                    publisher.terminate()
                    publisher.wait()
                publisher = publish(name, address) if address else None
                published = address
            pipes = [monitor.stdout] if publisher is None else [monitor.stdout, publisher.stdout]
            ended = wait(pipes)
            if ended is monitor.stdout:
                return "ip monitor has ended"
            if ended is not None and publisher is not None:
                return (
                    f"avahi-publish has ended with {publisher.wait()}: has another device {name}?"
                )
    finally:
        for process in (monitor, publisher):
            if process is not None:
                process.terminate()


def publish(name: str, address: str) -> subprocess.Popen[bytes]:
    """Start answering: the name is ours as long as the process lives."""
    print(f"{name} is {address}", flush=True)
    command = ["avahi-publish", "--address", "--no-reverse", name, address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)


def wait(pipes: Iterable[Any]) -> Any:
    """Wait until a pipe says something; returns one that has ended, or None."""
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        selector.select()
        time.sleep(SETTLING_SECONDS)
        for key, _ in selector.select(0):
            if not key.fileobj.read(65536):  # type: ignore[union-attr]
                return key.fileobj
    return None


if __name__ == "__main__":
    sys.exit(follow(sys.argv[1], sys.argv[2:]))
