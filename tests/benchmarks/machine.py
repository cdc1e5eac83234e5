"""The machine that figures were taken on: a figure without it says little."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

GIB = 1024**2


def describe() -> str:
    """One line: processor, cores, memory, kernel, Docker."""
    memory = _field("/proc/meminfo", "MemTotal").split()
    return ", ".join(
        (
            _field("/proc/cpuinfo", "model name") or platform.machine(),
            f"{os.cpu_count()} cores",
            f"{int(memory[0]) / GIB:.0f} GiB",
            f"Linux {platform.release()}",
            f"Docker {_docker_version()}",
            f"Python {platform.python_version()}",
        )
    )


def load() -> float:
    """Processes that want the processor, as a mean of the last minute."""
    return os.getloadavg()[0]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], unit: str = "s") -> str:
    """The median, and in brackets the least and the greatest: `2.1 s (1.9 to 2.4)`."""
    return f"{median(values):.1f} {unit} ({min(values):.1f} to {max(values):.1f})"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _docker_version() -> str:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
