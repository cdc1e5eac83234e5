"""The built-in engine knows what the program uses of Docker, and no more than that.

Parity with the Pulumi CLI is tested on what the program makes, so an input that it does not use
would be supported without proof.
"""

from typing import Any

import pytest

from gantry.deployment.engine.containers import ContainerProvider
from gantry.deployment.engine.docker import DockerProvider, NetworkProvider, VolumeProvider

from .conftest import Registered


@pytest.mark.parametrize(
    ("kind", "provider"),
    [
        ("Container", ContainerProvider),
        ("Network", NetworkProvider),
        ("Volume", VolumeProvider),
    ],
)
def test_supported_inputs_are_those_of_the_program(
    fleet: Registered, kind: str, provider: type[DockerProvider]
) -> None:
    used: dict[str, set[str]] = {}
    for inputs in fleet.of(kind).values():
        for key, value in inputs.items():
            used.setdefault(key, set())
            if value is not None and provider.inputs.get(key):
                used[key] |= _keys(value)
    assert used == {key: set(keys) for key, keys in provider.inputs.items()}


def _keys(blocks: Any) -> set[str]:
    listed = blocks if isinstance(blocks, list) else [blocks]
    return {key for block in listed for key, value in block.items() if value is not None}
