"""Asks, before a download, whether the image will fit."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from gantry.supervisor import room
from gantry.supervisor.config import ConfigError
from gantry.supervisor.engine import Credentials, Engine, EngineError
from gantry.supervisor.registry import RegistryError, image_layers

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

    async def __call__(self, reference: str) -> None:
        """Refuse an image that cannot fit. One of which nothing can be known is not refused.

        Raises:
            NoRoomError: it cannot.
        """
        try:
            layers = await image_layers(
                reference, self._credentials(reference), self._context(), self._machine
            )
            here = [await self._engine.layers(str(e["Id"])) for e in await self._engine.images()]
            await room.check(self._directory, room.needed(layers, here))
        except (RegistryError, EngineError, ConfigError, OSError) as error:
            _LOG.info("%s: whether it fits is not known: %s", reference, error)
