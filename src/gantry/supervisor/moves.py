"""config.json is edited while the supervisor runs: another key, another api, another fleet."""

import asyncio
import logging

from gantry.supervisor.config import ConfigError, ConfigFile, DeviceConfig

_LOG = logging.getLogger(__name__)
_LOOK_EVERY = 10.0  # seconds
# What cannot change under a supervisor that runs. It writes other keys itself.
_KEYS = (
    "apiEndpoint",
    "applicationId",
    "balenaRootCA",
    "deltaEndpoint",
    "deviceApiKey",
    "logsEndpoint",
    "registryEndpoint",
    "uuid",
)


def changes(old: DeviceConfig, new: DeviceConfig) -> list[str]:
    """Keys with which the supervisor must begin anew. Ids are numbers or texts."""
    return [
        key for key in _KEYS if str(old.document.get(key) or "") != str(new.document.get(key) or "")
    ]


async def until_changed(file: ConfigFile, config: DeviceConfig) -> None:
    """Returns when the file says something else of who the device is than this. A file that cannot
    be read says nothing: somebody is editing it."""
    stamp = 0
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            now = file.path.stat().st_mtime_ns
            if now == stamp:
                continue
            found = changes(config, await asyncio.to_thread(file.read))
        except (ConfigError, OSError):
            continue
        if found:
            _LOG.info("config.json has another %s: beginning anew", ", ".join(found))
            return
        stamp = now
