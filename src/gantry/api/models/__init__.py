"""The tables. The wire's resource names are the tables' names."""

from gantry.api.models.accounts import (
    Actor,
    ApiKey,
    KeyRole,
    LoginAttempt,
    PublicKey,
    SecondFactor,
    User,
)
from gantry.api.models.base import Base
from gantry.api.models.fleet import (
    Application,
    CpuArchitecture,
    Device,
    DeviceType,
    HeartbeatState,
)
from gantry.api.models.releases import Image, Release, ReleaseImage, Service
from gantry.api.models.variables import (
    ApplicationVariable,
    DeviceTag,
    DeviceVariable,
    ImageInstall,
    ServiceInstall,
)

__all__ = [
    "Actor",
    "ApiKey",
    "Application",
    "ApplicationVariable",
    "Base",
    "CpuArchitecture",
    "Device",
    "DeviceTag",
    "DeviceType",
    "DeviceVariable",
    "HeartbeatState",
    "Image",
    "ImageInstall",
    "KeyRole",
    "LoginAttempt",
    "PublicKey",
    "Release",
    "ReleaseImage",
    "SecondFactor",
    "Service",
    "ServiceInstall",
    "User",
]
