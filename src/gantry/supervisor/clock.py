"""The wall clock may jump: a Pi without a battery-backed clock boots in the past, and a wrong time
server leads years astray. All waiting here is by the monotonic clock; but what failed for the
time's sake (a certificate that is not valid yet) is tried again as soon as the time is right."""

import asyncio
import time

# In seconds: how often it is looked at, and what is no correction of a clock any more.
_LOOK_EVERY = 5.0
_JUMP = 2.0


def _offset() -> float:
    return time.time() - time.monotonic()


class WallClock:
    """Knows whether the wall clock jumped. A machine that was suspended counts as well: the
    monotonic clock stands still meanwhile."""

    def __init__(self) -> None:
        self._offset = _offset()

    def jump(self) -> float:
        """By how many seconds it jumped since the last question; 0 when it did not."""
        before, self._offset = self._offset, _offset()
        difference = self._offset - before
        return difference if abs(difference) > _JUMP else 0.0

    async def wait_for_jump(self) -> float:
        """By how many seconds it jumped, once it did."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if difference := self.jump():
                return difference


async def sleep(seconds: float) -> None:
    """Sleep for so long, or until the wall clock jumps."""
    try:
        async with asyncio.timeout(seconds):
            await WallClock().wait_for_jump()
    except TimeoutError:
        return
