"""Hears from the api what has ended, and asks for what it may have missed.

The stream tells at once. Every credential is asked about once in CHECK_SECONDS besides, a slice at
a time, so that nothing outlives its end by 30 s even where an announcement was lost. Public URLs
have none: after a gap they are asked about too.
"""

import asyncio
from collections.abc import Callable

from gantry.vpn.api import Api, Change
from gantry.vpn.cuts import Cuts
from gantry.vpn.errors import RefusedError, UnavailableError, VpnError

RETRY_SECONDS = 3.0
CHECK_SECONDS = 15.0
SLICES = 10
MAX_SLICE = 1000
KEY_ENDED = "its key or session has ended"


class Watch:
    """See the module."""

    def __init__(self, api: Api, cuts: Cuts, forget: Callable[[str], None]) -> None:
        self._api = api
        self._cuts = cuts
        self._forget = forget
        self._missed = asyncio.Event()

    async def listen(self) -> None:
        """Act on changes, until cancelled."""
        heard = True
        while True:
            try:
                async for change in self._api.changes(self._missed.set):
                    heard = True
                    self.apply(change)
            except UnavailableError as error:
                if heard:
                    print(error.sentence, flush=True)
                heard = False
            await asyncio.sleep(RETRY_SECONDS)

    def apply(self, change: Change) -> None:
        """What a change ends."""
        if change.credential is not None:
            self._cuts.cut(f"credential:{change.credential}", KEY_ENDED)
        if change.device is None:
            return
        self._forget(change.device)
        if change.public_url is False or change.gone:
            self._switched_off(change.device)
        if change.gone:
            self._cuts.cut(f"device-login:{change.device}", "the device was removed")
            self._cuts.cut(f"device:{change.device}", "the device was removed")

    async def check(self) -> None:
        """Ask about all credentials again and again, until cancelled."""
        while True:
            names = self._cuts.names("credential")
            size = min(MAX_SLICE, max(1, -(-len(names) // SLICES)))
            slices = [names[begin : begin + size] for begin in range(0, len(names), size)]
            # After a gap in the stream all are asked about as fast as the api answers.
            hurry = self._missed.is_set()
            self._missed.clear()
            parts = max(SLICES, len(slices))
            for number in range(parts):
                if number < len(slices):
                    await self._ask(slices[number])
                if not hurry and await self._pause(CHECK_SECONDS / parts):
                    break
            if hurry:
                await self._ask_about_urls()

    async def _ask_about_urls(self) -> None:
        """Switched off while nothing was heard: nothing else would end what is open."""
        for uuid in self._cuts.names("public"):
            try:
                await self._api.public_url(uuid)
            except RefusedError as error:
                if error.status == 404:
                    self._switched_off(uuid)
            except UnavailableError:
                await asyncio.sleep(RETRY_SECONDS)
                self._missed.set()
                return

    def _switched_off(self, uuid: str) -> None:
        self._forget(uuid)
        self._cuts.cut(f"public:{uuid}", "the public URL is switched off")

    async def _pause(self, seconds: float) -> bool:
        """Whether there is reason to begin anew before the time is over."""
        try:
            async with asyncio.timeout(seconds):
                return await self._missed.wait()
        except TimeoutError:
            return False

    async def _ask(self, names: list[str]) -> None:
        try:
            ended = await self._api.check(names)
        except VpnError:
            await asyncio.sleep(RETRY_SECONDS)  # what an api that is away ends, it tells later
            return
        for each in ended:
            self._cuts.cut(f"credential:{each}", KEY_ENDED)
