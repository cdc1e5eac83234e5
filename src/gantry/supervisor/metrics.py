"""What the device measures of itself, from /proc and /sys, in the family's units and buckets."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_MEGABYTE = 1024 * 1024
_SIOCGIFADDR = 0x8915  # linux/sockios.h
# Flags of IPv6 addresses that are not, no longer, or not for long the device's (linux/if_addr.h):
# temporary, of a failed check, deprecated, tentative.
_PASSING = 0x01 | 0x08 | 0x20 | 0x40
# Interfaces of containers and tunnels are not the device's own.
_NOT_OURS = ("lo", "docker", "br-", "veth", "supervisor", "balena", "resin", "tun", "tap")
# Changes smaller than these are not worth a report: percent, degrees, megabytes.
BUCKETS: Mapping[str, int] = {"cpu_usage": 20, "cpu_temp": 5, "memory_usage": 10}
_FIGURES = (
    *("cpu_usage", "cpu_temp", "cpu_id", "memory_usage", "memory_total"),
    *("storage_usage", "storage_total", "storage_block_device"),
)


class Metrics:
    """Reads figures; the CPU's share is of the time since it was read before."""

    def __init__(self, data_directory: Path) -> None:
        self._data_directory = data_directory
        self.enabled = True
        self._busy = 0
        self._total = 0

    def read(self) -> dict[str, int | str | None]:
        """All that could be read: cpu_usage (%), cpu_temp (°C), memory_* and storage_* (MB). Where
        they are not to be told, None for each: what the api knows is then no longer so."""
        if not self.enabled:
            return dict.fromkeys(_FIGURES)
        found: dict[str, int | str | None] = {}
        with suppress(OSError, ValueError):
            found["cpu_usage"] = self._cpu()
        with suppress(OSError, ValueError):
            found |= _memory()
        with suppress(OSError):
            found |= self._storage()
        with suppress(OSError, ValueError):
            zone = Path("/sys/class/thermal/thermal_zone0/temp")
            found["cpu_temp"] = round(int(zone.read_text()) / 1000)
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("Serial"):
                    found["cpu_id"] = line.partition(":")[2].strip()
        return found

    def _cpu(self) -> int:
        """From the first line of /proc/stat (proc(5)): idle and iowait are the fourth and fifth."""
        fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
        times = [int(each) for each in fields]
        total = sum(times)
        busy = total - times[3] - times[4]
        share = (busy - self._busy) / max(1, total - self._total)
        self._busy, self._total = busy, total
        return round(share * 100)

    def _storage(self) -> dict[str, int | str]:
        status = os.statvfs(self._data_directory)
        total = status.f_blocks * status.f_frsize
        free = status.f_bavail * status.f_frsize
        return {
            "storage_total": total // _MEGABYTE,
            "storage_usage": (total - free) // _MEGABYTE,
            **_block_device(self._data_directory),
        }


def _block_device(directory: Path) -> dict[str, str]:
    """The device that a directory is on, from /proc/self/mountinfo (proc(5)): the last mount that
    is above it; what is no device file has none to tell."""
    here, found, length = str(directory.resolve()), "", -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        above = here == point or here.startswith(point.rstrip("/") + "/")
        if above and len(point) >= length:
            found, length = after.split()[1], len(point)
    return {"storage_block_device": found} if found.startswith("/dev/") else {}


def _memory() -> dict[str, int | str]:
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    total, available = fields["MemTotal"], fields["MemAvailable"]
    return {
        "memory_total": total // _MEGABYTE,
        "memory_usage": (total - available) // _MEGABYTE,
    }


def changed_enough(new: Mapping[str, object], old: Mapping[str, object]) -> bool:
    """Whether any figure has moved by its bucket."""
    for name, bucket in BUCKETS.items():
        before, after = old.get(name), new.get(name)
        if not isinstance(before, int) or not isinstance(after, int):
            if before != after:
                return True
        elif abs(after - before) >= bucket:
            return True
    return False


def _interfaces() -> Iterator[str]:
    for _, name in socket.if_nameindex():
        if not name.startswith(_NOT_OURS):
            yield name


def addresses() -> tuple[str, str]:
    """The device's IP addresses, IPv4 first, and its MAC addresses, each separated by spaces."""
    found: list[str] = []
    macs: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in _interfaces():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
            with suppress(OSError):
                macs.append(Path(f"/sys/class/net/{name}/address").read_text().strip().upper())
    with suppress(OSError, ValueError, IndexError):
        found += global_ipv6(Path("/proc/net/if_inet6").read_text())
    return " ".join(found), " ".join(sorted(set(macs)))


def global_ipv6(table: str) -> list[str]:
    """The device's lasting IPv6 addresses that are valid beyond their link, from the kernel's
    table: address, interface's number, prefix, scope, flags (all hexadecimal), interface."""
    found = []
    for line in table.splitlines():
        address, _, _, scope, flags, name = line.split()
        is_ours = not name.startswith(_NOT_OURS) and int(scope, 16) == 0
        if is_ours and not int(flags, 16) & _PASSING:
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address)))
    return sorted(found)
