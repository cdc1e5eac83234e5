"""What the routes answer, as the OpenAPI document describes it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gantry.contracts.build import ReleaseStatus

Responses = dict[int | str, dict[str, Any]]


class Failure(BaseModel):
    """Why a request was not served. The others are there where a rule of the model is broken."""

    error: str = Field(description="A sentence for whoever sent the request.")
    rule: str | None = Field(None, description="The name of the broken rule (docs/rules.md).")
    resource: str | None = Field(None, description="The resource whose rows break it.")
    ids: list[int] | None = Field(None, description="The first of these rows.")
    count: int | None = Field(None, description="How many rows there are.")


MEANINGS = {
    400: "The request is wrong, or breaks a rule of the model.",
    401: "Nobody known sent this: the credential is missing, wrong, or over.",
    403: "Whoever sent this is known, and may not do it.",
    404: "It does not exist, or not for whoever asks.",
    409: "It is at odds with what is there already.",
    413: "The request's body is larger than the api means to read.",
    429: "Too often; `Retry-After` says when again, in seconds.",
    504: "The device was asked and did not answer in time.",
    503: "The database does not answer, or the api is busy; `Retry-After` says when again.",
}


def failure(status: int) -> dict[str, Any]:
    """An answer with `Failure`; JSON, whatever the route answers with otherwise."""
    form = {"schema": {"$ref": f"#/components/schemas/{Failure.__name__}"}}
    answer: dict[str, Any] = {
        "description": MEANINGS[status],
        "content": {"application/json": form},
    }
    if status in (429, 503):
        seconds = {"description": "Seconds.", "schema": {"type": "integer"}}
        answer["headers"] = {"Retry-After": seconds}
    return answer


def failures(*statuses: int) -> Responses:
    """What a route may fail with, besides what all of its kind may."""
    return {status: failure(status) for status in statuses}


def content(media_type: str, description: str, schema: dict[str, Any] | None = None) -> Responses:
    """The success of a route that writes its answer itself."""
    form = {"schema": schema or {"type": "string"}}
    return {200: {"description": description, "content": {media_type: form}}}


_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "A strong ETag, in quotes."}}
UNCHANGED: Responses = {304: {"description": "`If-None-Match` names the ETag.", "headers": _ETAG}}
# For `openapi_extra`: the routes read the header themselves.
CONDITIONAL = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "ETags that the client has (RFC 9110, 13.1.2).",
            "schema": {"type": "string"},
        }
    ]
}


def conditional(description: str, model: Any) -> Responses:
    """An answer with an ETag, or 304."""
    return {200: {"description": description, "model": model, "headers": _ETAG}, **UNCHANGED}


class Board(BaseModel):
    """A kind of board."""

    slug: str
    name: str
    arch: str


class BoardState(Board):
    """A kind of board that fleets can be of."""

    state: Literal["RELEASED"]


class FleetConfig(BaseModel):
    """Where the fleet's parts are."""

    fleet: str
    apiUrl: str  # noqa: N815 - the wire's names
    deltaUrl: str  # noqa: N815
    registry: str
    logsUrl: str  # noqa: N815
    builderUrl: str  # noqa: N815
    dashboardUrl: str  # noqa: N815
    deviceUrlsBase: str  # noqa: N815
    gitServerUrl: str  # noqa: N815
    gitServerPort: int  # noqa: N815
    deviceTypes: list[Board]  # noqa: N815
    vpnUrl: str | None = Field(None, description="A name; absent without a VPN.")  # noqa: N815
    vpnPort: int | None = Field(None, description="Of `vpnUrl` and `tunnelUrl`.")  # noqa: N815
    tunnelUrl: str | None = Field(  # noqa: N815
        None, description="A name: HTTP CONNECT over TLS to devices' ports."
    )


class DeviceConfig(BaseModel):
    """A config.json, with all that a client may find in it besides."""

    model_config = ConfigDict(extra="allow")

    applicationId: int  # noqa: N815
    applicationName: str  # noqa: N815
    apiKey: str = Field(description="A provisioning key of its own.")  # noqa: N815
    userId: int  # noqa: N815
    username: str
    deviceType: str  # noqa: N815
    apiEndpoint: str  # noqa: N815
    registryEndpoint: str  # noqa: N815
    deltaEndpoint: str  # noqa: N815
    logsEndpoint: str  # noqa: N815
    listenPort: int  # noqa: N815
    appUpdatePollInterval: int = Field(description="Milliseconds.")  # noqa: N815
    balenaRootCA: str = Field(  # noqa: N815
        description="The fleet's certificate authority: PEM, in base64."
    )


class Whoami(BaseModel):
    """A user."""

    id: int
    username: str
    email: str | None


class ActorWhoami(BaseModel):
    """An actor: a user, a device, or an application's provisioning key."""

    id: int = Field(description="Of the actor.")
    actorType: Literal["user", "device", "application"]  # noqa: N815
    actorTypeId: int = Field(description="Of what the actor is.")  # noqa: N815
    username: str | None = None
    email: str | None = None
    uuid: str | None = None


class RecoveryCodes(BaseModel):
    """Codes that each replace one of the authenticator's, once. They are shown this once."""

    codes: list[str]


class Account(BaseModel):
    """Whose account it was."""

    username: str


class RegisteredDevice(BaseModel):
    """A device's identity, and the key that it goes on with."""

    id: int
    uuid: str
    api_key: str


class TargetService(BaseModel):
    """One service of a release, and the container that it should be."""

    id: int
    image_id: int
    image: str = Field(description="By its digest, in the fleet's registry.")
    environment: dict[str, str]
    labels: dict[str, str]
    running: bool
    composition: dict[str, Any] = Field(description="The rest of what docker-compose.yml says.")
    contract: dict[str, Any] | None = Field(
        default=None, description="What its contract.yml requires of a device; left out without."
    )


class TargetRelease(BaseModel):
    """A release, under its commit."""

    id: int
    services: dict[str, TargetService]
    volumes: dict[str, Any]
    networks: dict[str, Any]


class TargetApplication(BaseModel):
    """An application, under its uuid; without a release it has nothing to run."""

    model_config = ConfigDict(extra="allow")

    id: int
    name: str
    slug: str
    is_host: bool
    releases: dict[str, TargetRelease]


class Target(BaseModel):
    """What a device should be and run, under its uuid (the family's state of version 3)."""

    name: str
    config: dict[str, str]
    apps: dict[str, TargetApplication]


class Target2(BaseModel):
    """What a device should be and run (the family's state of version 2)."""

    local: dict[str, Any] = Field(description="`name`, `config`, and `apps` by their ids.")
    dependent: dict[str, Any]


class VariableNames(BaseModel):
    """Which names variables may have, and which of them configure devices."""

    reservedNames: list[str]  # noqa: N815
    reservedNamespaces: list[str]  # noqa: N815
    invalidRegex: str  # noqa: N815
    whiteListedNames: list[str]  # noqa: N815
    whiteListedNamespaces: list[str]  # noqa: N815
    blackListedNames: list[str]  # noqa: N815
    configVarSchema: dict[str, Any] = Field(description="A JSON schema.")  # noqa: N815


class OsConfig(BaseModel):
    """What a host OS needs of its fleet, by the services that take it."""

    services: dict[str, Any]
    schema_version: str
    fleet: str


class RegistryToken(BaseModel):
    """A token as the distribution project's token specification has it."""

    token: str
    access_token: str
    expires_in: int = Field(description="Seconds.")
    issued_at: str


class WantedDelta(BaseModel):
    """From some images to one, by their digests; `devices` need it now."""

    src: list[str]
    dest: str
    devices: int


class WantedDeltas(BaseModel):
    """What devices need, most devices first."""

    pairs: list[WantedDelta]


class ReleaseEnd(BaseModel):
    """A release that has ended."""

    release_id: int
    status: ReleaseStatus


class Published(BaseModel):
    """The release of a supervisor."""

    release_id: int


class Recovered(BaseModel):
    """Releases that were failed."""

    failed: list[int]


class Ended(BaseModel):
    """Credentials that hold no more."""

    ended: list[str]


class SupervisorAnswer(BaseModel):
    """What one of several devices answers."""

    uuid: str
    status: int
    body: Any
