"""How much one device may send: a bucket that empties at a steady rate."""

import time
from collections import OrderedDict
from collections.abc import Callable

LINES_PER_SECOND = 500.0
BURST_LINES = 5000.0
_BYTES_PER_TOKEN = 1024
_MAX_DEVICES = 20_000


class RateLimiter:
    """Says how long each device is to wait. Nothing is refused: waiting holds the device's
    connection back, its own buffer fills, and it says itself what it had to drop.
    """

    def __init__(
        self,
        rate: float = LINES_PER_SECOND,
        burst: float = BURST_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        # When each device's bucket is empty again; in the past: it is.
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def take(self, device: str, size: int) -> float:
        """Counts a line of `size` bytes; the seconds to wait before the next one."""
        now = self._clock()
        cost = (1 + size // _BYTES_PER_TOKEN) / self._rate
        empty_at = max(self._empty_at.get(device, now), now) + cost
        self._empty_at[device] = empty_at
        self._empty_at.move_to_end(device)
        if len(self._empty_at) > _MAX_DEVICES:
            self._empty_at.popitem(last=False)
        return max(0.0, empty_at - now - self._burst / self._rate)
