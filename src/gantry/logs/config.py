"""The configuration file `/etc/gantry/logs.json`, as infra writes it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gantry import configuration

DEFAULT_PATH = Path("/etc/gantry/logs.json")

Port = Annotated[int, Field(ge=1, le=65535)]


class Config(BaseModel):
    """What one fleet's log service needs to know. An unknown key is an error.

    `retention_lines` are kept of each device, for at most `retention_days`; of all devices together
    at most `storage_bytes`, the oldest go first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field(min_length=1)
    host: str = Field(min_length=1)
    https_port: Port
    api_url: str = Field(pattern=r"^https?://[^/\s]+$")
    service_key: SecretStr = Field(min_length=16)
    nats_url: str = Field(pattern=r"^(nats|tls)://\S+$")
    nats_token: SecretStr | None = None
    retention_lines: int = Field(default=5000, ge=10)
    retention_days: float = Field(default=30, gt=0)
    storage_bytes: int = Field(default=1024**3, ge=1024**2)
    listen_host: str = "0.0.0.0"  # noqa: S104 - inside a container, on the fleet's own network
    listen_port: Port = 8080


def load(path: Path | None = None) -> Config:
    """The configuration in `path`, else in GANTRY_CONFIG, else in /etc/gantry/logs.json.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.load(Config, DEFAULT_PATH, path)
