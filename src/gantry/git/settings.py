"""What the short-lived programs need to know, read without pydantic: they start at each login.

The service checks the whole file once at its start (`gantry.git.config`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = Path("/etc/gantry/git.json")
REPOSITORIES = Path("/data/repositories")
RUN_FOLDER = Path("/run/gantry")

MAX_PUSH_BYTES = 2 * 1024**3
"""The largest pack that one push may bring, unless the configuration says otherwise."""


class SettingsError(Exception):
    """The configuration file is missing or is not what it must be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the other services are, and what we are called."""

    fleet: str
    host: str
    git_port: int
    api_url: str
    builder_url: str
    service_key: str
    max_push_bytes: int


def config_file() -> Path:
    """`/etc/gantry/git.json`, or GANTRY_CONFIG. sshd takes no such variable from clients."""
    return Path(os.environ.get("GANTRY_CONFIG", CONFIG_FILE))


def load_settings(path: Path | None = None) -> Settings:
    """The settings in `path`, by default those of this container.

    Raises:
        SettingsError: the file cannot be read or a key is missing.
    """
    path = path or config_file()
    try:
        fields = json.loads(path.read_text())
        return Settings(
            fleet=fields["fleet"],
            host=fields["host"],
            git_port=int(fields["git_port"]),
            api_url=fields["api_url"],
            builder_url=fields["builder_url"],
            service_key=fields["service_key"],
            max_push_bytes=int(fields.get("max_push_bytes", MAX_PUSH_BYTES)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path}: wrong configuration: {error!r}") from error
