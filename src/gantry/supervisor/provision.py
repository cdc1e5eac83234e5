"""A device's way into its fleet: it makes itself a name and a key, writes them down, and only then
registers. Power may be lost at any point of it; the device that comes back is the same."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

from gantry.supervisor import VERSION
from gantry.supervisor.cloud import CloudError, Registration
from gantry.supervisor.config import ConfigError, ConfigFile, DeviceConfig

_LOG = logging.getLogger(__name__)

# Pauses after failures, in seconds: the first, and the longest.
RETRY = (2.0, 300.0)


class ProvisioningStep(StrEnum):
    """What a device with a given config.json has to do next."""

    GENERATE_IDENTITY = "generate identity"
    REGISTER = "register"
    FORGET_PROVISIONING_KEY = "forget provisioning key"
    DONE = "done"


class Registrar(Protocol):
    """Whom a device registers with."""

    async def register(self, body: dict[str, Any], key: str) -> Registration:
        """Register under the provisioning key."""


def next_step(config: DeviceConfig) -> ProvisioningStep:
    """The next step of provisioning.

    Raises:
        ConfigError: something is missing that only the fleet's cloud side can give.
    """
    if config.api_endpoint is None:
        raise ConfigError("config.json has no apiEndpoint: write the fleet's config.json anew")
    if config.registered:
        if config.provisioning_key is not None:
            return ProvisioningStep.FORGET_PROVISIONING_KEY
        return ProvisioningStep.DONE
    if config.provisioning_key is None:
        raise ConfigError(
            "config.json has neither apiKey nor a registered deviceApiKey: generate a new "
            "config.json for the fleet"
        )
    if config.application_id is None:
        raise ConfigError("config.json has no applicationId: generate a new config.json")
    if config.uuid is None or config.device_key is None:
        return ProvisioningStep.GENERATE_IDENTITY
    return ProvisioningStep.REGISTER


def identity(config: DeviceConfig) -> DeviceConfig:
    """With a uuid and a key of its own, both made here, where they are missing."""
    return config.changed(
        {
            "uuid": config.uuid or secrets.token_hex(16),
            "deviceApiKey": config.device_key or secrets.token_hex(16),
        }
    )


def registration_body(config: DeviceConfig, os_version: str | None) -> dict[str, Any]:
    """The body of `POST /device/register`."""
    body = {
        "user": config.user_id,
        "application": config.application_id,
        "uuid": config.uuid,
        "device_type": config.device_type,
        "api_key": config.device_key,
        "supervisor_version": VERSION,
        "os_version": os_version,
        "device_name": config.initial_name,
    }
    return {key: value for key, value in body.items() if value is not None}


async def provision(
    file: ConfigFile,
    connect: Callable[[DeviceConfig], Registrar],
    os_version: str | None = None,
) -> DeviceConfig:
    """Carry out what is left of provisioning, and return the configuration that came of it.

    Raises:
        ConfigError: config.json cannot be used.
        CloudError: the api could not be reached or refused; asking again later is right.
    """
    config = await asyncio.to_thread(file.read)
    while (step := next_step(config)) is not ProvisioningStep.DONE:
        if step is ProvisioningStep.GENERATE_IDENTITY:
            config = identity(config)
            _LOG.info("this device is %s", config.uuid)
        elif step is ProvisioningStep.REGISTER:
            config = await _register(config, connect, os_version)
            _LOG.info("registered as device %s", config.device_id)
        else:
            config = config.changed({"apiKey": None})
        await asyncio.to_thread(file.write, config)
    return config


async def _register(
    config: DeviceConfig, connect: Callable[[DeviceConfig], Registrar], os_version: str | None
) -> DeviceConfig:
    key = config.provisioning_key
    if key is None:
        raise ConfigError("config.json has no apiKey to register with")
    try:
        answer = await connect(config).register(registration_body(config, os_version), key)
    except CloudError as error:
        if error.status == 409:
            raise CloudError(
                f"{error}: the api knows {config.uuid} under another key; write back the "
                "deviceApiKey that this device had, or remove uuid from config.json so that it "
                "becomes a new device",
                409,
            ) from error
        raise
    return config.changed(
        {
            "uuid": answer.uuid,
            "deviceId": answer.device_id,
            "registered_at": time.time_ns() // 1_000_000,
            "deviceApiKey": answer.device_key,
            "apiKey": None,
        }
    )
