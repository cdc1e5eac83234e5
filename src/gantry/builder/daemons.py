"""The engine and the name server for builds: started, waited for, and superintended.

When one of them ends, so does the builder; the container's restart policy starts all anew.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from gantry.builder.container import BRIDGE, BRIDGE_ADDRESS, BRIDGE_NETWORK, ENGINE_GROUP
from gantry.builder.engine import Engine

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class DaemonError(Exception):
    """A daemon did not start or ended; the message says which."""


class Daemon:
    """A child process whose output goes to the builder's own; `groups` are ids of groups that it
    is in beside its first one."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str] | None = None,
        groups: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._groups = groups
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process.

        Raises:
            DaemonError: the program is not installed.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                extra_groups=self._groups,
            )
        except OSError as error:
            raise DaemonError(f"{self._command[0]} cannot be started: {error}") from error

    async def ended(self) -> str:
        """Wait for its end; what to say about it."""
        assert self._process is not None  # noqa: S101 - started first
        code = await self._process.wait()
        return f"{self.name} ended with {code}"

    async def stop(self) -> None:
        """End it, in peace if it hears."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def engine_daemon(socket: Path, cgroup_parent: str, bundle: Path) -> Daemon:
    """dockerd, for builds only: no network but the default bridge, no log driver of its own."""
    command = [
        "dockerd",
        f"--host=unix://{socket}",
        "--pidfile=/run/gantry/dockerd.pid",
        "--exec-root=/run/docker",
        "--storage-driver=overlay2",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent={cgroup_parent}",
        f"--bip={BRIDGE_NETWORK}",
        f"--dns={BRIDGE_ADDRESS}",
        "--max-concurrent-uploads=5",
        "--log-level=warn",
    ]
    return Daemon("dockerd", command, {"SSL_CERT_FILE": str(bundle)}, (ENGINE_GROUP,))


def name_server() -> Daemon:
    """dnsmasq on the bridge: Docker's own name server is on this container's loopback only."""
    command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--bind-dynamic",
        f"--interface={BRIDGE}",
        "--except-interface=lo",
        "--cache-size=1000",
        "--pid-file=",
        "--log-facility=-",
    ]
    return Daemon("dnsmasq", command)


async def wait_ready(engine: Engine, daemon: Daemon) -> None:
    """Until the engine answers.

    Raises:
        DaemonError: it ended, or did not answer within a minute.
    """
    ended = asyncio.create_task(daemon.ended())
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await engine.ping():
                if ended.done():
                    raise DaemonError(f"{ended.result()} at its start: its last lines say why")
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise DaemonError(f"dockerd did not answer within {START_SECONDS:.0f} s") from error
    finally:
        ended.cancel()
