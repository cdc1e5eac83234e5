"""Who the simulated devices are. Pure, but for chance where no seed is given."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.provision import identity


def identities(document: Mapping[str, Any], count: int, seed: int | None) -> Iterator[DeviceConfig]:
    """The configurations of `count` devices, made of one config.json that is not registered yet.

    With a seed they are the same devices each time; without one nobody could guess their keys.
    """
    for number in range(count):
        config = DeviceConfig(document).changed({"uuid": None, "deviceApiKey": None})
        if seed is not None:
            config = config.changed(
                {
                    "uuid": _digits(f"uuid {seed} {number}"),
                    "deviceApiKey": _digits(f"key {seed} {number}"),
                }
            )
        yield identity(config)


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
