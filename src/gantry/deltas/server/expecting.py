"""What is to be expected of a delta that is not made yet, from what the last ones took. Pure."""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# So many deltas are looked back at.
REMEMBERED = 32
# Where all took less, in seconds, they say nothing of the speed: it was all beginnings.
_SHORT = 2.0
# One that is so many times smaller says nothing of a larger one: a machine that is busy takes
# seconds for a few bytes, and by that a large one would take weeks.
_REACH = 4
# From this percentage on the progress tells something.
_TELLING = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """A delta that was made: its bytes, those of a pull, and the seconds that it took."""

    size: int
    whole: int
    seconds: float


class History:
    """The last deltas that were made, the oldest first."""

    def __init__(self, taken: Iterable[Taken] = ()) -> None:
        self._taken = deque(taken, maxlen=REMEMBERED)

    def add(self, taken: Taken) -> None:
        """One more was made."""
        self._taken.append(taken)

    def seconds(self, whole: int) -> float | None:
        """How long it takes to make a delta instead of a pull of `whole` bytes; None: unknown."""
        comparable = self._comparable(whole)
        if any(each.seconds >= _SHORT for each in comparable):
            took = sum(each.seconds for each in comparable)
            return 1.0 + whole * took / (sum(each.whole for each in comparable) or 1)
        if any(2 * each.whole >= whole for each in comparable):
            return _SHORT
        return None

    def size(self, whole: int) -> int | None:
        """How many bytes a delta instead of a pull of `whole` bytes has; None: unknown."""
        comparable = self._comparable(whole)
        total = sum(each.whole for each in comparable)
        return whole * sum(each.size for each in comparable) // total if total else None

    def _comparable(self, whole: int) -> list[Taken]:
        """Those that were made instead of pulls not much smaller than this one."""
        return [each for each in self._taken if _REACH * each.whole >= whole]


def begins(working: Sequence[float], waiting: Iterable[float], workers: int) -> float:
    """In how many seconds one of `workers` is free for a job behind these: those that are worked on
    take so many seconds on, and those that wait before it so many each."""
    free = [*working, *[0.0] * (workers - len(working))]
    heapq.heapify(free)
    for each in waiting:
        heapq.heapreplace(free, free[0] + each)
    return free[0]


def seconds_left(expected: float | None, elapsed: float, percent: int) -> float | None:
    """How long a delta takes on that is at `percent` after `elapsed` seconds, and was expected to
    take so many; None: unknown.

    The progress is not even, so it counts only where there is no history, or the history was wrong.
    """
    if expected is not None and elapsed < expected:
        return expected - elapsed
    if percent >= _TELLING:
        return max(elapsed * (100 - percent) / percent, elapsed / 10)
    return None if expected is None else max(1.0, elapsed / 10)
