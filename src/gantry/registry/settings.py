"""The collector's settings: /etc/gantry/collector.json. Standard library only."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_PATH = Path("/etc/gantry/collector.json")


class SettingsError(Exception):
    """The file cannot be used; the message says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the api, the registry and the delta server are, and how the collector proves who it is.

    `service` is the registry's name in tokens, `deltas_service` the delta server's. `storage` are
    the fields of a bucket, or None when the registry's files are in `folder`. The file `alive` is
    touched whenever the api has answered, every `poll_seconds`.
    """

    api_url: str
    registry_url: str
    deltas_url: str
    service: str
    deltas_service: str
    service_key: str
    folder: Path
    storage: Mapping[str, Any] | None = None
    alive: Path = Path("/run/gantry/alive")
    poll_seconds: float = 3.0


def load(path: Path | None = None) -> Settings:
    """Read `path`, else GANTRY_CONFIG, else /etc/gantry/collector.json.

    Raises:
        SettingsError: no such file, no JSON, or a key that is missing or unknown.
    """
    source = path or Path(os.environ.get("GANTRY_CONFIG", DEFAULT_PATH))
    try:
        fields = json.loads(source.read_text())
        paths = {name: Path(fields[name]) for name in ("folder", "alive") if name in fields}
        return Settings(**fields | paths)
    except OSError as error:
        raise SettingsError(f"{source} cannot be read: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{source} is not a collector's configuration: {reason}") from None
