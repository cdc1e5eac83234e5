"""What provisioning a device host asks of a fleet: for the Ansible module `gantry_fleet`.

The api is asked as the user of `gantry login`. A provisioning key is made for one host, ends after
a day, and is worth nothing once the device is registered, for the supervisor then has its own.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gantry import __version__
from gantry.client.api_client import open_fleet
from gantry.client.errors import ClientError, NotFoundError
from gantry.client.session import ca_path
from gantry.contracts.device_types import (
    DEVICE_TYPES,
    Architecture,
    UnknownDeviceTypeError,
    device_type,
)
from gantry.deployment import provisioning
from gantry.deployment.virtual_device import DeviceError

KEY_HOLDS = timedelta(days=1)
# What of a config.json says which fleet it is for.
IDENTITY_OF_FLEET = ("apiEndpoint", "applicationId")


class DeviceHostError(Exception):
    """A fleet cannot be asked, or says no; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """A fleet, as its devices are to know it. Nothing in it is secret.

    `supervisors` are images by the architecture's family name; `device_types` those by slug whose
    boards run what the fleet builds, with their architecture.
    """

    application_id: int
    name: str
    device_type: str
    api_url: str
    host: str
    registry: str
    ca: str
    version: str
    supervisors: dict[str, str]
    device_types: dict[str, str]


def ask_fleet(
    fleet: str,
    application: str | None,
    *,
    key_name: str | None = None,
    board: str | None = None,
    dry: bool = False,
) -> dict[str, Any]:
    """The facts of a fleet and, with a `key_name`, a config.json with a new key of that name.

    `board` is the device's own type, if it is not the fleet's. `dry`: no key is made.

    Raises:
        DeviceHostError: nobody is logged in, or the api refuses or does not answer.
    """
    try:
        with open_fleet(fleet) as client:
            found = client.application(application or fleet)
            about = client.fleet_config()
            certificate = ca_path(fleet)
            facts = _facts(
                application_id=found.id,
                name=found.slug,
                kind=found.device_type,
                api_url=about.api_url,
                registry=about.registry,
                ca=certificate.read_text() if certificate.exists() else "",
            )
            answer = {"changed": key_name is not None, "fleet": asdict(facts)}
            if key_name is None or dry:
                return answer
            expires = datetime.now(UTC) + KEY_HOLDS
            config = client.download_config(found, board, key_name=key_name, key_expires=expires)
            return answer | {"config": config}
    except ClientError as error:
        raise DeviceHostError(str(error)) from error


def fleet_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a config.json holds.

    Raises:
        DeviceHostError: it lacks what a device cannot start without, or has it wrong.
    """
    missing = [key for key in IDENTITY_OF_FLEET if not config.get(key)]
    if missing:
        raise DeviceHostError(
            f"config.json lacks {' and '.join(missing)}: make one with `gantry config generate`"
        )
    api_url = str(config["apiEndpoint"])
    if urlsplit(api_url).scheme != "https" or not urlsplit(api_url).hostname:
        raise DeviceHostError(f"config.json: apiEndpoint {api_url!r} is no https URL")
    encoded = str(config.get("balenaRootCA") or "")
    try:
        number = int(config["applicationId"])
        ca = base64.b64decode(encoded, validate=True).decode()
    except ValueError as error:
        raise DeviceHostError(f"config.json: {error}") from error
    return asdict(
        _facts(
            application_id=number,
            name=str(config.get("applicationName") or number),
            kind=str(config.get("deviceType") or ""),
            api_url=api_url,
            registry=provisioning.registry_of(config),
            ca=ca,
        )
    )


def _facts(
    *, application_id: int, name: str, kind: str, api_url: str, registry: str, ca: str
) -> FleetFacts:
    try:
        built_for = device_type(kind)
    except UnknownDeviceTypeError as error:
        raise DeviceHostError(str(error)) from error
    return FleetFacts(
        application_id=application_id,
        name=name,
        device_type=kind,
        api_url=api_url,
        host=str(urlsplit(api_url).hostname).removeprefix("api."),
        registry=registry,
        ca=ca,
        version=__version__,
        supervisors={
            each.value: f"{registry}/gantry/{each}-supervisor:{__version__}"
            for each in Architecture
        },
        device_types={
            each.slug: each.architecture.value for each in DEVICE_TYPES if each.runs(built_for)
        },
    )


def read_config(path: Path) -> dict[str, Any]:
    """A config.json of the operator's.

    Raises:
        DeviceHostError: it cannot be read, or is none.
    """
    try:
        return provisioning.read_config(path)
    except DeviceError as error:
        raise DeviceHostError(str(error)) from error


def forget(fleet: str, uuid: str, *, dry: bool = False) -> dict[str, Any]:
    """Have the fleet forget a device; not changed where it does not know it.

    Raises:
        DeviceHostError: nobody is logged in, or the api refuses or does not answer.
    """
    try:
        with open_fleet(fleet) as client:
            try:
                device = client.device(uuid)
            except NotFoundError:
                return {"changed": False}
            if not dry:
                client.remove_device(device)
            return {"changed": True, "name": device.name}
    except ClientError as error:
        raise DeviceHostError(str(error)) from error
