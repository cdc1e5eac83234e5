"""Waiting longer after each failure, never quite as long as the neighbour."""

import random


class Backoff:
    """Delays in seconds that double from `first` to `most`, each with jitter of up to a quarter."""

    def __init__(self, first: float, most: float) -> None:
        self.first = first
        self.most = most
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._failures

    def reset(self) -> None:
        """It worked."""
        self._failures = 0

    def next(self) -> float:
        """It failed: how long to wait now, in seconds."""
        # The exponent is bounded, since a device may be without its api for months.
        delay = min(self.most, self.first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return jitter(delay)


def jitter(delay: float) -> float:
    """A delay between three quarters of this one and all of it, in seconds."""
    return delay * random.uniform(0.75, 1.0)  # noqa: S311 (no secret)
