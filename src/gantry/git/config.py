"""The configuration file `/etc/gantry/git.json`, as infra writes it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gantry.git.settings import MAX_PUSH_BYTES, SettingsError

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
        SettingsError: one line that names the file and every key that is wrong, never a value:
            the file holds a key.
    """
    try:
        return GitConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"{path}: {faults}") from None
