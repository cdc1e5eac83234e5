"""The application of one bundle: it is verified, its images are loaded, its release is aimed at."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gantry.contracts.bundle import FORCE, SUFFIX
from gantry.supervisor import bundle_checks, bundle_load, trial, wire
from gantry.supervisor.bundle import Bundle, image_facts, open_bundle, target_app
from gantry.supervisor.bundle_folder import Progress, Stage
from gantry.supervisor.bundles import Holder
from gantry.supervisor.engine import Engine
from gantry.supervisor.journal import Journal
from gantry.supervisor.offline import OfflineRelease, OfflineReleases, named_commit
from gantry.supervisor.settings import Settings
from gantry.supervisor.state import read_image
from gantry.supervisor.store import Store


class Applying:
    """Applies a bundle, and says in `progress` how far it is. `holder` is who holds the device at
    the moment."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        offline: OfflineReleases,
        journal: Journal,
        holder: Callable[[], Holder | None],
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._offline = offline
        self._journal = journal
        self._holder = holder
        self._progress = progress

    async def apply(self, path: Path, holder: Holder) -> tuple[str, str]:
        """What was done, and the commit of the release.

        Raises:
            BundleError: the bundle is not for this device, or damaged.
            OSError: it cannot be read.
            EngineError: the engine failed; it may be tried again.
        """
        await self._progress.begin(path.name)
        bundle = await asyncio.to_thread(open_bundle, path)
        index = bundle.index
        self._progress.commit(index.commit)
        fit = await self._fit(holder)
        forced = path.name.removesuffix(SUFFIX).endswith(FORCE)
        bundle_checks.check_fit(index, fit, forced)
        if bundle_checks.is_here_already(index, fit):
            return f"release {index.commit} is what the device has already", index.commit
        self._journal.write(f"Bundle {path.name}: verifying release {index.commit}")
        await asyncio.to_thread(bundle.verify, self._read_so_far(index.payload))
        app = await asyncio.to_thread(target_app, bundle)
        # What the release has in common with what is here must not be cleaned away meanwhile.
        self._offline.is_loading = True
        try:
            sources = await self._load(bundle, holder)
            await self._switch(bundle, app, fit, sources)
        finally:
            self._offline.is_loading = False
        return f"release {index.commit} replaces what ran", index.commit

    def _read_so_far(self, total: int) -> Callable[[int], bool]:
        loop = asyncio.get_running_loop()

        def done(read: int) -> bool:
            self._progress.percent(50 * read // max(1, total))
            return not loop.is_closed()

        return done

    async def _fit(self, holder: Holder) -> bundle_checks.Fit:
        config = holder.config
        document = await self._store.get("target") or {}
        document = await self._offline.over(document, str(config.uuid))
        device = wire.mapping(document.get(str(config.uuid)), "target")
        apps: dict[str, int] = {}
        releases: dict[int, tuple[int, str]] = {}
        for uuid, app in wire.mapping(device.get("apps"), "apps").items():
            number = wire.number(app.get("id"), f"app {uuid}: id")
            apps[uuid] = number
            for commit, release in wire.mapping(app.get("releases"), "releases").items():
                releases[number] = (int(release.get("id") or 0), commit)
        domain = (config.api_endpoint or "").partition("://")[2].partition(".")[2]
        registries = {config.registry_endpoint or f"registry.{domain}"}
        return bundle_checks.Fit(
            uuid=str(config.uuid),
            fleet_id=config.application_id,
            registries=frozenset(registries),
            apps=apps,
            releases=releases,
            given_up=await self._given_up(),
        )

    async def _given_up(self) -> dict[str, str]:
        """Why each release was rejected that the target of an application still names; by commit.

        They are read from what `rollback.py` remembers.
        """
        try:
            records = trial.read_records(await self._store.get("releases"))
        except wire.WireError:  # forgotten, as there
            return {}
        rejected = (each.rejected for each in records.values())
        return {each.commit: each.reason for each in rejected if each is not None}

    async def _load(self, bundle: Bundle, holder: Holder) -> dict[str, str]:
        """Have all images in the engine; where those are that were not there by their names."""
        engine, index = self._engine, bundle.index
        facts = [await asyncio.to_thread(image_facts, bundle, each) for each in index.images]
        bundle_checks.check_architecture(facts, holder.info.architecture)
        names: set[str] = set()
        for image in await engine.images():
            names.update(read_image(image, frozenset()).references)
        missing = bundle_checks.missing_images(index, frozenset(names))
        wanted = [each for each in facts if each.image in missing]
        here = await bundle_load.layers_here(engine)
        needed = bundle_checks.needed_room(index, wanted, here)
        bundle_checks.check_room(needed, await asyncio.to_thread(self._free))
        await self._progress.tell(
            Stage.LOADING, f"{len(missing)} of {len(index.images)} images", 50
        )

        def moved(count: int) -> None:
            self._progress.percent(50 + 45 * count // len(missing))

        return await bundle_load.pull_all(engine, bundle, missing, self._settings.instance, moved)

    def _free(self) -> int:
        where = self._settings.data_mount
        usage = os.statvfs(where if where.exists() else self._settings.data_directory)
        return usage.f_bavail * usage.f_frsize

    async def _switch(
        self,
        bundle: Bundle,
        app: dict[str, Any],
        fit: bundle_checks.Fit,
        sources: dict[str, str],
    ) -> None:
        """Name the images and aim at the release."""
        index = bundle.index
        release = OfflineRelease(
            app_uuid=index.fleet_uuid,
            app_id=index.fleet_id,
            commit=index.commit,
            app=app,
            for_device=index.device is not None,
            over=await self._named(fit.uuid, index.fleet_uuid, index.fleet_id),
        )
        await bundle_load.name_all(self._engine, sources)
        await self._offline.hold(release)
        while (holder := self._holder()) is None:  # noqa: ASYNC110 (a moment)
            await asyncio.sleep(0.1)
        await holder.follow_offline()

    async def _named(self, uuid: str, app_uuid: str, app_id: int) -> str | None:
        """The release that the api's own target names, whatever came offline since."""
        document = await self._store.get("target") or {}
        apps = wire.mapping(wire.mapping(document.get(uuid), "target").get("apps"), "apps")
        app = apps.get(app_uuid, apps.get(str(app_id)))
        return named_commit(app) if app is not None else None
