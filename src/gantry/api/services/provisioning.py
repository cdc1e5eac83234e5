"""What new devices need: config.json with a provisioning key."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.config import Config
from gantry.api.errors import BadRequestError
from gantry.api.models import KeyRole
from gantry.api.models.variables import VARIABLE_NAME_PATTERN
from gantry.api.queries import applications
from gantry.api.services import keys
from gantry.api.services.applications import owned
from gantry.api.services.keys import KeyRequest
from gantry.api.services.registration import fits
from gantry.contracts.device_types import DEVICE_TYPES

POLL_INTERVAL_MS = 900_000
SUPERVISOR_PORT = 48484


class ConfigRequest(BaseModel):
    """What `/download-config` is asked for. The poll interval is in minutes, as clients send it."""

    model_config = ConfigDict(extra="ignore")

    appId: int  # noqa: N815 - the wire's name
    deviceType: str | None = None  # noqa: N815
    appUpdatePollInterval: Annotated[float, Field(ge=1, le=1440)] | None = None  # noqa: N815
    provisioningKeyName: keys.Line | None = None  # noqa: N815
    provisioningKeyExpiryDate: datetime | None = None  # noqa: N815
    developmentMode: bool | None = None  # noqa: N815


def device_config(
    session: Session, config: Config, user: UserActor, asked: ConfigRequest
) -> dict[str, Any]:
    """A config.json under the family's keys; its API key registers devices, and nothing else.

    Raises:
        NotFoundError: no such application of this user.
        BadRequestError: a device type that does not run what the application builds.
    """
    application = owned(session, user.user_id, asked.appId)
    own = applications.device_type_by_id(session, application.is_for__device_type)
    slug = asked.deviceType or (own.slug if own else config.device_type)
    if applications.device_type_by_slug(session, slug) is None:
        raise BadRequestError(f"unknown device type {slug[:80]!r}")
    if own and not fits(slug, own.slug):
        raise BadRequestError(
            f"a {slug} does not run what {application.slug} builds for {own.slug}"
        )
    name = asked.provisioningKeyName or f"config.json of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    details = KeyRequest(name=name, expiryDate=asked.provisioningKeyExpiryDate)
    key = keys.new(session, user, KeyRole.PROVISIONING, application.actor, details)
    minutes = asked.appUpdatePollInterval
    made: dict[str, Any] = {
        "applicationId": application.id,
        "applicationName": application.app_name,
        "apiKey": key,
        "userId": user.user_id,
        "username": user.username,
        "deviceType": slug,
        "apiEndpoint": config.api_url,
        "registryEndpoint": config.registry,
        "deltaEndpoint": config.url("delta"),
        "logsEndpoint": config.url("logs"),
        "listenPort": SUPERVISOR_PORT,
        "appUpdatePollInterval": int(minutes * 60_000) if minutes else POLL_INTERVAL_MS,
        "balenaRootCA": base64.b64encode(config.ca_certificate_pem.encode()).decode(),
        # Old supervisors ask for these; Gantry uses neither service.
        "pubnubSubscribeKey": "",
        "pubnubPublishKey": "",
        "mixpanelToken": "",
    }
    if config.vpn_port is not None:
        made |= {"vpnEndpoint": config.name("vpn"), "vpnPort": config.vpn_port}
    if asked.developmentMode is not None:
        made["developmentMode"] = asked.developmentMode
    return made


def fleet_config(config: Config) -> dict[str, Any]:
    """Where the fleet's parts are, for clients that know only the api."""
    vpn: dict[str, Any] = {}
    if config.vpn_port is not None:
        vpn = {
            "vpnUrl": config.name("vpn"),
            "vpnPort": config.vpn_port,
            "tunnelUrl": config.name("tunnel"),
        }
    return {
        "fleet": config.fleet,
        "apiUrl": config.api_url,
        "deltaUrl": config.url("delta"),
        "registry": config.registry,
        "logsUrl": config.url("logs"),
        "builderUrl": config.url("builder"),
        "dashboardUrl": config.url("dashboard"),
        "deviceUrlsBase": f"devices.{config.host}",
        "gitServerUrl": config.host,
        "gitServerPort": config.git_port,
        "deviceTypes": [
            {"slug": each.slug, "name": each.name, "arch": each.architecture}
            for each in DEVICE_TYPES
        ],
        **vpn,
    }


def os_config(config: Config) -> dict[str, Any]:
    """What the family's host OS asks its fleet for, by the services that take it.

    Gantry's hosts are set up by its playbooks, and need none of it: no service is listed.
    """
    return {"services": {}, "schema_version": "1.0.0", "fleet": config.fleet}


def variable_names() -> dict[str, Any]:
    """Names of variables: which are reserved, and which configure devices (as JSON schemas)."""
    return {
        "reservedNames": [],
        "reservedNamespaces": ["RESIN_", "BALENA_"],
        "invalidRegex": f"/{VARIABLE_NAME_PATTERN}/",
        "whiteListedNames": ["RESIN_OVERRIDE_LOCK", "BALENA_OVERRIDE_LOCK"],
        "whiteListedNamespaces": [
            f"{prefix}_{part}_" for prefix in ("RESIN", "BALENA") for part in ("HOST", "SUPERVISOR")
        ],
        "blackListedNames": [],
        "configVarSchema": {
            "type": "object",
            "$schema": "http://json-schema.org/draft-06/schema#",
            "properties": _CONFIGURATION,
        },
    }


# What the supervisor here heeds.
_CONFIGURATION = {
    "BALENA_SUPERVISOR_POLL_INTERVAL": {
        "type": "integer",
        "description": "Milliseconds between two looks for a new target: 600000 to 86400000.",
        "default": POLL_INTERVAL_MS,
    },
    **{
        f"BALENA_{name}": {"type": kind, "description": description, "default": default}
        for name, kind, default, description in (
            ("HOST_DISCOVERABILITY", "boolean", True, "Whether local networks hear of it (mDNS)."),
            (
                "SUPERVISOR_API_REQUEST_TIMEOUT",
                "integer",
                59000,
                "Milliseconds that it waits for a target.",
            ),
            (
                "SUPERVISOR_CONNECTIVITY_CHECK",
                "boolean",
                True,
                "Whether the network is looked for while the api is away.",
            ),
            (
                "SUPERVISOR_HARDWARE_METRICS",
                "boolean",
                True,
                "Whether processor, memory, storage and temperature are told.",
            ),
            (
                "SUPERVISOR_INSTANT_UPDATE_TRIGGER",
                "boolean",
                True,
                "Whether news is fetched when it is announced, and not at the next look.",
            ),
            ("SUPERVISOR_LOG_CONTROL", "boolean", True, "Whether logs are sent."),
            ("SUPERVISOR_OVERRIDE_LOCK", "boolean", False, "Whether update locks do not count."),
            (
                "SUPERVISOR_PERSISTENT_LOGGING",
                "boolean",
                False,
                "Whether the host's journal outlives a restart.",
            ),
            ("SUPERVISOR_VPN_CONTROL", "boolean", True, "Whether it has a tunnel to its fleet."),
        )
    },
    "BALENA_SUPERVISOR_ROLLBACK": {
        "type": "string",
        "enum": ["0", "1"],
        "description": "Whether a release that fails its trial makes room for the last good one.",
        "default": "1",
    },
    "BALENA_SUPERVISOR_ROLLBACK_TIMEOUT": {
        "type": "integer",
        "description": "Milliseconds that a release may take until all of its services are well.",
        "default": 180_000,
    },
    "BALENA_SUPERVISOR_ROLLBACK_SETTLE": {
        "type": "integer",
        "description": "Milliseconds that they must be well on end, until the release is good.",
        "default": 60_000,
    },
    "BALENA_SUPERVISOR_ROLLBACK_CRASHES": {
        "type": "integer",
        "description": "So many ends of one service with a status other than 0 end the trial.",
        "default": 10,
    },
}
