"""Device types and the CPU architectures that they run.

Slugs are the family's (https://docs.balena.io/reference/hardware/devices/), so that its CLIs and
SDKs name the same boards.
"""

from dataclasses import dataclass
from enum import StrEnum


class Architecture(StrEnum):
    """A CPU architecture, under the family's name for it."""

    AARCH64 = "aarch64"
    ARMV7HF = "armv7hf"
    RPI = "rpi"
    AMD64 = "amd64"

    @property
    def debian(self) -> str:
        """Debian's name of the architecture. ARMv6 hard float is not in Debian: armel is."""
        return {"aarch64": "arm64", "armv7hf": "armhf", "rpi": "armel", "amd64": "amd64"}[self]

    @property
    def platform(self) -> str:
        """The OCI platform, as `docker build --platform` takes it."""
        return {
            "aarch64": "linux/arm64",
            "armv7hf": "linux/arm/v7",
            "rpi": "linux/arm/v6",
            "amd64": "linux/amd64",
        }[self]


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A kind of board: its slug, the name that people read, and what it runs."""

    slug: str
    name: str
    architecture: Architecture

    def runs(self, built_for: "DeviceType") -> bool:
        """Whether a device of this type runs what is built for devices of another."""
        return built_for.architecture in _RUNS[self.architecture]

    def contract(self) -> dict[str, object]:
        """What the type requires and provides, in the family's form of a contract."""
        return {
            "type": "hw.device-type",
            "slug": self.slug,
            "version": "1",
            "name": self.name,
            "data": {"arch": self.architecture.value},
        }


# What a CPU can run besides its own: 64-bit ARM runs 32-bit programs, ARMv7 runs ARMv6.
_RUNS = {
    Architecture.AARCH64: {Architecture.AARCH64, Architecture.ARMV7HF, Architecture.RPI},
    Architecture.ARMV7HF: {Architecture.ARMV7HF, Architecture.RPI},
    Architecture.RPI: {Architecture.RPI},
    Architecture.AMD64: {Architecture.AMD64},
}

DEVICE_TYPES: tuple[DeviceType, ...] = (
    DeviceType("raspberry-pi", "Raspberry Pi (v1 / Zero / Zero W)", Architecture.RPI),
    DeviceType("raspberry-pi2", "Raspberry Pi 2", Architecture.ARMV7HF),
    DeviceType("raspberrypi3", "Raspberry Pi 3 (32-bit OS)", Architecture.ARMV7HF),
    DeviceType("raspberrypi3-64", "Raspberry Pi 3 (64-bit OS)", Architecture.AARCH64),
    DeviceType("raspberrypi4-64", "Raspberry Pi 4 (64-bit OS)", Architecture.AARCH64),
    DeviceType("intel-nuc", "Intel NUC", Architecture.AMD64),
    DeviceType("generic-amd64", "Generic x86_64", Architecture.AMD64),
)


class UnknownDeviceTypeError(ValueError):
    """The slug names no device type that Gantry builds for."""

    def __init__(self, slug: str) -> None:
        known = ", ".join(each.slug for each in DEVICE_TYPES)
        super().__init__(f"unknown device type {slug!r}: use one of {known}")


def device_type(slug: str) -> DeviceType:
    """The device type with this slug.

    Raises:
        UnknownDeviceTypeError: no such slug; the message lists those that exist.
    """
    for each in DEVICE_TYPES:
        if each.slug == slug:
            return each
    raise UnknownDeviceTypeError(slug)
