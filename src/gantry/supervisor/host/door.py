"""The way to the host's own program behind its socket (roles/supervisor, `gantry_supervisor door`).

A request is a line of JSON, the answer another; after that of `journal` follow the journal's bytes.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gantry.supervisor.host.doorway import HostAwayError, HostError

_PIECE = 64 * 1024
# In seconds. A slow board takes some until its program runs.
_PATIENCE = 60.0


class Door:
    """The host's socket. Each request is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Have something done; what the host says to it.

        Raises:
            HostAwayError: nobody answers.
            HostError: the host refuses.
        """
        async with self.held(do, **request) as (answer, _reader):
            return answer

    async def stream(self, do: str, **request: Any) -> AsyncGenerator[bytes, None]:
        """What follows the answer, as it comes and no faster than it is taken.

        Raises:
            HostAwayError, HostError: as `ask`.
        """
        async with self.held(do, **request) as (_answer, reader):
            try:
                while piece := await reader.read(_PIECE):
                    yield piece
            except OSError as error:
                raise HostError(f"the host broke off {do}: {error}") from error

    @asynccontextmanager
    async def held(
        self, do: str, **request: Any
    ) -> AsyncIterator[tuple[dict[str, Any], asyncio.StreamReader]]:
        """The answer, with the connection held open: what goes on for as long ends with it."""
        reader, writer = await self._connect()
        try:
            yield await _exchange(reader, writer, {"do": do, **request}), reader
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            # The limit is what is read ahead: the host's side waits beyond that.
            return await asyncio.open_unix_connection(str(self.path), limit=_PIECE)
        except OSError as error:
            raise HostAwayError(
                f"the host's door {self.path} is shut ({error.strerror or error}): the role "
                "supervisor opens it (gantry-host.socket)"
            ) from error


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Mapping[str, Any]
) -> dict[str, Any]:
    do = request["do"]
    try:
        async with asyncio.timeout(_PATIENCE):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        answer = json.loads(line) if line.strip() else {}
    except (OSError, TimeoutError, ValueError) as error:
        raise HostError(f"the host did not answer to {do}: {error or 'too slow'}") from error
    if isinstance(answer, dict) and "error" in answer:
        raise HostError(f"the host refuses {do}: {answer['error']}")
    found = answer.get("ok") if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise HostError(f"the host did not answer to {do}: see journalctl -t gantry-host there")
    return found
