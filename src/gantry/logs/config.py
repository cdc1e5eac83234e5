"""The configuration file `/etc/gantry/logs.json`, as infra writes it."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

DEFAULT_PATH = Path("/etc/gantry/logs.json")

Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigError(Exception):
    """The configuration file is missing or wrong; the message names the file and each fault."""


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
        ConfigError: no such file, not JSON, or a key that is missing, unknown or wrong. It quotes
            no value: the file holds secrets.
    """
    source = path or Path(os.environ.get("GANTRY_CONFIG", DEFAULT_PATH))
    try:
        return Config.model_validate_json(source.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {source}: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"the configuration {source} is wrong: {faults}") from None
