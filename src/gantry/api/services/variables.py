"""Names of variables: which are taken, and which of them configure the device itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Levels:
    """The variables that concern one device, the weakest first; those of services by their ids.

    The order is the family's
    (https://docs.balena.io/learn/manage/variables/): a device's own variable goes before the
    fleet's, and at either level a service's before that of all services.
    """

    fleet: Mapping[str, str]
    services: Mapping[int, Mapping[str, str]]
    device: Mapping[str, str]
    device_services: Mapping[int, Mapping[str, str]]

    def configuration(self) -> dict[str, str]:
        """What configures the device's host and supervisor."""
        merged = {**self.fleet, **self.device}
        return {name: merged[name] for name in merged if is_configuration(name)}

    def environment(self, service_id: int) -> dict[str, str]:
        """What the containers of one service get."""
        merged = {
            **self.fleet,
            **self.services.get(service_id, {}),
            **self.device,
            **self.device_services.get(service_id, {}),
        }
        return {name: merged[name] for name in merged if not is_configuration(name)}
