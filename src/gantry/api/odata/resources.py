"""The resources that exist, under the family's names."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, cast, func, select
from sqlalchemy import Text as SqlText
from sqlalchemy.orm import aliased

from gantry.api.actors import Actor
from gantry.api.models import (
    ApiKey,
    Application,
    ApplicationVariable,
    CpuArchitecture,
    Device,
    DeviceTag,
    DeviceType,
    DeviceVariable,
    Image,
    ImageInstall,
    PublicKey,
    Release,
    ReleaseImage,
    Service,
    ServiceInstall,
    User,
)
from gantry.api.odata.schema import Field, Kind, Navigation, Resource, Row, referred_by, refers
from gantry.api.queries import visibility

_CONFIGURATION = "^(RESIN|BALENA)_"


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


def _raw_version(release: Row) -> ColumnElement[Any]:
    with_revision = release.semver + "+rev" + cast(release.revision, SqlText)
    return case((func.coalesce(release.revision, 0) == 0, release.semver), else_=with_revision)


def _config_of(visible: Any) -> Any:
    """Only the variables that configure devices: the family has a resource of their own."""

    def both(row: Row, actor: Actor) -> ColumnElement[bool]:
        return and_(visible(row, actor), row.name.regexp_match(_CONFIGURATION))

    return both


_ALL = (
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
        },
    ),
    Resource(
        "user",
        User,
        visibility.user,
        hidden=frozenset({"password_hash", "session_epoch"}),
        natural_keys=(frozenset({"username"}),),
        navigations={
            "owns__application": Navigation("application", referred_by("belongs_to__user")),
            "user__has__public_key": Navigation("user__has__public_key", referred_by("user")),
        },
    ),
    Resource(
        "user__has__public_key",
        PublicKey,
        visibility.public_key,
        natural_keys=(frozenset({"user", "fingerprint"}),),
        navigations={"user": Navigation("user", refers("user"))},
    ),
    Resource("api_key", ApiKey, visibility.api_key, hidden=frozenset({"key_hash"})),
    Resource(
        "application",
        Application,
        visibility.application,
        natural_keys=(frozenset({"slug"}), frozenset({"uuid"})),
        navigations={
            "belongs_to__user": Navigation("user", refers("belongs_to__user")),
            "is_for__device_type": Navigation("device_type", refers("is_for__device_type")),
            "should_be_running__release": Navigation(
                "release", refers("should_be_running__release")
            ),
            "owns__device": Navigation("device", referred_by("belongs_to__application")),
            "owns__release": Navigation("release", referred_by("belongs_to__application")),
            "service": Navigation("service", referred_by("application")),
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
        hidden=frozenset({"event_stream", "event_stream_expires_at", "heartbeat_expires_at"}),
        natural_keys=(frozenset({"uuid"}),),
        computed=(
            Field("should_be_running__release", Kind.INTEGER, _target_of, is_reference=True),
            Field("overall_status", Kind.TEXT, _overall_status),
            Field("overall_progress", Kind.INTEGER, lambda row: row.download_progress),
        ),
        navigations={
            "belongs_to__user": Navigation("user", refers("belongs_to__user")),
            "belongs_to__application": Navigation("application", refers("belongs_to__application")),
            "is_of__device_type": Navigation("device_type", refers("is_of__device_type")),
            "is_running__release": Navigation("release", refers("is_running__release")),
            "is_pinned_on__release": Navigation("release", refers("is_pinned_on__release")),
            "should_be_running__release": Navigation(
                "release", lambda row, other: _target_of(row) == other.id
            ),
            "device_environment_variable": Navigation(
                "device_environment_variable", referred_by("device")
            ),
            "device_config_variable": Navigation("device_config_variable", referred_by("device")),
            "device_tag": Navigation("device_tag", referred_by("device")),
            "image_install": Navigation("image_install", referred_by("device")),
            "service_install": Navigation("service_install", referred_by("device")),
        },
    ),
    Resource(
        "release",
        Release,
        visibility.release,
        hidden=frozenset({"builder"}),
        heavy=frozenset({"build_log"}),
        natural_keys=(frozenset({"belongs_to__application", "semver", "revision"}),),
        computed=(Field("raw_version", Kind.TEXT, _raw_version),),
        navigations={
            "belongs_to__application": Navigation("application", refers("belongs_to__application")),
            "is_created_by__user": Navigation("user", refers("is_created_by__user")),
            "release_image": Navigation("release_image", referred_by("is_part_of__release")),
            "contains__image": Navigation("release_image", referred_by("is_part_of__release")),
            "is_running_on__device": Navigation("device", referred_by("is_running__release")),
            "is_pinned_to__device": Navigation("device", referred_by("is_pinned_on__release")),
            "image_install": Navigation("image_install", referred_by("is_provided_by__release")),
        },
    ),
    Resource(
        "service",
        Service,
        visibility.of_application,
        natural_keys=(frozenset({"application", "service_name"}),),
        navigations={
            "application": Navigation("application", refers("application")),
            "is_built_by__image": Navigation("image", referred_by("is_a_build_of__service")),
        },
    ),
    Resource(
        "image",
        Image,
        visibility.image,
        heavy=frozenset({"dockerfile"}),
        navigations={
            "is_a_build_of__service": Navigation("service", refers("is_a_build_of__service")),
            "release_image": Navigation("release_image", referred_by("image")),
        },
    ),
    Resource(
        "release_image",
        ReleaseImage,
        visibility.release_image,
        natural_keys=(frozenset({"is_part_of__release", "image"}),),
        navigations={
            "image": Navigation("image", refers("image")),
            "is_part_of__release": Navigation("release", refers("is_part_of__release")),
        },
    ),
    Resource(
        "application_environment_variable",
        ApplicationVariable,
        visibility.of_application,
        natural_keys=(frozenset({"application", "name"}),),
        navigations={"application": Navigation("application", refers("application"))},
    ),
    Resource(
        "application_config_variable",
        ApplicationVariable,
        _config_of(visibility.of_application),
        natural_keys=(frozenset({"application", "name"}),),
        navigations={"application": Navigation("application", refers("application"))},
    ),
    Resource(
        "device_environment_variable",
        DeviceVariable,
        visibility.of_device,
        natural_keys=(frozenset({"device", "name"}),),
        navigations={"device": Navigation("device", refers("device"))},
    ),
    Resource(
        "device_config_variable",
        DeviceVariable,
        _config_of(visibility.of_device),
        natural_keys=(frozenset({"device", "name"}),),
        navigations={"device": Navigation("device", refers("device"))},
    ),
    Resource(
        "device_tag",
        DeviceTag,
        visibility.of_device,
        natural_keys=(frozenset({"device", "tag_key"}),),
        navigations={"device": Navigation("device", refers("device"))},
    ),
    Resource(
        "service_install",
        ServiceInstall,
        visibility.of_device,
        natural_keys=(frozenset({"device", "installs__service"}),),
        navigations={
            "device": Navigation("device", refers("device")),
            "installs__service": Navigation("service", refers("installs__service")),
        },
    ),
    Resource(
        "image_install",
        ImageInstall,
        visibility.of_device,
        natural_keys=(frozenset({"device", "installs__image"}),),
        navigations={
            "device": Navigation("device", refers("device")),
            "installs__image": Navigation("image", refers("installs__image")),
            "is_provided_by__release": Navigation("release", refers("is_provided_by__release")),
        },
    ),
)

RESOURCES = {each.name: each for each in _ALL}
