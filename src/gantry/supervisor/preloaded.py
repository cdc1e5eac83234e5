"""Preloading: taking up `apps.json` from the data partition, once, and pinning what it asks for."""

import asyncio
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gantry.supervisor import wire
from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.config import ConfigFile, DeviceConfig
from gantry.supervisor.journal import Journal
from gantry.supervisor.provision import ProvisioningStep, identity, next_step
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import Store

# Read once in a device's life: not in memory before there is something to read.
if TYPE_CHECKING:
    from gantry.supervisor.apps_json import Preloaded

_LOG = logging.getLogger(__name__)
_PIN = "pin_preloaded"
# A file of that size is no apps.json, and would not fit into the supervisor's memory.
_LIMIT = 8 * 1024**2
# Answers after which asking again is of use; all others mean that the release cannot be pinned.
_PASSING = (401, 408, 425, 429)


class Preloading:
    """What came with the card becomes the device's first target."""

    def __init__(self, settings: Settings, store: Store, journal: Journal) -> None:
        self._path = settings.data_mount / "apps.json"
        self._store = store
        self._journal = journal

    async def take(self, file: ConfigFile) -> None:
        """Take up apps.json, if there is one, as the target that holds until the api gives one.

        Raises:
            ConfigError: config.json cannot be used: a container knows the device's name and key.
        """
        path = await self._found()
        if path is None:
            return
        config = await _named_device(file)
        if path != self._path and config.registered:
            return  # what it should run, its api tells
        from gantry.supervisor.apps_json import read_apps_json

        try:
            content = await asyncio.to_thread(_read, path)
            preloaded = read_apps_json(content, config.application_id)
        except (wire.WireError, OSError) as error:
            await self._aside(path, "broken", f"Preloaded applications are not used: {error}")
            return
        if path == self._path and await self._store.get("target_etag") is not None:
            sentence = "apps.json is not used: this device has a target from its api"
            await self._aside(path, "ignored", sentence)
            return
        await self._remember(preloaded, config)
        if path == self._path:
            await self._aside(path, "preloaded", None)

    async def _found(self) -> Path | None:
        """apps.json; or the one that was taken, where the database has been lost since and the
        device has not registered yet."""
        if await asyncio.to_thread(self._path.is_file):
            return self._path
        taken = self._path.with_name("apps.json.preloaded")
        if await self._store.get("target") is None and await asyncio.to_thread(taken.is_file):
            return taken
        return None

    async def _remember(self, preloaded: "Preloaded", config: DeviceConfig) -> None:
        for number in preloaded.left_out:
            self._journal.write(
                f"Preloaded application {number} is not run: this device is of fleet "
                f"{config.application_id}",
                is_error=True,
            )
        if not preloaded.apps and not preloaded.config:
            return
        if preloaded.pin is not None:
            await self._store.put(_PIN, asdict(preloaded.pin))
        await self._store.put("target", preloaded.target(str(config.uuid)))
        await self._store.flush()
        commits = [next(iter(app["releases"]), "none") for app in preloaded.apps.values()]
        self._journal.write(f"Preloaded: release {', '.join(commits)}")

    async def _aside(self, path: Path, ending: str, sentence: str | None) -> None:
        """Rename what was read, so that it is read once."""
        if sentence:
            self._journal.write(sentence, is_error=True)
        try:
            await asyncio.to_thread(path.replace, path.with_name(f"apps.json.{ending}"))
        except OSError as error:
            _LOG.warning("%s stays where it is: %s", path, error.strerror)

    async def pin(self, cloud: Cloud) -> None:
        """Have the api pin this device to the preloaded release, where that was asked for.

        Raises:
            CloudError: it did not answer; asking again later is right.
        """
        kept = await self._store.get(_PIN)
        if kept is None:
            return
        from gantry.supervisor.apps_json import Pin

        try:
            wanted = Pin(**kept)
            if not wanted.release:
                raise CloudError("apps.json has no number of it", 400)
            await cloud.pin(wanted.release)
        except CloudError as error:
            if error.status is None or error.status >= 500 or error.status in _PASSING:
                raise
            self._journal.write(
                f"This device is not pinned to its preloaded release {wanted.commit}: {error}",
                is_error=True,
            )
        except TypeError:
            _LOG.warning("what was to be pinned is of another version, and is forgotten")
        else:
            self._journal.write(f"Pinned to the preloaded release {wanted.commit}")
        await self._store.put(_PIN, None)

    async def has_pin(self) -> bool:
        """Whether the api is still to be told of a pin."""
        return await self._store.get(_PIN) is not None


async def _named_device(file: ConfigFile) -> DeviceConfig:
    """config.json with the identity that the device will register with: it must not be another
    one later, since containers know it."""
    config = await asyncio.to_thread(file.read)
    if config.uuid is None and next_step(config) is ProvisioningStep.GENERATE_IDENTITY:
        config = identity(config)
        await asyncio.to_thread(file.write, config)
        _LOG.info("this device is %s", config.uuid)
    return config


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise wire.WireError(f"{path} has more than {_LIMIT // 1024**2} MiB")
    return content
