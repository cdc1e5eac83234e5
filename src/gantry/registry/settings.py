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
    """Where the api and the registry are, and how the collector proves who it is.

    `service` is the registry's name in tokens. `storage` are the fields of a bucket, or None when
    the registry's files are in `folder`.
    """

    api_url: str
    registry_url: str
    service: str
    service_key: str
    folder: Path
    storage: Mapping[str, Any] | None = None


def load(path: Path | None = None) -> Settings:
    """Read `path`, else GANTRY_CONFIG, else /etc/gantry/collector.json.

    Raises:
        SettingsError: no such file, no JSON, or a key that is missing or unknown.
    """
    source = path or Path(os.environ.get("GANTRY_CONFIG", DEFAULT_PATH))
    try:
        fields = json.loads(source.read_text())
        return Settings(**fields | {"folder": Path(fields["folder"])})
    except OSError as error:
        raise SettingsError(f"{source} cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{source} is not a collector's configuration: {reason}") from None
