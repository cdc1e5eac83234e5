"""The builder's settings: /etc/gantry/builder.json."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from gantry import configuration
from gantry.contracts.device_types import DeviceType, device_type

DEFAULT_PATH = Path("/etc/gantry/builder.json")
GIB = 1024**3


class Limits(BaseModel):
    """What one build may use.

    `disk_bytes` is what a build may add to the disk, and what is kept of the layer cache after it.
    `context_bytes` and `context_entries` bound the pushed tree, `log_bytes` the kept log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    build_seconds: int = Field(default=3600, ge=10)
    memory_bytes: int = Field(default=4 * GIB, ge=64 * 1024**2)
    disk_bytes: int = Field(default=20 * GIB, ge=GIB)
    concurrent_builds: int = Field(default=2, ge=1)
    context_bytes: int = Field(default=2 * GIB, ge=1024)
    context_entries: int = Field(default=200_000, ge=1)
    log_bytes: int = Field(default=16 * 1024**2, ge=1024)


class BuilderConfig(BaseModel):
    """What the builder must know: its fleet, the api, and its keys.

    `accepted_keys` are the service keys of those who may ask for builds (the git service's).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str
    host: str
    https_port: int = Field(ge=1, le=65535)
    device_type: str
    api_url: str
    service_key: SecretStr
    ca_certificate_pem: str
    accepted_keys: tuple[SecretStr, ...] = ()
    limits: Limits = Limits()
    # Beside the engine's own data, so that one volume holds all that the builder keeps.
    data_directory: Path = Path("/var/lib/docker/gantry")
    # Shipped bases and recipes; laid out as the repository is.
    resources: Path = Path("/usr/share/gantry")

    @field_validator("device_type")
    @classmethod
    def _known(cls, value: str) -> str:
        return device_type(value).slug

    @property
    def registry(self) -> str:
        """The registry's name and port, as image names begin with it; 443 is never written."""
        port = "" if self.https_port == 443 else f":{self.https_port}"
        return f"registry.{self.host}{port}"

    @property
    def builder_name(self) -> str:
        """Who this builder is to the api; the same after its container was made anew."""
        return f"builder.{self.host}"

    @property
    def own_type(self) -> DeviceType:
        """The device type of the stack."""
        return device_type(self.device_type)


def load(path: Path | None = None) -> BuilderConfig:
    """The configuration in `path`, else in GANTRY_CONFIG, else in /etc/gantry/builder.json.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.load(BuilderConfig, DEFAULT_PATH, path)
