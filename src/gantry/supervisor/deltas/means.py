"""What bringing an image by delta needs of the device, and how it may fail."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gantry.supervisor import room
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.engine import Credentials, Engine
from gantry.supervisor.pace import Pace
from gantry.supervisor.room import NoRoomError
from gantry.supervisor.storage import Storage


class NoDeltaError(Exception):
    """This image comes otherwise; the message says why. `is_lasting`: the same pair would fail
    again; `is_kept`: after a restart of the supervisor too. `is_in_the_way`: what has come of it
    goes, for the pull needs its room."""

    is_kept = False
    is_in_the_way = False

    def __init__(self, message: str, is_lasting: bool = True) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class NotApplicableError(NoDeltaError):
    """The delta is here whole, and no image comes of it."""

    is_kept = True


class FullError(NoDeltaError):
    """The disk has no room for it."""

    is_in_the_way = True

    def __init__(self, message: str) -> None:
        super().__init__(message, is_lasting=False)


class TryAgainError(Exception):
    """It failed, and may do better; the message says why. `wait`: what the server asked for, in
    seconds. `counts`: whether it is one of the tries that there are."""

    def __init__(self, message: str, wait: float | None = None, counts: bool = True) -> None:
        super().__init__(message)
        self.wait = wait
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Means:
    """What there is. `folder` is where deltas are kept, `turn` whose it is to rebuild, `pace` how
    fast the device downloads."""

    engine: Engine
    config: DeviceConfig
    context: ssl.SSLContext
    credentials: Callable[[str], Credentials | None]
    storage: Storage
    folder: Path
    instance: str
    machine: str
    turn: asyncio.Semaphore
    pace: Pace

    async def check_room(self, needed: int) -> None:
        """See that the disk has so many bytes for it, and its folder.

        Raises:
            FullError: it has not.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await room.check(self.folder, needed)
        except NoRoomError as error:
            raise FullError(str(error)) from error
