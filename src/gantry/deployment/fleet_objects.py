"""What the engine has of a fleet's cloud side, by its labels, whatever a state says."""

import contextlib
from dataclasses import dataclass

import docker
from docker.errors import DockerException

from gantry.deployment.engine.values import EngineError

FLEET_LABEL = "gantry.fleet"
SERVICE_LABEL = "gantry.service"
DEVICE_LABEL = "gantry.device"


@dataclass(frozen=True, slots=True)
class FleetObjects:
    """Names of a fleet's services and of its data volumes (those of devices are not among them)."""

    services: tuple[str, ...]
    volumes: tuple[str, ...]


def of_fleet(fleet: str) -> FleetObjects:
    """What is there of a fleet.

    Raises:
        EngineError: no engine answers.
    """
    label = f"{FLEET_LABEL}={fleet}"
    try:
        with contextlib.closing(docker.from_env()) as client:
            containers = client.containers.list(
                all=True, filters={"label": [label, SERVICE_LABEL]}, ignore_removed=True
            )
            volumes = client.volumes.list(filters={"label": label})
            return FleetObjects(
                tuple(sorted(str(each.name) for each in containers)),
                tuple(sorted(each.name for each in volumes if not _is_devices(each.attrs))),
            )
    except DockerException as error:
        raise EngineError(f"no Docker engine answers ({error}): run `make setup`") from error


def _is_devices(attributes: dict[str, object]) -> bool:
    labels = attributes.get("Labels")
    return isinstance(labels, dict) and DEVICE_LABEL in labels
