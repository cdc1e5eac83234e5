"""The configuration file `/etc/gantry/git.json`, as infra writes it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gantry import configuration
from gantry.git.settings import MAX_PUSH_BYTES

Port = Annotated[int, Field(ge=1, le=65535)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]


class GitConfig(BaseModel):
    """The git service's configuration. An unknown key is an error.

    `https_port` and `git_port` are the published ports, which users type; sshd itself listens on
    2222. `max_push_bytes` bounds the pack that one push may bring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field(min_length=1)
    host: str = Field(min_length=1)
    https_port: Port
    git_port: Port
    api_url: HttpUrl
    builder_url: HttpUrl
    service_key: str = Field(min_length=16)
    max_push_bytes: int = Field(default=MAX_PUSH_BYTES, ge=1024 * 1024)


def load_config(path: Path) -> GitConfig:
    """The checked configuration.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.read(GitConfig, path)
