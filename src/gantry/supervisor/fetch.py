"""Downloads of images, beside everything else: what runs goes on running meanwhile."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.deltas.door import DeltaFigures, Deltas
from gantry.supervisor.engine import Credentials, Engine, EngineError
from gantry.supervisor.journal import Journal
from gantry.supervisor.pace import PullMeter
from gantry.supervisor.progress import DownloadWay, PullProgress, Received
from gantry.supervisor.room import NoRoomError, is_full
from gantry.supervisor.steps import FetchImage

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2
# Where nothing but bytes has moved, it is told so often, in seconds.
_TELL_EVERY = 1.0


@dataclass(slots=True)
class Download:
    """One image on its way. `percent` and `received` are None while it waits for its turn or its
    next try; the disk was too full for it at the last one when it is `short_of_room`."""

    step: FetchImage
    backoff: Backoff = field(default_factory=lambda: Backoff(2.0, 300.0))
    percent: int | None = None
    received: Received | None = None
    told_at: float = -_TELL_EVERY
    not_before: float = 0.0
    short_of_room: bool = False
    task: asyncio.Task[None] | None = None


class Fetcher:
    """Keeps the wanted downloads going. `changed` is called when one moves or ends; `check_room`
    raises NoRoomError for an image that cannot fit on the disk, and gives the bytes that a pull of
    one fetches, as far as it knows. Where there are `deltas`, only what does not come by one is
    pulled."""

    def __init__(
        self,
        engine: Engine,
        credentials: Callable[[str], Credentials | None],
        journal: Journal,
        changed: Callable[[bool], None],
        check_room: Callable[[str], Awaitable[int | None]],
        deltas: Deltas | None = None,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._journal = journal
        self._changed = changed
        self._check_room = check_room
        self._deltas = deltas
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._downloads: dict[str, Download] = {}

    def progress(self) -> dict[str, int | None]:
        """Percent by image reference, of all that are wanted and not here yet."""
        return {name: each.percent for name, each in self._downloads.items()}

    def received(self) -> dict[str, Received]:
        """Bytes by image reference, of all that are being downloaded."""
        found = ((name, each.received) for name, each in self._downloads.items())
        return {name: received for name, received in found if received is not None}

    @property
    def delta_figures(self) -> DeltaFigures:
        """What came by delta since the supervisor's start."""
        return self._deltas.figures if self._deltas is not None else DeltaFigures()

    @property
    def short_of_room(self) -> bool:
        """Whether the disk is too full for something that is wanted."""
        return any(each.short_of_room for each in self._downloads.values())

    def has_room(self) -> None:
        """Something was removed: what found the disk too full is tried at once."""
        for each in self._downloads.values():
            if each.short_of_room:
                each.not_before = 0.0

    async def want(self, steps: Iterable[FetchImage]) -> float | None:
        """Download exactly these; others are given up. Seconds until a failed one is tried again,
        if any waits for that."""
        wanted = {step.reference: step for step in steps}
        for reference in [name for name in self._downloads if name not in wanted]:
            await self._give_up(reference)
            if self._deltas is not None:
                await self._deltas.forget(reference)
        if self._deltas is not None:
            await self._deltas.tidy(wanted)
        now = time.monotonic()
        waits = []
        for reference, step in wanted.items():
            download = self._downloads.setdefault(reference, Download(step))
            if download.task is not None:
                continue
            if download.not_before > now:
                waits.append(download.not_before - now)
                continue
            download.task = asyncio.create_task(self._fetch(download), name=f"pull {reference}")
        return min(waits, default=None)

    async def beforehand(self, step: FetchImage, sources: tuple[str, ...]) -> None:
        """Have an image here that no application wants, from others that are here, by delta; what
        cannot be had so is somebody else's to pull."""
        if self._deltas is not None:
            await self._deltas.bring_successor(step, self._turns, lambda *_: None, sources)

    def hurry(self) -> None:
        """The network is back: failed downloads need not wait."""
        for each in self._downloads.values():
            each.not_before = 0.0

    async def close(self) -> None:
        """Give up all downloads."""
        for reference in list(self._downloads):
            await self._give_up(reference)

    async def _give_up(self, reference: str) -> None:
        download = self._downloads.pop(reference, None)
        if download is not None and download.task is not None:
            download.task.cancel()
            # Not awaited itself: its end would hide that who waits is cancelled too.
            await asyncio.wait({download.task})

    async def _fetch(self, download: Download) -> None:
        step = download.step
        try:
            if not await self._by_delta(download):
                async with self._turns:
                    size = await self._check_room(step.reference)
                    download.short_of_room = False
                    self._journal.write(f"Downloading image '{step.reference}'", step.service_id)
                    await self._pull(download, size)
                if self._deltas is not None:
                    await self._deltas.forget(step.reference)
            self._journal.write(f"Downloaded image '{step.reference}'", step.service_id)
            download.percent = 100
            # Should the engine not know it by this name now, it is not fetched in a circle.
            download.not_before = time.monotonic() + download.backoff.next()
        except (EngineError, NoRoomError) as error:
            download.short_of_room = isinstance(error, NoRoomError) or is_full(str(error))
            download.percent = download.received = None
            wait = download.backoff.next()
            download.not_before = time.monotonic() + wait
            self._journal.write(
                f"Failed to download image '{step.reference}': {error}; next try in {wait:.0f} s",
                step.service_id,
                is_error=True,
            )
        finally:
            download.task = None
            self._changed(True)

    async def _by_delta(self, download: Download) -> bool:
        """Whether the image came by delta."""
        if self._deltas is None:
            return False

        def moved(percent: int, received: Received) -> None:
            # A delta that is begun anew, or another one, is no step back.
            self._moved(download, max(percent, download.percent or 0), received)

        if not await self._deltas.bring(download.step, self._turns, moved):
            download.received = None
            return False
        download.short_of_room = False
        return True

    async def _pull(self, download: Download, size: int | None) -> None:
        """`size` is what it fetches in bytes, where that is known."""
        progress, meter = PullProgress(), PullMeter()
        self._moved(download, 0, Received(DownloadWay.PULL, 0, size))
        credentials = self._credentials(download.step.reference)
        async with aclosing(self._engine.pull(download.step.reference, credentials)) as messages:
            async for message in messages:
                meter.add(message, time.monotonic())
                # It fetches more where it does not know what it has.
                total = None if size is None else max(size, meter.total)
                received = Received(DownloadWay.PULL, meter.size, total)
                self._moved(download, progress.add(message), received)
        if self._deltas is not None:
            await self._deltas.pace.add(meter.size, meter.seconds)

    def _moved(self, download: Download, percent: int, received: Received) -> None:
        moved = (percent, received) != (download.percent, download.received)
        is_due = time.monotonic() - download.told_at >= _TELL_EVERY
        is_told = percent != download.percent or (moved and is_due)
        download.percent, download.received = percent, received
        if is_told:
            download.told_at = time.monotonic()
            self._changed(False)
