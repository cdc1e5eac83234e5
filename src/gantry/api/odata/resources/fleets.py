"""Device types, fleets and their devices."""

from typing import Any

from sqlalchemy import ColumnElement, case, false, func, select
from sqlalchemy.orm import aliased

from gantry.api.models import (
    Application,
    ApplicationType,
    CpuArchitecture,
    Device,
    DeviceAction,
    DeviceType,
    DeviceTypeAlias,
    OrganizationMembership,
)
from gantry.api.odata.schema import Field, Kind, Navigation, Resource, Row, referred_by, refers
from gantry.api.queries import visibility


def _target_of(device: Row) -> ColumnElement[Any]:
    fleet = aliased(Application)
    target = (
        select(fleet.should_be_running__release)
        .where(fleet.id == device.belongs_to__application)
        .correlate_except(fleet)
        .scalar_subquery()
    )
    return func.coalesce(device.is_pinned_on__release, target)


def _overall_status(device: Row) -> ColumnElement[Any]:
    updating = device.update_status.in_(("downloading", "downloaded", "applying changes"))
    return case(
        (~device.is_active, "inactive"),
        (device.api_heartbeat_state == "unknown", "configuring"),
        (~device.is_online, "disconnected"),
        (device.download_progress.is_not(None) | func.coalesce(updating, False), "updating"),
        else_="operational",
    )


def _member(application: Row, user: Row) -> ColumnElement[bool]:
    members = select(OrganizationMembership.user).where(
        OrganizationMembership.is_member_of__organization == application.organization
    )
    return user.id.in_(members)  # type: ignore[no-any-return]


RESOURCES = (
    Resource(
        "cpu_architecture",
        CpuArchitecture,
        visibility.everyone,
        natural_keys=(frozenset({"slug"}),),
        navigations={
            "is_supported_by__device_type": Navigation(
                "device_type", referred_by("is_of__cpu_architecture")
            ),
        },
    ),
    Resource(
        "device_type",
        DeviceType,
        visibility.everyone,
        natural_keys=(frozenset({"slug"}),),
        navigations={
            "is_of__cpu_architecture": Navigation(
                "cpu_architecture", refers("is_of__cpu_architecture")
            ),
            "is_default_for__application": Navigation(
                "application", referred_by("is_for__device_type")
            ),
            "describes_device": Navigation("device", referred_by("is_of__device_type")),
            "describes__device": Navigation("device", referred_by("is_of__device_type")),
            "device_type_alias": Navigation(
                "device_type_alias", referred_by("references__device_type")
            ),
        },
    ),
    Resource(
        "device_type_alias",
        DeviceTypeAlias,
        visibility.everyone,
        natural_keys=(frozenset({"is_referenced_by__alias"}),),
        navigations={
            "references__device_type": Navigation("device_type", refers("references__device_type")),
        },
    ),
    Resource(
        "application_type",
        ApplicationType,
        visibility.everyone,
        natural_keys=(frozenset({"slug"}),),
    ),
    Resource(
        "application",
        Application,
        visibility.application,
        changeable=visibility.own_application,
        natural_keys=(
            frozenset({"slug"}),
            frozenset({"uuid"}),
            frozenset({"organization", "app_name"}),
        ),
        navigations={
            "actor": Navigation("actor", refers("actor")),
            "organization": Navigation("organization", refers("organization")),
            "application_type": Navigation("application_type", refers("application_type")),
            "belongs_to__user": Navigation("user", refers("belongs_to__user")),
            "is_directly_accessible_by__user": Navigation("user", _member),
            "is_for__device_type": Navigation("device_type", refers("is_for__device_type")),
            "should_be_running__release": Navigation(
                "release", refers("should_be_running__release")
            ),
            "owns__device": Navigation("device", referred_by("belongs_to__application")),
            "owns__release": Navigation("release", referred_by("belongs_to__application")),
            "service": Navigation("service", referred_by("application")),
            "application_tag": Navigation("application_tag", referred_by("application")),
            "application_environment_variable": Navigation(
                "application_environment_variable", referred_by("application")
            ),
            "application_config_variable": Navigation(
                "application_config_variable", referred_by("application")
            ),
        },
    ),
    Resource(
        "device",
        Device,
        visibility.device,
        hidden=frozenset(
            {
                "event_stream",
                "event_stream_expires_at",
                "heartbeat_expires_at",
                "vpn_address",
                "vpn_server",
                "vpn_session",
                "vpn_session_at",
                "api_secret",
            }
        ),
        natural_keys=(frozenset({"uuid"}),),
        computed=(
            Field("should_be_running__release", Kind.INTEGER, _target_of, is_reference=True),
            Field("overall_status", Kind.TEXT, _overall_status),
            Field("overall_progress", Kind.INTEGER, lambda row: row.download_progress),
            # The family freezes devices of accounts that do not pay.
            Field("is_frozen", Kind.BOOLEAN, lambda _: false(), is_nullable=False),
        ),
        navigations={
            "actor": Navigation("actor", refers("actor")),
            "belongs_to__user": Navigation("user", refers("belongs_to__user")),
            "belongs_to__application": Navigation("application", refers("belongs_to__application")),
            "is_of__device_type": Navigation("device_type", refers("is_of__device_type")),
            "is_running__release": Navigation("release", refers("is_running__release")),
            "is_pinned_on__release": Navigation("release", refers("is_pinned_on__release")),
            "should_be_running__release": Navigation(
                "release", lambda row, other: _target_of(row) == other.id
            ),
            "should_be_managed_by__release": Navigation(
                "release", refers("should_be_managed_by__release")
            ),
            "should_be_operated_by__release": Navigation(
                "release", refers("should_be_operated_by__release")
            ),
            "device_environment_variable": Navigation(
                "device_environment_variable", referred_by("device")
            ),
            "device_config_variable": Navigation("device_config_variable", referred_by("device")),
            "device_tag": Navigation("device_tag", referred_by("device")),
            "device_action": Navigation("device_action", referred_by("device")),
            "image_install": Navigation("image_install", referred_by("device")),
            "service_install": Navigation("service_install", referred_by("device")),
            "gateway_download": Navigation(
                "gateway_download", referred_by("is_downloaded_by__device")
            ),
        },
    ),
    Resource(
        "device_action",
        DeviceAction,
        visibility.of_device,
        hidden=frozenset({"worker", "lease_expires_at", "sent_at", "tries", "next_try_at"}),
        navigations={
            "device": Navigation("device", refers("device")),
            "user": Navigation("user", refers("user")),
        },
    ),
)
