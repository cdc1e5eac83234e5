"""How fast this device downloads, as far as it was seen: of pulls and of deltas alike."""

import math
from collections.abc import Mapping
from typing import Any

from gantry.supervisor.facts import Facts

_FACT = "download_pace"
# Fewer bytes say more of the way there and back than of the line.
_TELLING = 256 * 1024
_RECEIVING = ("Downloading", "Verifying Checksum", "Download complete")


class Pace:
    """Remembers it, over a restart too. Each download counts as much as all before it."""

    def __init__(self, store: Facts) -> None:
        self._store = store
        self._rate: float | None = None

    @property
    def rate(self) -> float | None:
        """Bytes a second; None before the first download."""
        return self._rate

    async def load(self) -> None:
        """Take up what was remembered."""
        found = await self._store.get(_FACT)
        if isinstance(found, int | float) and math.isfinite(found) and found > 0:
            self._rate = float(found)

    async def add(self, size: int, seconds: float) -> None:
        """So many bytes have come in so many seconds."""
        if size < _TELLING or seconds <= 0:
            return
        rate = size / seconds
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        await self._store.put(_FACT, self._rate)


class PullMeter:
    """What one pull has received, from the engine's messages: `size` in bytes, `seconds` from the
    first of them to the last."""

    def __init__(self) -> None:
        # What has come of each, and how much it is in all.
        self._layers: dict[str, tuple[int, int]] = {}
        self._first: float | None = None
        self._last = 0.0

    @property
    def size(self) -> int:
        return sum(come for come, _ in self._layers.values())

    @property
    def total(self) -> int:
        """What it has begun to receive, in bytes. Others of its layers may follow."""
        return sum(total for _, total in self._layers.values())

    @property
    def seconds(self) -> float:
        return 0.0 if self._first is None else self._last - self._first

    def add(self, message: Mapping[str, Any], now: float) -> None:
        """A message, at `now` of the monotonic clock."""
        layer, status = message.get("id"), message.get("status")
        if not isinstance(layer, str) or status not in _RECEIVING:
            return
        self._first = now if self._first is None else self._first
        self._last = now
        detail = message.get("progressDetail") or {}
        come, total = self._layers.get(layer, (0, 0))
        come = max(come, detail.get("current", 0)) if status == "Downloading" else total
        self._layers[layer] = (come, max(total, detail.get("total", 0)))
