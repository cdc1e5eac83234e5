"""What the environment says: variables of the application or of the device, set in the fleet."""

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(ValueError):
    """A variable has a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`smoothie_id`: the beginning of the serial port's id; empty for no automatic connection."""

    smoothie_id: str
    port: int
    max_bytes: int
    max_seconds: float


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings; variables that are not set have their defaults.

    Raises:
        SettingsError: a number is none, or out of range.
    """
    return Settings(
        smoothie_id=environment.get("OT_SMOOTHIE_ID", "").strip(),
        port=int(_number(environment, "PORT", 31950, 65535)),
        max_bytes=int(_number(environment, "OT_MAX_PROTOCOL_BYTES", 1024 * 1024, 64 * 1024**2)),
        max_seconds=_number(environment, "OT_SIMULATE_SECONDS", 120, 3600),
    )


def _number(environment: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError as error:
        raise SettingsError(f"{name}={text!r} is not a number") from error
    if not 1 <= value <= most:
        raise SettingsError(f"{name}={text!r}: use a number from 1 to {most:.0f}")
    return value
