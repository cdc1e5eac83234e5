"""What the servers take while they are under load: memory and processor time of process trees."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of memory, pages that processes share counted once; seconds of processor time."""

    memory: int
    processor: float


def look(roots: Mapping[str, int]) -> dict[str, Usage]:
    """What each server takes now, by name; `roots` has the id of its first process."""
    parents = _parents()
    return {name: _usage(_family(root, parents)) for name, root in roots.items()}


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = int(fields[1])
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat (proc(5)) from the third on; none when it is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _family(root: int, parents: Mapping[int, int]) -> set[int]:
    family = {root}
    while more := {each for each, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _usage(processes: Iterable[int]) -> Usage:
    memory, ticks = 0, 0
    for each in processes:
        if fields := _stat(each):
            memory += _memory(each, fields)
            # Its own, and that of those which it has waited for and which are seen no more.
            ticks += sum(int(field) for field in fields[11:15])
    return Usage(memory, ticks / _TICKS)


def _memory(process: int, fields: list[str]) -> int:
    """Its proportional share (proc(5), smaps_rollup); all that is resident where only that may be
    read."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(fields[21]) * _PAGE
