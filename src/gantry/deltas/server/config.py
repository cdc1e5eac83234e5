"""The configuration file `/etc/gantry/deltas.json`, as infra writes it."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from gantry import configuration
from gantry.contracts.storage import S3Storage

DEFAULT_PATH = Path("/etc/gantry/deltas.json")

Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
Authority = Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]{1,5})?$")]
MEBIBYTE = 1024**2
GIBIBYTE = 1024**3


class Bucket(BaseModel):
    """A bucket for the deltas; without one they are on the volume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str
    region: str
    access_key: SecretStr
    secret_key: SecretStr
    endpoint: Url | None = None
    prefix: str = "deltas"

    def as_storage(self) -> S3Storage:
        """The same, as the doorway to such storage takes it."""
        keys = (self.access_key.get_secret_value(), self.secret_key.get_secret_value())
        return S3Storage(self.bucket, self.region, *keys, self.endpoint, self.prefix)


class Limits(BaseModel):
    """What making deltas may cost, and what is kept.

    `workers` are made at once, each by `processes` in `memory_bytes` and `seconds`. `pair_bytes` is
    what the layers of one pair may have together, unpacked. `cache_bytes` of unpacked layers are
    kept for the next pair, `storage_bytes` of deltas for at most `days` after their last use.
    `queue` may wait. A delta is worth its while up to `percent` of what a pull would fetch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(default=1, ge=1, le=32)
    processes: int = Field(default=2, ge=1, le=32)
    memory_bytes: int = Field(default=512 * MEBIBYTE, ge=64 * MEBIBYTE)
    seconds: int = Field(default=1800, ge=1)
    pair_bytes: int = Field(default=8 * GIBIBYTE, ge=MEBIBYTE)
    cache_bytes: int = Field(default=20 * GIBIBYTE, ge=MEBIBYTE)
    storage_bytes: int = Field(default=20 * GIBIBYTE, ge=1)
    days: float = Field(default=30, gt=0)
    queue: int = Field(default=200, ge=1)
    percent: int = Field(default=70, ge=1, le=100)

    @property
    def making(self) -> str:
        """What decides on whether a delta can be made: with another one, one may ask again."""
        return (
            f"{self.pair_bytes} {self.memory_bytes} {self.processes} {self.seconds} {self.percent}"
        )


class Config(BaseModel):
    """What one fleet's delta server needs to know. An unknown key is an error.

    `service` and `registry` are the public names (host and port) of itself and of the registry, as
    they are in tokens and references; `registry_url` and `api_url` are where it reaches the two.
    `realm` is where clients get their tokens, `issuer` who signs these with the key of
    `token_certificate_pem`. `ahead_seconds`: how often the api is asked for what is wanted;
    `retry_seconds`: after how long what failed is tried again for the first time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field(min_length=1)
    service: Authority
    registry: Authority
    realm: str = Field(pattern=r"^https?://\S+$")
    issuer: str = Field(min_length=1)
    api_url: Url
    registry_url: Url
    service_key: SecretStr = Field(min_length=16)
    token_certificate_pem: str = Field(min_length=1)
    bucket: Bucket | None = None
    limits: Limits = Limits()
    ahead_seconds: float = Field(default=30, gt=0)
    retry_seconds: float = Field(default=15, gt=0)
    data: Path = Path("/var/lib/gantry/deltas")
    listen_host: str = "0.0.0.0"  # noqa: S104 - inside a container, on the fleet's own network
    listen_port: Port = 8080

    @model_validator(mode="after")
    def _room(self) -> Self:
        needed = self.limits.pair_bytes * self.limits.workers
        if needed > self.limits.cache_bytes:
            raise ValueError(
                f"cache_bytes is {self.limits.cache_bytes}: {self.limits.workers} workers with "
                f"{self.limits.pair_bytes} each (pair_bytes) need {needed}"
            )
        return self


def load(path: Path | None = None) -> Config:
    """The configuration in `path`, else in GANTRY_CONFIG, else in /etc/gantry/deltas.json.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.load(Config, DEFAULT_PATH, path)
