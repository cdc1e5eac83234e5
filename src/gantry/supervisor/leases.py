"""Leases: update locks that are taken over HTTP, and end by themselves, whatever the clock does."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor.facts import Facts

LONGEST_LEASE = 24 * 3600.0  # seconds


class LeaseError(ValueError):
    """A lease that cannot be given, or is not there; the message says why."""


@dataclass(slots=True)
class Lease:
    """Who locked an application when, in seconds since the epoch, and for how long."""

    id: str
    app_id: int
    holder: str
    since: float
    seconds: float
    # Of the clock that never jumps, so that setting the time makes no lease eternal.
    ends: float

    @property
    def expires(self) -> float:
        """When it ends, in seconds since the epoch."""
        return time.time() + self.ends - time.monotonic()


def new_lease(app_id: int, seconds: float, holder: str) -> Lease:
    """A lease from now on.

    Raises:
        LeaseError: the term is not one.
    """
    _check_term(seconds)
    ends = time.monotonic() + seconds
    return Lease(secrets.token_hex(8), app_id, holder, time.time(), seconds, ends)


class Leases:
    """Those of a device. `open` comes first."""

    def __init__(self, store: Facts) -> None:
        self._store = store
        self._leases: dict[str, Lease] = {}

    async def open(self) -> None:
        """Take up those of before."""
        for document in await self._store.get("leases") or ():
            lease = _read(document)
            if lease is not None:
                self._leases[lease.id] = lease

    def app_ids(self) -> list[int]:
        """Applications of which there are leases, or were until now."""
        return sorted({each.app_id for each in self._leases.values()})

    def of_application(self, app_id: int) -> tuple[Lease, ...]:
        """The leases of an application."""
        now = time.monotonic()
        for lease in [each for each in self._leases.values() if each.ends <= now]:
            del self._leases[lease.id]
        return tuple(each for each in self._leases.values() if each.app_id == app_id)

    async def give(self, lease: Lease) -> None:
        """It holds."""
        self._leases[lease.id] = lease
        await self._save()

    async def renew(self, lease_id: str, seconds: float) -> Lease:
        """Begin a lease's term anew, from now.

        Raises:
            LeaseError: there is no such lease (any more), or the term is not one.
        """
        _check_term(seconds)
        lease = self._leases.get(lease_id)
        if lease is None or lease.ends <= time.monotonic():
            raise LeaseError(f"there is no lease {lease_id[:40]!r}: it ended, take another")
        lease.seconds, lease.ends = seconds, time.monotonic() + seconds
        await self._save()
        return lease

    async def release(self, lease_id: str) -> bool:
        """End a lease; False when there was none."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return False
        await self._save()
        return lease.ends > time.monotonic()

    async def _save(self) -> None:
        now, clock = time.monotonic(), time.time()
        documents = [
            {
                "id": each.id,
                "app_id": each.app_id,
                "holder": each.holder,
                "since": each.since,
                "seconds": each.seconds,
                "expires": clock + each.ends - now,
            }
            for each in self._leases.values()
            if each.ends > now
        ]
        await self._store.put("leases", documents or None)


def _check_term(seconds: float) -> None:
    if not 0 < seconds <= LONGEST_LEASE:
        raise LeaseError(f"a lease of {seconds:g} s: give more than 0 and at most 86400")


def _read(document: Mapping[str, Any]) -> Lease | None:
    """A lease of before the restart, for what is left of it. Should the clock have been set back
    meanwhile, that is its whole term at most."""
    try:
        seconds = min(float(document["seconds"]), LONGEST_LEASE)
        left = min(float(document["expires"]) - time.time(), seconds)
        lease = Lease(
            str(document["id"]),
            int(document["app_id"]),
            str(document["holder"]),
            float(document["since"]),
            seconds,
            time.monotonic() + left,
        )
    except (KeyError, TypeError, ValueError):
        return None
    return lease if left > 0 else None
