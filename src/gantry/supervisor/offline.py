"""A release that came without network, beside the target that the api gave.

It holds until the api's target for its application changes or names it: an api that still says what
it said before the bundle came has not been asked, and does not take the device back.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gantry.contracts.bundle import BundleError
from gantry.supervisor import wire
from gantry.supervisor.journal import Journal
from gantry.supervisor.store import Store

_LOG = logging.getLogger(__name__)
_FACT = "offline_release"


@dataclass(frozen=True, slots=True)
class OfflineRelease:
    """A release by bundle. `app` is in the family's form of version 3, with one release.

    `over` is the commit that the api named when the bundle came; None where it named none.
    `for_device`: its variables are this device's own.
    """

    app_uuid: str
    app_id: int
    commit: str
    app: Mapping[str, Any]
    for_device: bool
    over: str | None


def overlay(document: Mapping[str, Any], uuid: str, held: OfflineRelease) -> dict[str, Any] | None:
    """The api's target with the offline release in it; None when that no longer holds.

    Raises:
        wire.WireError: the target is not of the form that it should have.
    """
    device = wire.mapping(document.get(uuid), "target")
    apps = dict(wire.mapping(device.get("apps"), "target: apps"))
    key = _key(apps, held)
    named = named_commit(apps[key]) if key is not None else None
    if named != held.over or (key is None and apps):
        return None
    before = wire.mapping(apps.pop(key), "app") if key is not None else {}
    app = dict(held.app)
    if not held.for_device:
        app["releases"] = _with_known_variables(app["releases"], before.get("releases"))
    return {**document, uuid: {**device, "apps": {**apps, held.app_uuid: app}}}


def _key(apps: Mapping[str, Any], held: OfflineRelease) -> str | None:
    """Under which name the target has the application: preloaded ones may have their number."""
    return next((key for key in (held.app_uuid, str(held.app_id)) if key in apps), None)


def named_commit(app: object) -> str | None:
    """The release that a target names for an application."""
    releases = wire.mapping(wire.mapping(app, "app").get("releases"), "releases")
    return next(iter(releases), None)


def _with_known_variables(releases: object, before: object) -> dict[str, Any]:
    """A bundle for the whole fleet does not know the device's own variables: those of services
    that the device has already are kept, and new ones come from the bundle."""
    known: dict[str, dict[str, str]] = {}
    for release in wire.mapping(before, "releases").values():
        services = wire.mapping(wire.mapping(release, "release").get("services"), "services")
        for name, service in services.items():
            fields = wire.mapping(service, f"service {name}")
            known[name] = wire.texts(fields.get("environment"), "environment")
    found: dict[str, Any] = {}
    for commit, release in wire.mapping(releases, "releases").items():
        services = wire.mapping(wire.mapping(release, "release").get("services"), "services")
        merged = {}
        for name, service in services.items():
            fields = wire.mapping(service, f"service {name}")
            own = wire.texts(fields.get("environment"), "environment")
            merged[name] = {**fields, "environment": {**own, **known.get(name, {})}}
        found[commit] = {**release, "services": merged}
    return found


class OfflineReleases:
    """Keeps the offline release, and lays it over targets.

    `is_loading` while there are images that a bundle counts on and the target does not yet want.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.is_loading = False

    async def held(self) -> OfflineRelease | None:
        """The one that holds."""
        kept = await self._store.get(_FACT)
        if not isinstance(kept, dict):
            return None
        try:
            return OfflineRelease(**kept)
        except TypeError:
            _LOG.warning("the stored offline release is of another version, and is forgotten")
            await self._store.put(_FACT, None)
            return None

    async def hold(self, release: OfflineRelease) -> None:
        """From now on this one, whatever happens to the power.

        Raises:
            BundleError: it cannot be remembered.
        """
        await self._store.put(_FACT, asdict(release))
        if await self.held() != release:
            raise BundleError("the data partition cannot be written: it is full or read-only")
        await self._store.flush()

    async def over(self, document: Mapping[str, Any], uuid: str) -> Mapping[str, Any]:
        """The target that is to be followed.

        Raises:
            wire.WireError: the target is not of the form that it should have.
        """
        held = await self.held()
        if held is None:
            return document
        return overlay(document, uuid, held) or document

    async def settle(self, document: Mapping[str, Any], uuid: str) -> None:
        """Forget an offline release that holds no more, now that this target is remembered.

        Raises:
            wire.WireError: the target is not of the form that it should have.
        """
        held = await self.held()
        if held is not None and overlay(document, uuid, held) is None:
            await self._store.put(_FACT, None)
            self._journal.write(f"Release {held.commit} came offline; now the api's target holds")

    def removable(self, registries: Collection[str]) -> Collection[str] | None:
        """Registries whose images may be removed when nothing wants them. None while a bundle is
        being loaded, until its release is the target: no image may go then, from wherever it is,
        for a bundle counts on the layers of all."""
        return None if self.is_loading else registries
