"""Threads for what devices write, and for the VPN, apart from those of all other requests.

A write waits for PostgreSQL's disk, and a slow disk lets writes pile up. With threads and
connections of their own number, they leave the rest to who only reads: polls go on meanwhile.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread

# They share one interpreter: more of them write no more, and polls wait for it longer.
WRITERS = 4
# A server of the VPN may come back with thousands of devices at once: they take turns at these.
TUNNELLERS = 2
# More requests at work than this are more than one processor does side by side.
BUSY = 6

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Threads:
    """Where requests wait for a thread. Made within the event loop or before it runs."""

    def __init__(self) -> None:
        self._writers = CapacityLimiter(WRITERS)
        self._tunnellers = CapacityLimiter(TUNNELLERS)

    async def write(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """What `work` returns or raises; it runs in a thread of those for writes."""
        return await to_thread.run_sync(work, *arguments, limiter=self._writers)

    async def tunnel(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """As `write`, in a thread of those for what the VPN's servers ask and tell."""
        return await to_thread.run_sync(work, *arguments, limiter=self._tunnellers)

    def are_busy(self) -> bool:
        """Whether more requests are worked on than one processor does side by side."""
        others = to_thread.current_default_thread_limiter().borrowed_tokens
        own = self._writers.borrowed_tokens + self._tunnellers.borrowed_tokens
        return others + own > BUSY
