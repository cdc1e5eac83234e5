"""Keeps one openvpn process: starts it, reads what it prints, starts it again when it ends."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gantry.vpn.config import Config
from gantry.vpn.management import MAX_LINE_BYTES, ClientNotice, Management, ManagementError
from gantry.vpn.openvpn_conf import openvpn_conf

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
# A run that lasted so long was none that fails at its start.
GOOD_RUN_SECONDS = 60.0
START_SECONDS = 20.0
STOP_SECONDS = 5.0
# openvpn has one thread: while it answers, it serves.
ASK_SECONDS, ANSWER_SECONDS = 10.0, 30.0
# The balancer's checks, and ends that are told in our own words.
NOISE = (
    "TCP connection established with",
    "Connection reset, restarting",
    "SIGUSR1[soft,connection-reset]",
    "SIGTERM[soft,",
    "Peer Connection Initiated",
    "peer info: ",
)


@dataclass(eq=False)
class Run:
    """One openvpn process. `boot` names it: after it, none of its connections is there any more."""

    management: Management
    boot: str = field(default_factory=lambda: uuid.uuid4().hex)


class Listener(Protocol):
    """Who is told of openvpn's runs and of its clients."""

    def started(self, run: Run) -> None:
        """openvpn runs and can be logged in to."""

    def noticed(self, run: Run, notice: ClientNotice) -> None:
        """Something about a client."""

    def ended(self, run: Run) -> None:
        """All of its connections are gone."""


class Keeper:
    """See the module. `run` is what serves now, None while there is nothing."""

    def __init__(
        self, config: Config, listener: Listener, say: Callable[[str], None] = print
    ) -> None:
        self._config = config
        self._listener = listener
        self._say = say
        self.run: Run | None = None

    async def keep(self) -> None:
        """Until cancelled; then openvpn is ended."""
        folder = self._config.run
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket, conf = folder / "openvpn.sock", folder / "openvpn.conf"
        conf.write_text(openvpn_conf(self._config, socket))
        pause = FIRST_PAUSE_SECONDS
        while True:
            begun = time.monotonic()
            socket.unlink(missing_ok=True)
            await self._once(socket, conf)
            lasted = time.monotonic() - begun
            pause = FIRST_PAUSE_SECONDS if lasted > GOOD_RUN_SECONDS else pause
            self._say(f"openvpn ended after {lasted:.0f} s: it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _once(self, socket: Path, conf: Path) -> None:
        connected: asyncio.Future[Management] = asyncio.get_running_loop().create_future()

        def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if connected.done():
                writer.close()
            else:
                connected.set_result(Management(reader, writer))

        server = await asyncio.start_unix_server(on_connection, socket, limit=MAX_LINE_BYTES)
        async with server:
            process = await asyncio.create_subprocess_exec(
                "openvpn",
                "--config",
                str(conf),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=MAX_LINE_BYTES,
            )
            output = asyncio.create_task(self._print(process))
            try:
                await self._serve(process, connected)
            finally:
                await _end(process)
                await asyncio.gather(output, return_exceptions=True)

    async def _serve(
        self, process: asyncio.subprocess.Process, connected: asyncio.Future[Management]
    ) -> None:
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait(
                (ended, connected), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not connected.done():
                self._say("openvpn did not come up: what it printed says why")
                return
            run = Run(connected.result())
            self.run = run
            self._listener.started(run)
            watch = asyncio.create_task(self._watch(run))
            try:
                await run.management.run(lambda notice: self._listener.noticed(run, notice))
            except ManagementError as error:
                self._say(str(error))
            finally:
                watch.cancel()
                self.run = None
                run.management.close()
                self._listener.ended(run)
        finally:
            ended.cancel()

    async def _watch(self, run: Run) -> None:
        """End a run in which openvpn does not answer any more."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            try:
                await asyncio.wait_for(run.management.send("pid"), ANSWER_SECONDS)
            except TimeoutError:
                self._say(f"openvpn has not answered for {ANSWER_SECONDS:g} s: it is ended")
                run.management.close()
                return

    async def _print(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout  # noqa: S101 - a pipe, as asked for
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # longer than anything that openvpn has to say
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text and not any(each in text for each in NOISE):
                self._say(f"openvpn: {text}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
