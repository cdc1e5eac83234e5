"""Names of variables: which are taken, and which of them configure the device itself."""

import re

from gantry.api.errors import BadRequestError
from gantry.api.models.variables import (
    CONFIGURATION_NAME_PATTERN,
    MAX_VALUE_BYTES,
    MAX_VARIABLE_NAME,
    RESERVED_NAME_PATTERN,
    VARIABLE_NAME_PATTERN,
)

_NAME = re.compile(VARIABLE_NAME_PATTERN)
_RESERVED = re.compile(RESERVED_NAME_PATTERN)
_CONFIGURATION = re.compile(CONFIGURATION_NAME_PATTERN)


def is_configuration(name: str) -> bool:
    """Whether the variable is for the device's host or supervisor, not for its containers."""
    return _CONFIGURATION.fullmatch(name) is not None


def check(name: str, value: str) -> None:
    """Refuse a variable that no device could have.

    Raises:
        BadRequestError: the name's characters, a reserved name, or a value that is too long.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_VARIABLE_NAME:
        raise BadRequestError(
            f"the variable name {name[:100]!r} is not valid: use letters, digits and _, not "
            f"beginning with a digit, at most {MAX_VARIABLE_NAME} characters"
        )
    if _RESERVED.match(name) and not is_configuration(name):
        raise BadRequestError(
            f"the variable name {name!r} is reserved: RESIN_ and BALENA_ names are given by the "
            "platform, but RESIN_HOST_…, RESIN_SUPERVISOR_… and RESIN_OVERRIDE_LOCK (and the "
            "BALENA_ forms), which configure devices"
        )
    if "\0" in value:
        raise BadRequestError(f"the value of {name} holds a NUL character, which no variable can")
    size = len(value.encode())
    if size > MAX_VALUE_BYTES:
        raise BadRequestError(
            f"the value of {name} has {size} bytes: {MAX_VALUE_BYTES} are the limit"
        )


def split(*levels: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Environment and configuration of variables of several levels; the later go first."""
    merged: dict[str, str] = {}
    for level in levels:
        merged.update(level)
    environment = {name: merged[name] for name in merged if not is_configuration(name)}
    configuration = {name: merged[name] for name in merged if is_configuration(name)}
    return environment, configuration
