"""Configuration files of the fleet's services: JSON, as infra writes it, checked whole."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

_M = TypeVar("_M", bound=BaseModel)


class ConfigError(Exception):
    """The configuration file is missing or wrong; the message names the file and each fault."""


def load(model: type[_M], default: Path, path: Path | None = None) -> _M:
    """The configuration in `path`, else in GANTRY_CONFIG, else in `default`.

    Raises:
        ConfigError: as `read`.
    """
    return read(model, path or Path(os.environ.get("GANTRY_CONFIG", default)))


def read(model: type[_M], source: Path) -> _M:
    """The configuration in a file.

    Raises:
        ConfigError: no such file, not JSON, or a key that is missing, unknown or wrong. It quotes
            no value, as pydantic's own text would: the file holds secrets.
    """
    try:
        return model.model_validate_json(source.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {source}: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"the configuration {source} is wrong: {faults}") from None
