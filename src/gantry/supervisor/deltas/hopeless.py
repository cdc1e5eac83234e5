"""Pairs of images of which no delta is to be had: not asked for again.

What could not be applied here is remembered over a restart too, until one of its source images is
gone, so that the pair cannot come again, or another supervisor runs, which may do better.
"""

from collections.abc import Collection
from typing import Any

from gantry.supervisor import VERSION
from gantry.supervisor.facts import Facts

_FACT = "hopeless_deltas"
# So many are remembered; the oldest go first.
MOST = 64

# The image that is to come, and those that it would have been made from, sorted.
Pair = tuple[str, ...]


class Hopeless:
    """The pairs. `load` comes before all else."""

    def __init__(self, store: Facts) -> None:
        self._store = store
        # Whether it is remembered over a restart.
        self._pairs: dict[Pair, bool] = {}

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._pairs

    async def load(self) -> None:
        """Take up what was remembered; what another version of the supervisor wrote is forgotten,
        and so is what makes no sense."""
        found = await self._store.get(_FACT)
        if isinstance(found, dict) and found.get("version") == VERSION:
            pairs = found.get("pairs")
            for each in pairs[-MOST:] if isinstance(pairs, list) else ():
                if isinstance(each, list) and all(isinstance(name, str) for name in each):
                    self._pairs[tuple(each)] = True
        elif found is not None:
            await self._store.put(_FACT, None)

    async def add(self, pair: Pair, is_kept: bool, here: Collection[str]) -> None:
        """Of this pair there is none; `is_kept`: also after a restart. `here` are the images that
        the engine has."""
        before = self._kept()
        self._pairs = {
            each: kept
            for each, kept in self._pairs.items()
            if all(name in here for name in each[1:])
        }
        self._pairs[pair] = is_kept
        while len(self._pairs) > MOST:
            del self._pairs[next(iter(self._pairs))]
        if (kept := self._kept()) != before:
            document: dict[str, Any] = {"version": VERSION, "pairs": kept}
            await self._store.put(_FACT, document if kept else None)

    def _kept(self) -> list[list[str]]:
        return [list(each) for each, kept in self._pairs.items() if kept]
