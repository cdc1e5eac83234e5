"""Limits of builds, of memory and of processes: one control group for each application.

BuildKit has no memory limit of its own, and a RUN step's cgroup parent is part of its cache key:
so the group's name must be the same from push to push. It is at the root of the host's hierarchy
and not under the builder's container, whose path changes whenever it is made anew. Both versions
of control groups are served (https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

import contextlib
import os
import signal
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Processes and threads of one build. Without a bound a step that forks for ever takes all of the
# host's; builds of many cores have some hundreds.
PIDS_LIMIT = 8192


class CgroupError(Exception):
    """Control groups cannot be made; the message says why."""


class BuildCgroups:
    """The groups under `/<name>`."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        self.name = name
        self._root = root
        self._unified = (root / "cgroup.controllers").is_file()
        self._kills: dict[str, int] = {}

    @property
    def parent(self) -> str:
        """What the engine takes as --cgroup-parent."""
        return f"/{self.name}"

    def prepare(self) -> None:
        """Make the parent group.

        Raises:
            CgroupError: the hierarchy is not mounted writable.
        """
        try:
            folder = self._memory(self.parent)
            folder.mkdir(exist_ok=True)
            if self._unified:
                for each in (self._root, folder):
                    (each / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        except OSError as error:
            raise CgroupError(
                f"no control group can be made ({error}): the builder's container needs "
                "--cgroupns=host and a writable /sys/fs/cgroup"
            ) from error

    def limited(self, application_id: int, memory_bytes: int) -> str:
        """The application's group with its limits, swap included; the path for --cgroup-parent."""
        path = f"{self.parent}/application-{application_id}"
        folder = self._memory(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._unified:
                (folder / "memory.max").write_text(str(memory_bytes))
                self._try_write(folder / "memory.swap.max", "0")
                self._try_write(folder / "pids.max", str(PIDS_LIMIT))
                self._kills[path] = self._field(folder / "memory.events", "oom_kill")
            else:
                # memsw may never be lower than the limit: lift it, set the limit, lower it.
                self._try_write(folder / "memory.memsw.limit_in_bytes", "-1")
                (folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
                self._try_write(folder / "memory.memsw.limit_in_bytes", str(memory_bytes))
                self._try_write(folder / "memory.max_usage_in_bytes", "0")
                if (pids := self._root / "pids").is_dir():
                    (pids / path[1:]).mkdir(parents=True, exist_ok=True)
                    self._try_write(pids / path[1:] / "pids.max", str(PIDS_LIMIT))
        except OSError as error:
            raise CgroupError(f"the memory limit of {path} cannot be set: {error}") from error
        return path

    def ran_out(self, path: str) -> bool:
        """Whether the limit was met since `limited`.

        Version 1 counts kills where the killed process was, in a group that is gone by then:
        there the highest use is looked at. That is met by cached files too, which are given up
        without a kill: ask this only of a build that was killed.
        """
        folder = self._memory(path)
        if self._unified:
            return self._field(folder / "memory.events", "oom_kill") > self._kills.get(path, 0)
        with contextlib.suppress(OSError, ValueError):
            highest = int((folder / "memory.max_usage_in_bytes").read_text())
            return highest >= 0.98 * int((folder / "memory.limit_in_bytes").read_text())
        return False

    def kill(self, path: str) -> None:
        """Kill all that still runs in the group."""
        for procs in self._memory(path).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                for pid in procs.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> None:
        """Remove all groups, the engine's too; those in use stay."""
        for hierarchy in [self._root] if self._unified else self._root.iterdir():
            top = hierarchy / self.name
            if top.is_dir() and not hierarchy.is_symlink():
                for folder, _, _ in os.walk(top, topdown=False):
                    with contextlib.suppress(OSError):
                        Path(folder).rmdir()

    def _memory(self, path: str) -> Path:
        base = self._root if self._unified else self._root / "memory"
        return base / path.removeprefix("/")

    @staticmethod
    def _try_write(path: Path, value: str) -> None:
        """Swap accounting may be switched off in the kernel."""
        with contextlib.suppress(OSError):
            path.write_text(value)

    @staticmethod
    def _field(path: Path, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    return int(value)
        return 0
