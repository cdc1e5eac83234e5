"""The open ports of a device, from its variant and the role's variables."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence

PORT = re.compile(r"(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?")
INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\*?")
SSH, ENGINE, SUPERVISOR = "tcp/22222", "tcp/2377", "tcp/48484"
# What a device itself has open to its network; applications' ports come to it.
VARIANTS = {
    "production": (SSH, "udp/5353"),
    "development": (SSH, "udp/5353", ENGINE, SUPERVISOR),
    "standalone": (SSH, "udp/5353", ENGINE),
}


def port_problem(text: object) -> str:
    """What is wrong with a port of an application; '' if nothing."""
    found = PORT.fullmatch(str(text))
    numbers = [int(each) for each in found.groups()[1:] if each] if found else []
    if numbers and all(0 < each < 65536 for each in numbers) and numbers == sorted(numbers):
        return ""
    return (
        f"firewall_application_ports: {text} is no port: write tcp/80, or udp/5000-5010 for a range"
    )


def problems(ports: Sequence[object], interfaces: Sequence[str], resolver: str) -> list[str]:
    """All that is wrong with the role's variables."""
    found = [problem for each in ports if (problem := port_problem(each))]
    found += [
        f"{each!r} is no name of an interface"
        for each in interfaces
        if not INTERFACE.fullmatch(str(each))
    ]
    try:
        ipaddress.IPv4Address(resolver)
    except ValueError:
        found.append(f"firewall_resolver is {resolver}: it must be an IPv4 address")
    return found


def open_ports(variant: str, more: Sequence[str]) -> dict[str, list[str]]:
    """Ports open to everybody, by protocol, as nftables writes them: in order, each once."""
    spans: dict[str, list[tuple[int, int]]] = {"tcp": [], "udp": []}
    for text in (*VARIANTS[variant], *more):
        protocol, _, span = text.partition("/")
        first, _, last = span.partition("-")
        spans[protocol].append((int(first), int(last or first)))
    return {protocol: merged(each) for protocol, each in spans.items()}


def merged(spans: Sequence[tuple[int, int]]) -> list[str]:
    """Spans as texts; those that overlap or touch as one, for a set of nftables has no overlaps."""
    whole: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = (whole[-1][0], max(last, whole[-1][1]))
        else:
            whole.append((first, last))
    return [str(first) if first == last else f"{first}-{last}" for first, last in whole]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Mapping[str, Callable[..., object]]:
        """The filters, with the role's prefix."""
        return {"firewall_open_ports": open_ports, "firewall_problems": problems}
