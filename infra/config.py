"""A stack's settings: read and checked whole before anything is made."""

import json
import re
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from gantry.bucket import BucketError, keys_of_environment
from gantry.contracts.device_types import device_type
from gantry.contracts.storage import S3Storage

NAMESPACE = "gantry"
# RFC 1123, and short enough that `<32 hex>.devices.` fits before it.
HOST_NAME = re.compile(
    r"(?=.{1,200}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+"
)
FLEET_NAME = re.compile(r"[a-z][a-z0-9-]{3,40}")
HTTPS = 443
# IANA's for OpenVPN.
VPN = 1194

Port = Annotated[int, Field(ge=1, le=65535)]
Megabytes = Annotated[int, Field(ge=32)]


class StackConfigError(Exception):
    """The stack's file is wrong; the message lists every fault."""


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True
    )


class VolumeStorage(_Settings):
    """Blobs on a volume of the host."""

    kind: Literal["volume"] = "volume"


class BucketStorage(_Settings):
    """Blobs on S3-compatible storage. Without `endpoint` it is Amazon's own.

    Without the keys they are those that boto3 finds: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    or a profile of ~/.aws. The built-in engine reads no secure values, so this is its way.
    """

    kind: Literal["s3"]
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    region: str = "us-east-1"
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+$")
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None

    @model_validator(mode="after")
    def _both_keys(self) -> "BucketStorage":
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("accessKey and secretKey go together: give both, or none")
        return self

    def as_registry_storage(self) -> S3Storage:
        """The same, as the registry's configuration takes it.

        Raises:
            StackConfigError: it names no keys, and boto3 finds none.
        """
        if self.access_key and self.secret_key:
            keys = (self.access_key.get_secret_value(), self.secret_key.get_secret_value())
        else:
            try:
                keys = keys_of_environment()
            except BucketError as error:
                raise StackConfigError(f"gantry:storage: {error}") from error
        return S3Storage(self.bucket, self.region, *keys, endpoint=self.endpoint)


class Memory(_Settings):
    """The most memory that each service may use, in MiB."""

    postgres: Megabytes = 512
    api: Megabytes = 512
    git: Megabytes = 512
    builder: Annotated[int, Field(ge=1024)] = 6144
    registry: Megabytes = 256
    # A run's; between runs it has 20 MiB.
    collector: Megabytes = 256
    nats: Megabytes = 256
    logs: Megabytes = 256
    # Its workers' besides: `deltas.memory` for each.
    deltas: Megabytes = 256
    # Each server of it: what it has room for follows this (docs/vpn.md).
    vpn: Annotated[int, Field(ge=192)] = 768
    balancer: Megabytes = 256
    # It holds requests to the api whole, 4 MiB each at most.
    proxy: Megabytes = 512


class Builds(_Settings):
    """What one build may use: seconds, and GiB of memory and disk."""

    seconds: int = Field(default=3600, ge=60)
    memory: int = Field(default=4, ge=1)
    disk: int = Field(default=20, ge=5)
    concurrent: int = Field(default=2, ge=1, le=16)


class RegistrySpace(_Settings):
    """What of the registry is kept, and how often the rest is removed.

    Of each application the last `keepReleases` successes stay, and what is younger than `keepDays`.
    `collectEveryHours`: 0 is only when somebody orders it. Blobs of no image are taken for a push's
    until they are `graceHours` old; those of removed images stay `lingerMinutes`, so that pulls
    that have begun end.
    """

    keep_releases: int = Field(default=10, ge=1)
    keep_days: float = Field(default=7, ge=0)
    collect_every_hours: int = Field(default=0, ge=0)
    grace_hours: int = Field(default=24, ge=1)
    linger_minutes: int = Field(default=60, ge=1)

    def for_the_api(self) -> dict[str, float]:
        """The same, as the api's configuration has it."""
        return {
            "keep_releases": self.keep_releases,
            "keep_days": self.keep_days,
            "every_hours": self.collect_every_hours,
            "grace_seconds": self.grace_hours * 3600,
            "linger_seconds": self.linger_minutes * 60,
        }


class Logs(_Settings):
    """How much of each device's log is kept."""

    lines: int = Field(default=5000, ge=10)
    days: int = Field(default=30, ge=1)


class Deltas(_Settings):
    """What the making of deltas may use: `workers` at once, with `memory` MiB and `seconds` each.

    `cache` GiB of unpacked layers are kept for the next one, `storage` GiB of deltas, for at most
    `days` after their last use.
    """

    workers: int = Field(default=1, ge=1, le=16)
    memory: int = Field(default=512, ge=128)
    seconds: int = Field(default=1800, ge=10)
    cache: int = Field(default=20, ge=1)
    storage: int = Field(default=20, ge=1)
    days: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _room(self) -> "Deltas":
        if self.cache < self.workers:
            raise ValueError(
                f"cache is {self.cache}, and workers {self.workers}: each needs a GiB at least"
            )
        return self


class Vpn(_Settings):
    """How devices reach the VPN: at a port of its own, or at the HTTPS port (`sharePort`).

    `kilobytesPerSecond` is what one device may send, and what it may receive; 0 is no limit.
    `connectionsPerMinute`: so many devices of one address may begin anew; 0 is no limit.
    """

    port: Port | None = None
    servers: int = Field(default=1, ge=1, le=16)
    kilobytes_per_second: int = Field(default=0, ge=0)
    connections_per_minute: int = Field(default=300, ge=0)
    share_port: bool = False

    @model_validator(mode="after")
    def _one_port(self) -> "Vpn":
        if self.share_port and self.port:
            raise ValueError(
                f"port is {self.port}, and sharePort is true: then the httpsPort is the VPN's "
                "port too; remove one of the two"
            )
        return self


class StackConfig(_Settings):
    """What one fleet's cloud side may be told. The fleet's name is the stack's."""

    fleet: str
    host: str = ""
    https_port: Port
    git_port: Port
    bind_address: IPvAnyAddress = Field(default="127.0.0.1", validate_default=True)
    device_type: str = "raspberrypi3-64"
    admin_username: str = Field(default="admin", pattern=r"^[a-z][a-z0-9-]{1,30}$")
    storage: VolumeStorage | BucketStorage = Field(
        default_factory=VolumeStorage, discriminator="kind"
    )
    memory: Memory = Memory()
    builds: Builds = Builds()
    registry: RegistrySpace = RegistrySpace()
    logs: Logs = Logs()
    deltas: Deltas = Deltas()
    vpn: Vpn = Vpn()

    @field_validator("fleet")
    @classmethod
    def _fleet_name(cls, value: str) -> str:
        if not FLEET_NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} cannot be a fleet's name: 4 to 41 letters a-z, digits and hyphens, "
                "beginning with a letter"
            )
        return value

    @field_validator("host")
    @classmethod
    def _host_name(cls, value: str) -> str:
        if value and not HOST_NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a host name: use lower-case labels joined by dots, "
                "such as devbots.gantry.internal"
            )
        if value.endswith(".localhost"):
            raise ValueError(f"{value!r}: devices resolve .localhost to themselves; use another")
        return value

    @field_validator("device_type")
    @classmethod
    def _device_type(cls, value: str) -> str:
        return device_type(value).slug

    @model_validator(mode="after")
    def _whole(self) -> "StackConfig":
        ports = {"httpsPort": self.https_port, "gitPort": self.git_port}
        if not self.vpn.share_port:
            ports["vpn.port"] = self.vpn_port
        for one, other in combinations(ports, 2):
            if ports[one] == ports[other]:
                raise ValueError(f"{one} and {other} are both {ports[one]}: they must differ")
        hours = self.registry.grace_hours
        if hours * 3600 < self.builds.seconds:
            raise ValueError(
                f"registry.graceHours is {hours}, and a build may take builds.seconds "
                f"{self.builds.seconds}: the registry's grace must be longer than a build"
            )
        if not self.host:
            object.__setattr__(self, "host", f"{self.fleet}.gantry.internal")
        return self

    @property
    def vpn_port(self) -> int:
        """The port at which devices open the VPN, and people the door to its tunnels."""
        return self.https_port if self.vpn.share_port else self.vpn.port or VPN

    def bucket(self) -> S3Storage | None:
        """The bucket for images and deltas, or None when they are on volumes.

        Raises:
            StackConfigError: it has no keys, and none are in the environment.
        """
        storage = self.storage
        return storage.as_registry_storage() if isinstance(storage, BucketStorage) else None

    def authority(self, name: str = "") -> str:
        """Host and port of a name below the host, as URLs and image names have it."""
        host = f"{name}.{self.host}" if name else self.host
        return host if self.https_port == HTTPS else f"{host}:{self.https_port}"

    def urls(self) -> dict[str, str]:
        """Where people and devices find what: by what it is called."""
        https = {name: self.url(name) for name in ("api", "registry", "builder", "delta", "logs")}
        return https | {
            # TCP: devices begin with OpenVPN, `tunnel.` is an HTTP proxy over TLS for people.
            "vpn": f"tcp://vpn.{self.host}:{self.vpn_port}",
            "tunnel": f"https://tunnel.{self.host}:{self.vpn_port}",
            "devices": self.url("*.devices"),
        }

    def url(self, name: str = "") -> str:
        """The URL of a name below the host, without a slash at its end."""
        return f"https://{self.authority(name)}"


def load(fleet: str, values: Mapping[str, str]) -> StackConfig:
    """The settings of stack `fleet`, from all of Pulumi's configuration (`namespace:key`).

    Other namespaces (`docker:host`) are their providers' own.

    Raises:
        StackConfigError: every unknown key and wrong value, one a line; never a secret's value.
    """
    own: dict[str, Any] = {"fleet": fleet}
    for key, text in values.items():
        namespace, _, name = key.partition(":")
        if namespace == NAMESPACE and name == "fleet":
            raise StackConfigError("gantry:fleet: the fleet's name is the stack's; remove the key")
        if namespace == NAMESPACE:
            own[name] = _parsed(name, text)
    try:
        config = StackConfig.model_validate(own)
        config.bucket()
        return config
    except ValidationError as error:
        faults = [
            f"  {_where(fault['loc'])}: {_reason(fault)}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        lines = "\n".join(faults)
        raise StackConfigError(f"stacks/Pulumi.{fleet}.yaml is wrong:\n{lines}") from None


def _parsed(name: str, text: str) -> Any:
    # Pulumi hands objects over as JSON, and everything else as text.
    if not isinstance(text, str) or not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise StackConfigError(f"{NAMESPACE}:{name} is not an object: {error}") from error


def _where(location: tuple[int | str, ...]) -> str:
    parts = [str(each) for each in location if each not in ("volume", "s3")]
    return f"{NAMESPACE}:{'.'.join(parts)}" if parts else NAMESPACE


def _reason(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown key"
    return str(fault["msg"]).removeprefix("Value error, ")
