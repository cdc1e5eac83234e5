"""A restart of the host that something new needs: remembered until it has been, and not for ever.

It belongs to one boot: who has restarted since, for whatever reason, has what is new.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gantry.supervisor.facts import Facts

# So many restarts for the same content: something else changes config.txt at each boot, or the
# restart is none (a virtual device's boot is its host's).
MOST = 3


def boot_id() -> str:
    """Another one at each boot; containers see their host's (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Needed:
    """A restart that has not been yet, and what needs it."""

    reasons: tuple[str, ...]
    # Whether it was tried so often that it would not help.
    in_vain: bool


class Restarts:
    """The memory of restarts. `boot` is this boot's id, `name` theirs in the store."""

    def __init__(self, facts: Facts, boot: str, name: str = "host_restart") -> None:
        self._facts = facts
        self._boot = boot
        self._needed, self._tries = name, f"{name}s"

    async def need(self, reasons: Iterable[str], content: str) -> None:
        """A restart is needed, for this content: of config.txt, or whatever else is new."""
        known = await self.needed()
        every = sorted({*reasons, *(known.reasons if known else ())})
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()
        document = {"boot": self._boot, "reasons": every, "digest": digest}
        await self._facts.put(self._needed, document)

    async def needed(self) -> Needed | None:
        """The restart that is needed; None when there is none."""
        document = await self._facts.get(self._needed)
        if not isinstance(document, dict) or document.get("boot") != self._boot:
            return None
        tries = await self._facts.get(self._tries) or {}
        in_vain = tries.get("digest") == document["digest"] and int(tries.get("count", 0)) >= MOST
        return Needed(tuple(document["reasons"]), in_vain)

    async def begin(self) -> bool:
        """The restart is about to be. It counts before it is: afterwards nobody could. False: it
        cannot be remembered."""
        document = await self._facts.get(self._needed) or {}
        tries = await self._facts.get(self._tries) or {}
        same = tries.get("digest") == document.get("digest")
        count = int(tries.get("count", 0)) + 1 if same else 1
        counted = {"digest": document.get("digest"), "count": count}
        await self._facts.put(self._tries, counted)
        return bool(await self._facts.get(self._tries) == counted)

    async def not_begun(self) -> None:
        """It was refused: it does not count."""
        tries = await self._facts.get(self._tries) or {}
        if int(tries.get("count", 0)) > 1:
            await self._facts.put(self._tries, {**tries, "count": int(tries["count"]) - 1})
        else:
            await self._facts.put(self._tries, None)

    async def settled(self) -> None:
        """The settings are as they must be, and were at the last start: nothing is in vain."""
        if await self.needed() is None and await self._facts.get(self._tries) is not None:
            await self._facts.put(self._tries, None)
            await self._facts.put(self._needed, None)
