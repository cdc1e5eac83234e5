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
from gantry.api.models.actions import ActionKind, ActionStatus, DeviceAction
from gantry.api.models.audit import AuditEntry
from gantry.api.models.base import Base
from gantry.api.models.fleet import (
    Application,
    ApplicationType,
    CpuArchitecture,
    Device,
    DeviceType,
    DeviceTypeAlias,
    HeartbeatState,
)
from gantry.api.models.installs import (
    GatewayDownload,
    ImageInstall,
    ServiceInstall,
)
from gantry.api.models.organizations import (
    Organization,
    OrganizationMembership,
    OrganizationMembershipRole,
    OrganizationRole,
)
from gantry.api.models.registry import DiscardedImage, RegistryPush, RegistryRun
from gantry.api.models.releases import (
    Image,
    Release,
    ReleaseAsset,
    ReleaseAssetChunk,
    ReleaseImage,
    Service,
)
from gantry.api.models.tags import (
    ApplicationTag,
    DeviceTag,
    ReleaseTag,
)
from gantry.api.models.variables import (
    ApplicationVariable,
    DeviceServiceVariable,
    DeviceVariable,
    ServiceVariable,
)
from gantry.api.models.vpn import VPN_ADDRESSES, VpnServer

__all__ = [
    "VPN_ADDRESSES",
    "ActionKind",
    "ActionStatus",
    "Actor",
    "ApiKey",
    "Application",
    "ApplicationTag",
    "ApplicationType",
    "ApplicationVariable",
    "AuditEntry",
    "Base",
    "CpuArchitecture",
    "Device",
    "DeviceAction",
    "DeviceServiceVariable",
    "DeviceTag",
    "DeviceType",
    "DeviceTypeAlias",
    "DeviceVariable",
    "DiscardedImage",
    "GatewayDownload",
    "HeartbeatState",
    "Image",
    "ImageInstall",
    "KeyRole",
    "LoginAttempt",
    "Organization",
    "OrganizationMembership",
    "OrganizationMembershipRole",
    "OrganizationRole",
    "PublicKey",
    "RegistryPush",
    "RegistryRun",
    "Release",
    "ReleaseAsset",
    "ReleaseAssetChunk",
    "ReleaseImage",
    "ReleaseTag",
    "SecondFactor",
    "Service",
    "ServiceInstall",
    "ServiceVariable",
    "User",
    "VpnServer",
]
