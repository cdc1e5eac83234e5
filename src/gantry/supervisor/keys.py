"""Keys of the HTTP API: one that opens everything, and one for each application.

As with the family, an application's key opens what is its own and what concerns the whole device,
and nothing of another application. Keys are in the store; containers get theirs by the label
`io.balena.features.supervisor-api`.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor.store import Store

_FACT = "supervisor_keys"
# Until there were keys of applications, all had this one.
_OLDER_FACT = "supervisor_key"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key opens: one application, or with None all of them."""

    app_id: int | None = None

    def covers(self, app_id: int) -> bool:
        """Whether this application may be asked about and acted upon."""
        return self.app_id is None or self.app_id == app_id


EVERYTHING = Scope()


class KeyRing:
    """The keys of one device.

    `inherited` is the key that every application had with an older supervisor: the first to ask
    keeps it, so that the only application of a device is not started anew for a key.
    """

    def __init__(
        self,
        store: Store,
        everything: str = "",
        applications: Mapping[int, str] | None = None,
        inherited: str | None = None,
    ) -> None:
        self._store = store
        self._everything = everything or _new_key()
        self._applications = dict(applications or {})
        self._inherited = inherited

    @property
    def applications(self) -> dict[int, str]:
        """The key of each application, by its id."""
        return dict(self._applications)

    @property
    def everything(self) -> str:
        """The key that opens everything: the api is told it, which calls by the tunnel."""
        return self._everything

    def scope_of(self, key: str) -> Scope | None:
        """What this key opens; None for a key that is nobody's. Takes as long for every key."""
        found = EVERYTHING if _same(key, self._everything) else None
        for app_id, each in self._applications.items():
            if _same(key, each):
                found = Scope(app_id)
        return found

    def provide(self, app_ids: Iterable[int]) -> bool:
        """Have a key for each of these applications, and for no other; whether one was made or
        forgotten, which is to be saved."""
        wanted = set(app_ids)
        before = self._applications
        self._applications = {each: key for each, key in before.items() if each in wanted}
        for app_id in sorted(wanted - set(before)):
            self._applications[app_id] = self._inherited or _new_key()
            self._inherited = None
        return self._applications != before

    async def regenerate(self, scope: Scope) -> str:
        """Another key for whoever has this scope; the old one opens nothing from now on."""
        key = _new_key()
        if scope.app_id is None:
            self._everything = key
        else:
            self._applications[scope.app_id] = key
        await self.save()
        return key

    async def save(self) -> None:
        """Write all keys into the store."""
        applications = {str(app_id): key for app_id, key in self._applications.items()}
        document = {
            "everything": self._everything,
            "applications": applications,
            "inherited": self._inherited,
        }
        await self._store.put(_FACT, document)


async def recall_keys(store: Store) -> KeyRing:
    """The device's keys; new ones where there are none, or where they cannot be read."""
    document = await store.get(_FACT)
    if isinstance(document, dict):
        ring = _read(store, document)
        if not document.get("everything"):
            await ring.save()
        return ring
    older = await store.get(_OLDER_FACT)
    ring = KeyRing(store, inherited=older if isinstance(older, str) else None)
    await ring.save()
    await store.put(_OLDER_FACT, None)
    return ring


def _read(store: Store, document: Mapping[str, Any]) -> KeyRing:
    applications = document.get("applications")
    return KeyRing(
        store,
        str(document.get("everything") or ""),
        {
            int(app_id): str(key)
            for app_id, key in (applications if isinstance(applications, dict) else {}).items()
            if app_id.isdecimal() and key
        },
        document.get("inherited"),
    )


def _new_key() -> str:
    return secrets.token_hex(16)


def _same(given: str, key: str) -> bool:
    """In constant time; a key that is empty is nobody's."""
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())
