"""How often what is tried again has failed, and when it may be tried next."""

import time
from dataclasses import dataclass

from gantry.supervisor.backoff import Backoff

# What was left in peace for so long begins at once again, in seconds.
_FORGIVEN_AFTER = 600.0


@dataclass(slots=True)
class _Attempt:
    backoff: Backoff
    last: float
    not_before: float


class Attempts:
    """Counts by key, whatever that stands for."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}

    def wait(self, key: str) -> float:
        """Seconds until this may be tried; 0 or less: now."""
        attempt = self._attempts.get(key)
        if attempt is None:
            return 0.0
        now = time.monotonic()
        if now - attempt.last > _FORGIVEN_AFTER:
            del self._attempts[key]
            return 0.0
        return attempt.not_before - now

    def failed(self, key: str) -> float:
        """It failed: how long to wait now, in seconds."""
        now = time.monotonic()
        attempt = self._attempts.setdefault(key, _Attempt(Backoff(1.0, 300.0), now, now))
        delay = attempt.backoff.next()
        attempt.last = now
        attempt.not_before = now + delay
        return delay

    def forget(self, key: str) -> None:
        """It worked, or is another thing now."""
        self._attempts.pop(key, None)

    def forget_old(self) -> None:
        """Drop what was counted for things that are long gone."""
        now = time.monotonic()
        for key, each in list(self._attempts.items()):
            if now - each.last > _FORGIVEN_AFTER:
                del self._attempts[key]
