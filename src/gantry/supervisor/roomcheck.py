"""Asks, before a download, what has to be fetched, and whether the image will fit."""

import logging
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from gantry.supervisor import room
from gantry.supervisor.config import ConfigError
from gantry.supervisor.engine import Credentials, Engine, EngineError

_LOG = logging.getLogger(__name__)


class RoomCheck:
    """`directory` is on the engine's disk; `context` says whom to trust, `machine` is the engine's
    architecture."""

    def __init__(
        self,
        engine: Engine,
        credentials: Callable[[str], Credentials | None],
        context: Callable[[], ssl.SSLContext],
        directory: Path,
        machine: str,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._context = context
        self._directory = directory
        self._machine = machine

    async def __call__(self, reference: str) -> int | None:
        """Refuse an image that cannot fit; else the bytes that a pull of it fetches. One of which
        nothing can be known is not refused.

        Raises:
            NoRoomError: it cannot.
        """
        # Downloads are rare: what they need is not in memory before the first one.
        from gantry.supervisor.registry import RegistryError, image_layers

        try:
            layers = await image_layers(
                reference, self._credentials(reference), self._context(), self._machine
            )
            missing = room.missing(layers, await self._here())
            await room.check(self._directory, room.needed(missing))
            return sum(missing)
        except (RegistryError, EngineError, ConfigError, OSError) as error:
            _LOG.info("%s: whether it fits is not known: %s", reference, error)
            return None

    async def _here(self) -> list[tuple[str, ...]]:
        """The layers of each image that is here, lowest first."""
        found = []
        for image in await self._engine.images():
            try:
                found.append(await self._engine.layers(str(image["Id"])))
            except EngineError as error:
                # Removed since it was listed.
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
        return found
