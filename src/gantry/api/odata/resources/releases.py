"""What fleets run: releases, their services, images and files."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, case, cast, func, select, true
from sqlalchemy.dialects.postgresql import JSONB

from gantry.api.models import Image, Release, ReleaseAsset, ReleaseImage, Service, ServiceInstall
from gantry.api.odata.schema import Field, Kind, Navigation, Resource, Row, referred_by, refers
from gantry.api.queries import visibility

# The parts of a version (https://semver.org, 2.0.0). The first group of a pattern is the part.
_MAJOR, _MINOR, _PATCH = r"^([0-9]+)", r"^[0-9]+[.]([0-9]+)", r"^[0-9]+[.][0-9]+[.]([0-9]+)"
_CORE, _PRERELEASE, _BUILD = r"^([0-9.]+)", r"^[0-9.]+-([^+]+)", r"[+](.+)$"


def _part(release: Row, pattern: str) -> ColumnElement[Any]:
    return func.coalesce(func.substring(release.semver, pattern), "")


def _number(pattern: str) -> Any:
    return lambda release: cast(func.substring(release.semver, pattern), BigInteger)


def _prerelease(release: Row) -> ColumnElement[Any]:
    """A draft's is its time in milliseconds, after what its version says."""
    own = _part(release, _PRERELEASE)
    time = cast(cast(func.extract("epoch", release.created_at) * 1000, BigInteger), Text)
    return case(
        (release.is_final, own),
        (own == "", time),
        else_=own + "." + time,
    )


def _build(release: Row) -> ColumnElement[Any]:
    """A final release's is its revision, if that is not 0, after what its version says."""
    own = _part(release, _BUILD)
    revision = "rev" + cast(release.revision, Text)
    return case(
        (func.coalesce(release.revision, 0) == 0, own),
        (own == "", revision),
        else_=own + "." + revision,
    )


def _raw_version(release: Row) -> ColumnElement[Any]:
    prerelease, build = _prerelease(release), _build(release)
    return (
        _part(release, _CORE)
        + case((prerelease == "", ""), else_="-" + prerelease)
        + case((build == "", ""), else_="+" + build)
    )


def _version(release: Row) -> ColumnElement[Any]:
    prerelease, build = _prerelease(release), _build(release)
    fields: dict[str, Any] = {
        "raw": _raw_version(release),
        "major": _number(_MAJOR)(release),
        "minor": _number(_MINOR)(release),
        "patch": _number(_PATCH)(release),
        "version": _part(release, _CORE) + case((prerelease == "", ""), else_="-" + prerelease),
        "prerelease": func.to_jsonb(func.string_to_array(prerelease, ".")),
        "build": func.to_jsonb(func.string_to_array(build, ".")),
    }
    pairs = [each for pair in fields.items() for each in pair]
    return func.jsonb_build_object(*pairs, type_=JSONB)


def _variables_of_installs(service: Row, variable: Row) -> ColumnElement[bool]:
    installs = select(ServiceInstall.id).where(ServiceInstall.installs__service == service.id)
    return variable.service_install.in_(installs)  # type: ignore[no-any-return]


def _address(asset: Row) -> ColumnElement[Any]:
    """A file as the family describes one; `href` is relative to the api's address."""
    return func.jsonb_build_object(
        "filename",
        asset.filename,
        "href",
        "/v7/release_asset(" + cast(asset.id, Text) + ")/asset",
        "content_type",
        asset.content_type,
        "size",
        asset.size,
        "checksum",
        asset.checksum,
        type_=JSONB,
    )


RESOURCES = (
    Resource(
        "release",
        Release,
        visibility.release,
        changeable=visibility.own_release,
        hidden=frozenset({"builder"}),
        heavy=frozenset({"build_log"}),
        natural_keys=(frozenset({"belongs_to__application", "semver", "revision"}),),
        computed=(
            Field("raw_version", Kind.TEXT, _raw_version),
            Field("version", Kind.JSON, _version),
            Field("semver_major", Kind.INTEGER, _number(_MAJOR)),
            Field("semver_minor", Kind.INTEGER, _number(_MINOR)),
            Field("semver_patch", Kind.INTEGER, _number(_PATCH)),
            Field("semver_prerelease", Kind.TEXT, lambda row: _part(row, _PRERELEASE)),
            Field("semver_build", Kind.TEXT, lambda row: _part(row, _BUILD)),
            # The family's word for a release that no tests of its own have refused: none do here.
            Field("is_passing_tests", Kind.BOOLEAN, lambda _: true(), is_nullable=False),
        ),
        navigations={
            "belongs_to__application": Navigation("application", refers("belongs_to__application")),
            "is_created_by__user": Navigation("user", refers("is_created_by__user")),
            "release_image": Navigation("release_image", referred_by("is_part_of__release")),
            "contains__image": Navigation("release_image", referred_by("is_part_of__release")),
            "release_tag": Navigation("release_tag", referred_by("release")),
            "release_asset": Navigation("release_asset", referred_by("release")),
            "should_be_running_on__application": Navigation(
                "application", referred_by("should_be_running__release")
            ),
            "is_running_on__device": Navigation("device", referred_by("is_running__release")),
            "is_pinned_to__device": Navigation("device", referred_by("is_pinned_on__release")),
            "should_manage__device": Navigation(
                "device", referred_by("should_be_managed_by__release")
            ),
            "should_operate__device": Navigation(
                "device", referred_by("should_be_operated_by__release")
            ),
            "image_install": Navigation("image_install", referred_by("is_provided_by__release")),
        },
    ),
    Resource(
        "release_asset",
        ReleaseAsset,
        visibility.of_readable_release,
        changeable=visibility.of_release,
        hidden=frozenset({"filename", "content_type", "size", "checksum"}),
        natural_keys=(frozenset({"release", "asset_key"}),),
        computed=(Field("asset", Kind.JSON, _address),),
        navigations={"release": Navigation("release", refers("release"))},
    ),
    Resource(
        "service",
        Service,
        visibility.of_readable_application,
        changeable=visibility.of_application,
        natural_keys=(frozenset({"application", "service_name"}),),
        navigations={
            "application": Navigation("application", refers("application")),
            "is_built_by__image": Navigation("image", referred_by("is_a_build_of__service")),
            "service_install": Navigation("service_install", referred_by("installs__service")),
            "service_environment_variable": Navigation(
                "service_environment_variable", referred_by("service")
            ),
            "device_service_environment_variable": Navigation(
                "device_service_environment_variable", _variables_of_installs
            ),
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
            "image_install": Navigation("image_install", referred_by("installs__image")),
            "gateway_download": Navigation("gateway_download", referred_by("image")),
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
)
