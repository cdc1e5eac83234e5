"""A fleet's public names on the operator's machine: a marked block in /etc/hosts.

In production the names are in the DNS and no block is needed.
"""

import sys
from pathlib import Path

from gantry.deployment import marked_block

HOSTS = Path("/etc/hosts")
LOOPBACK = "127.0.0.1"
# What a fleet answers to below its host name; `<uuid>.devices.` cannot be in a hosts file.
SERVICES = ("api", "registry", "builder", "delta", "logs", "dashboard", "vpn", "tunnel")


def public_names(host: str) -> list[str]:
    """The host and its service names: `devbots.gantry.internal`, `api.devbots.…`, …"""
    return [host, *(f"{service}.{host}" for service in SERVICES)]


def add(fleet: str, host: str, address: str = LOOPBACK, path: Path = HOSTS) -> bool:
    """Let the fleet's names resolve to `address`; True if that changed the file.

    Raises:
        marked_block.WriteError: neither we nor sudo can write the file.
    """
    return marked_block.update(path, fleet, [f"{address} {' '.join(public_names(host))}"])


def remove(fleet: str, path: Path = HOSTS) -> bool:
    """Take the fleet's names out; True if that changed the file."""
    return marked_block.update(path, fleet, [])


def main(arguments: list[str]) -> int:
    """`add FLEET HOST [ADDRESS]` or `remove FLEET`."""
    match arguments:
        case ["add", fleet, host]:
            changed = add(fleet, host)
        case ["add", fleet, host, address]:
            changed = add(fleet, host, address)
        case ["remove", fleet]:
            changed = remove(fleet)
        case _:
            print(f"usage: {main.__doc__}", file=sys.stderr)
            return 2
    print(f"{HOSTS}: {'changed' if changed else 'as it should be'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
