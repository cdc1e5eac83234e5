"""Every rule of the model, declared once.

Whoever changes one writes a revision of the database that makes its constraints and calls
`migrations.rules.replace`, with a file of what `python -m gantry.api rules --sql` prints; and
docs/rules.md, with `--markdown`. Tests say what of it is missing.
"""

from collections.abc import Iterable

from sqlalchemy import and_, exists, func, literal, or_, tuple_
from sqlalchemy.orm import aliased

from gantry.api.models import (
    ActionKind,
    ActionStatus,
    Actor,
    ApiKey,
    Application,
    ApplicationTag,
    ApplicationVariable,
    CpuArchitecture,
    Device,
    DeviceAction,
    DeviceServiceVariable,
    DeviceTag,
    DeviceType,
    DeviceVariable,
    GatewayDownload,
    Image,
    ImageInstall,
    Organization,
    OrganizationMembership,
    RegistryRun,
    Release,
    ReleaseAsset,
    ReleaseImage,
    ReleaseTag,
    Service,
    ServiceInstall,
    ServiceVariable,
    User,
)
from gantry.api.models.accounts import USERNAME_PATTERN
from gantry.api.models.fleet import APP_NAME_PATTERN, PORTS_PATTERN, UUID_PATTERN
from gantry.api.models.organizations import HANDLE_PATTERN
from gantry.api.models.variables import (
    CONFIGURATION_NAME_PATTERN,
    MAX_VALUE_BYTES,
    MAX_VARIABLE_NAME,
    RESERVED_NAME_PATTERN,
    VARIABLE_NAME_PATTERN,
)
from gantry.api.rules.kinds import Check, Clears, Holds, Link, Removes, Required, Rule, Unique
from gantry.contracts import device_types
from gantry.contracts.registry_space import RunKind, RunStatus

# Variables that may configure the device itself, and those of services, which may not.
_CONFIGURING = (ApplicationVariable, DeviceVariable)
_VARIABLES = (*_CONFIGURING, ServiceVariable, DeviceServiceVariable)
_TAGS = (ApplicationTag, DeviceTag, ReleaseTag)
_VARIABLE_NAME = f"name ~ '{VARIABLE_NAME_PATTERN}' and length(name) <= {MAX_VARIABLE_NAME}"
# `services.variables` says the same in sentences, before the database is asked.
_NOT_RESERVED = f"name !~ '{RESERVED_NAME_PATTERN}' or name ~ '{CONFIGURATION_NAME_PATTERN}'"
_NOT_CONFIGURING = f"name !~ '{RESERVED_NAME_PATTERN}'"
_COORDINATE = "'^(-?[0-9]{1,3}([.][0-9]{1,20})?)?$'"
_TAG_KEY = "tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100"
_STATUS = "status in ('running', 'success', 'failed', 'cancelled')"
_SEMVER = r"semver ~ '^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$'"

_SERVICE_ACTIONS = ("start-service", "stop-service", "restart-service")


def _one_of(column: str, values: Iterable[str]) -> str:
    listed = ", ".join(f"'{each}'" for each in values)
    return f"{column} in ({listed})"


def _runs() -> list[tuple[str, str]]:
    """Architectures: of a device, and of what it runs."""

    def kind(architecture: device_types.Architecture) -> device_types.DeviceType:
        return device_types.DeviceType("", "", architecture)

    every = device_types.Architecture
    return [(own, built) for own in every for built in every if kind(own).runs(kind(built))]


_fleet = aliased(Application, name="fleet")
_own_type = aliased(DeviceType, name="own_type")
_fleet_type = aliased(DeviceType, name="fleet_type")
_own_cpu = aliased(CpuArchitecture, name="own_cpu")
_fleet_cpu = aliased(CpuArchitecture, name="fleet_cpu")
_release = aliased(Release, name="wanted")
_actor = aliased(Actor, name="acting")
_part = aliased(ReleaseImage, name="other_part")
_part_image = aliased(Image, name="other_image")
_whole = aliased(Release, name="whole")
_image = aliased(Image, name="part")
_service = aliased(Service, name="built")
_device = aliased(Device, name="owner")
_organization = aliased(Organization, name="owning")
_supervisor = aliased(Application, name="supervisor")


def _acts_alone(own: type[User | Application | Device]) -> Holds:
    others = [each for each in (User, Application, Device) if each is not own]
    return Holds(
        own,
        (Link(_actor, own.actor, alone=True),),
        and_(*(~exists().where(other.actor == own.actor) for other in others)),
    )


def _keys_fit(own: type[User | Application | Device], role: str) -> Holds:
    other = exists().where(ApiKey.is_of__actor == own.actor).where(ApiKey.role != role)
    return Holds(own, (Link(_actor, own.actor, alone=True),), ~other)


# What the keys of each kind of actor are.
_KEYS = ((User, "user"), (Application, "provisioning"), (Device, "device"))

FLEETS = (
    Rule(
        "device_type_fits",
        "It is necessary that each device is of a device type that runs what is built for the "
        "device type of the device's application.",
        [
            Holds(
                Device,
                (
                    Link(_fleet, Device.belongs_to__application),
                    Link(_own_type, Device.is_of__device_type),
                    Link(_fleet_type, _fleet.is_for__device_type),
                    Link(_own_cpu, _own_type.is_of__cpu_architecture),
                    Link(_fleet_cpu, _fleet_type.is_of__cpu_architecture),
                ),
                tuple_(_own_cpu.slug, _fleet_cpu.slug).in_(_runs()),
            )
        ],
    ),
    Rule(
        "pin_fits",
        "It is necessary that each release that a device is pinned on belongs to the device's "
        "application, is a success and has not had its images removed.",
        [
            Holds(
                Device,
                (Link(_release, Device.is_pinned_on__release),),
                and_(
                    _release.status == "success",
                    _release.images_removed_timestamp.is_(None),
                    _release.belongs_to__application == Device.belongs_to__application,
                ),
                ("fk_device_is_pinned_on__release",),
            )
        ],
    ),
    Rule(
        "target_fits",
        "It is necessary that each release that an application should be running belongs to the "
        "application, is a success, is final, is not invalidated and has not had its images "
        "removed.",
        [
            Holds(
                Application,
                (Link(_release, Application.should_be_running__release),),
                and_(
                    _release.status == "success",
                    _release.is_final,
                    ~_release.is_invalidated,
                    _release.images_removed_timestamp.is_(None),
                    _release.belongs_to__application == Application.id,
                ),
                ("fk_application_should_be_running__release",),
            )
        ],
    ),
    Rule(
        "running_release_fits",
        "It is necessary that each release that a device is running belongs to the device's "
        "application.",
        [
            Holds(
                Device,
                (Link(_release, Device.is_running__release),),
                _release.belongs_to__application == Device.belongs_to__application,
            )
        ],
    ),
    Rule(
        "supervisor_fits",
        "It is necessary that each release that should manage a device is a success of a public "
        "application of supervisors that is for the CPU architecture of the device's type, and has "
        "not had its images removed.",
        [
            Holds(
                Device,
                (
                    Link(_release, Device.should_be_managed_by__release),
                    Link(_supervisor, _release.belongs_to__application),
                    Link(_own_type, Device.is_of__device_type),
                    Link(_fleet_type, _supervisor.is_for__device_type),
                ),
                and_(
                    _release.status == "success",
                    _release.images_removed_timestamp.is_(None),
                    _supervisor.is_public,
                    _supervisor.app_name.regexp_match("-supervisor$"),
                    _own_type.is_of__cpu_architecture == _fleet_type.is_of__cpu_architecture,
                ),
            )
        ],
    ),
    Rule(
        "move_clears",
        "When a device moves to another application, it is no longer pinned on a release, and "
        "runs none, unless the release belongs to that application.",
        [
            Clears(
                Device,
                Device.belongs_to__application,
                Link(_release, column),
                _release.belongs_to__application,
            )
            for column in (Device.is_pinned_on__release, Device.is_running__release)
        ],
    ),
    Rule(
        "move_forgets",
        "When a device moves to another application, it has none of the services and images of "
        "the former one installed.",
        [
            Removes(Device, Device.belongs_to__application, ServiceInstall.device),
            Removes(Device, Device.belongs_to__application, ImageInstall.device),
        ],
    ),
    Rule(
        "installed_service_fits",
        "It is necessary that each service that a device has installed belongs to the device's "
        "application.",
        [
            Holds(
                ServiceInstall,
                (
                    Link(_device, ServiceInstall.device),
                    Link(_service, ServiceInstall.installs__service),
                ),
                _service.application == _device.belongs_to__application,
            )
        ],
    ),
    Rule(
        "device_has_one_fleet",
        "It is necessary that each device belongs to exactly one application.",
        [Required(Device.belongs_to__application)],
    ),
    Rule(
        "device_uuid",
        "It is necessary that each device has a uuid of 32 or 62 lower-case hexadecimal digits.",
        [Check(Device, "uuid", f"uuid ~ '{UUID_PATTERN}'")],
    ),
    Rule(
        "device_name",
        "It is necessary that each device has a name of 1 to 255 characters.",
        [Check(Device, "device_name", "length(device_name) between 1 and 255")],
    ),
    Rule(
        "custom_location",
        "It is necessary that the custom latitude and longitude of each device, if any, are "
        "decimal numbers of degrees.",
        [
            Check(Device, name, f"{name} ~ {_COORDINATE}")
            for name in ("custom_latitude", "custom_longitude")
        ],
    ),
    Rule(
        "reachable_ports",
        "It is necessary that the reachable ports of each application and of each device, if any "
        "are said, are a list of ports and ranges of ports.",
        [
            Check(each, "reachable_ports", f"reachable_ports ~ '{PORTS_PATTERN}'")
            for each in (Application, Device)
        ],
    ),
    Rule(
        "heartbeat_state",
        "It is necessary that the heartbeat of each device is unknown, online, timeout or offline.",
        [
            Check(
                Device,
                "api_heartbeat_state",
                "api_heartbeat_state in ('unknown', 'online', 'timeout', 'offline')",
            )
        ],
    ),
    Rule(
        "application_name",
        "It is necessary that each application has a name of 4 to 100 letters, digits, - and _ "
        "that begins with a letter.",
        [Check(Application, "app_name", f"app_name ~ '{APP_NAME_PATTERN}'")],
    ),
    Rule(
        "application_name_once",
        "It is necessary that each organization has at most one application of a name.",
        [Unique(Application, ("organization", "app_name"))],
    ),
    Rule(
        "application_has_one_organization",
        "It is necessary that each application belongs to exactly one organization.",
        [Required(Application.organization)],
    ),
    Rule(
        "application_slug",
        "It is necessary that the slug of each application is the handle of its organization, a "
        "slash, and the application's name in lower case.",
        [
            Holds(
                Application,
                (Link(_organization, Application.organization),),
                Application.slug
                == _organization.handle + literal("/") + func.lower(Application.app_name),
            )
        ],
    ),
    Rule(
        "application_uuid",
        "It is necessary that each application has a uuid of 32 lower-case hexadecimal digits.",
        [Check(Application, "uuid", "uuid ~ '^[0-9a-f]{32}$'")],
    ),
    Rule(
        "application_class",
        "It is necessary that each application is a fleet, a block or an app.",
        [Check(Application, "is_of__class", "is_of__class in ('fleet', 'block', 'app')")],
    ),
)

RELEASES = (
    Rule(
        "success_once",
        "It is necessary that each application has at most one success of a commit that has not "
        "had its images removed.",
        [
            Unique(
                Release,
                ("belongs_to__application", "commit"),
                "uq_release_success_commit",
                "status = 'success' and images_removed_timestamp is null",
            )
        ],
    ),
    Rule(
        "images_removed",
        "It is necessary that each release that has had its images removed is not running.",
        [
            Check(
                Release,
                "images_removed_timestamp",
                "images_removed_timestamp is null or status <> 'running'",
            )
        ],
    ),
    Rule(
        "revision_once",
        "It is necessary that each application has at most one release of a version and revision.",
        [
            Unique(
                Release,
                ("belongs_to__application", "semver", "revision"),
                "uq_release_revision",
                "revision is not null",
            )
        ],
    ),
    Rule(
        "commit",
        "It is necessary that each release has a commit of 7 to 64 lower-case hexadecimal digits.",
        [Check(Release, "commit", "commit ~ '^[0-9a-f]{7,64}$'")],
    ),
    Rule(
        "status",
        "It is necessary that each release and each image is running, success, failed or "
        "cancelled.",
        [Check(model, "status", _STATUS) for model in (Release, Image)],
    ),
    Rule(
        "phase",
        "It is necessary that the phase of each release, if any, is next, current, sunset or "
        "end-of-life.",
        [Check(Release, "phase", "phase in ('next', 'current', 'sunset', 'end-of-life')")],
    ),
    Rule(
        "semver",
        "It is necessary that the version of each release is of the form of semantic versioning.",
        [Check(Release, "semver", _SEMVER)],
    ),
    Rule(
        "one_image_a_service",
        "It is necessary that each release has at most one image of a service.",
        [
            Holds(
                ReleaseImage,
                (
                    Link(_whole, ReleaseImage.is_part_of__release, alone=True),
                    Link(_image, ReleaseImage.image),
                ),
                ~exists()
                .where(_part.is_part_of__release == ReleaseImage.is_part_of__release)
                .where(_part.id != ReleaseImage.id)
                .where(_part_image.id == _part.image)
                .where(_part_image.is_a_build_of__service == _image.is_a_build_of__service),
            ),
            Unique(ReleaseImage, ("is_part_of__release", "image")),
        ],
    ),
    Rule(
        "image_fits",
        "It is necessary that each image of a release is a build of a service of the release's "
        "application.",
        [
            Holds(
                ReleaseImage,
                (
                    Link(_whole, ReleaseImage.is_part_of__release),
                    Link(_image, ReleaseImage.image),
                    Link(_service, _image.is_a_build_of__service),
                ),
                _service.application == _whole.belongs_to__application,
            )
        ],
    ),
    Rule(
        "image_digest",
        "It is necessary that each image that is a success has a digest, of the form sha256: and "
        "64 hexadecimal digits.",
        [
            Check(Image, "content_hash", "content_hash ~ '^sha256:[0-9a-f]{64}$'"),
            Check(Image, "success", "status <> 'success' or content_hash is not null"),
        ],
    ),
    Rule(
        "service_name",
        "It is necessary that each service has a name of 1 to 63 letters, digits, dots, _ and - "
        "that begins with a letter or digit.",
        [Check(Service, "service_name", "service_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'")],
    ),
    Rule(
        "service_name_once",
        "It is necessary that each application has at most one service of a name.",
        [Unique(Service, ("application", "service_name"))],
    ),
    Rule(
        "repository",
        "It is necessary that each service is stored in a repository v2/ and 32 hexadecimal "
        "digits.",
        [Check(Service, "repository", "repository ~ '^v2/[0-9a-f]{32}$'")],
    ),
    Rule(
        "download_progress",
        "It is necessary that the download of each image on a device is between 0 and 100 percent.",
        [
            Check(model, "download_progress", "download_progress between 0 and 100")
            for model in (ImageInstall, GatewayDownload)
        ],
    ),
    Rule(
        "asset_key",
        "It is necessary that each file of a release has a key of 1 to 255 letters, digits, dots, "
        "slashes, _ and -.",
        [Check(ReleaseAsset, "asset_key", "asset_key ~ '^[A-Za-z0-9._/-]{1,255}$'")],
    ),
    Rule(
        "asset_key_once",
        "It is necessary that each release has at most one file of a key.",
        [Unique(ReleaseAsset, ("release", "asset_key"))],
    ),
)

VARIABLES = (
    Rule(
        "variable_name",
        "It is necessary that each variable has a name of 1 to 255 letters, digits and _ that "
        "does not begin with a digit.",
        [Check(model, "name", _VARIABLE_NAME) for model in _VARIABLES],
    ),
    Rule(
        "variable_name_once",
        "It is necessary that each application, each device, each service, and each service of a "
        "device has at most one variable of a name.",
        [
            Unique(ApplicationVariable, ("application", "name")),
            Unique(DeviceVariable, ("device", "name")),
            Unique(ServiceVariable, ("service", "name")),
            Unique(DeviceServiceVariable, ("service_install", "name")),
        ],
    ),
    Rule(
        "variable_reserved",
        "It is necessary that no variable has a name that begins with RESIN_ or BALENA_, unless "
        "it configures the device's host or supervisor.",
        [Check(model, "reserved", _NOT_RESERVED) for model in _CONFIGURING],
    ),
    Rule(
        "service_variable_reserved",
        "It is necessary that no variable of a service has a name that begins with RESIN_ or "
        "BALENA_.",
        [
            Check(model, "reserved", _NOT_CONFIGURING)
            for model in (ServiceVariable, DeviceServiceVariable)
        ],
    ),
    Rule(
        "variable_value",
        "It is necessary that the value of each variable has at most 100000 bytes.",
        [
            Check(model, "value", f"octet_length(value) <= {MAX_VALUE_BYTES}")
            for model in _VARIABLES
        ],
    ),
    Rule(
        "tag_key",
        "It is necessary that each tag has a key of 1 to 100 characters without blanks.",
        # Must stay as `services.tags` has it.
        [Check(model, "tag_key", _TAG_KEY) for model in _TAGS],
    ),
    Rule(
        "tag_key_once",
        "It is necessary that each application, each device and each release has at most one tag "
        "of a key.",
        [
            Unique(ApplicationTag, ("application", "tag_key")),
            Unique(DeviceTag, ("device", "tag_key")),
            Unique(ReleaseTag, ("release", "tag_key")),
        ],
    ),
    Rule(
        "tag_value",
        "It is necessary that the value of each tag has at most 1000 characters.",
        [Check(model, "value", "length(value) <= 1000") for model in _TAGS],
    ),
)

ACCOUNTS = (
    Rule(
        "username",
        "It is necessary that each user has a name of 2 to 31 lower-case letters, digits, - and _ "
        "that begins with a letter.",
        [Check(User, "username", f"username ~ '{USERNAME_PATTERN}'")],
    ),
    Rule(
        "handle",
        "It is necessary that each organization has a handle of 2 to 31 lower-case letters, "
        "digits, - and _ that begins with a letter or digit.",
        [Check(Organization, "handle", f"handle ~ '{HANDLE_PATTERN}'")],
    ),
    Rule(
        "organization_name",
        "It is necessary that each organization has a name of 1 to 255 characters.",
        [Check(Organization, "name", "length(name) between 1 and 255")],
    ),
    Rule(
        "member_once",
        "It is necessary that each user is at most once a member of an organization.",
        [Unique(OrganizationMembership, ("user", "is_member_of__organization"))],
    ),
    Rule(
        "one_actor",
        "It is necessary that each actor is at most one user, application or device.",
        [_acts_alone(own) for own in (User, Application, Device)],
    ),
    Rule(
        "key_has_one_actor",
        "It is necessary that each API key acts for exactly one actor.",
        [Required(ApiKey.is_of__actor)],
    ),
    Rule(
        "key_role",
        "It is necessary that each API key is a user's, a device's or for provisioning.",
        [Check(ApiKey, "role", "role in ('user', 'device', 'provisioning')")],
    ),
    Rule(
        "key_fits_actor",
        "It is necessary that each API key that acts for a user is a user's, each that acts for a "
        "device is a device's, and each that acts for an application is for provisioning.",
        [
            Holds(
                ApiKey,
                (Link(_actor, ApiKey.is_of__actor, alone=True),),
                and_(
                    *(
                        or_(
                            ApiKey.role == role,
                            ~exists().where(own.actor == ApiKey.is_of__actor),
                        )
                        for own, role in _KEYS
                    )
                ),
            ),
            *(_keys_fit(own, role) for own, role in _KEYS),
        ],
    ),
)

ACTIONS = (
    Rule(
        "action_kind",
        "It is necessary that each action is restart, start-service, stop-service, "
        "restart-service, purge, reboot, shutdown, update or identify.",
        [Check(DeviceAction, "action", _one_of("action", ActionKind))],
    ),
    Rule(
        "action_service",
        "It is necessary that each action names a service if it starts, stops or restarts one, "
        "and that no other does.",
        [
            Check(
                DeviceAction,
                "service",
                f"({_one_of('action', _SERVICE_ACTIONS)}) = "
                "(coalesce(parameters ->> 'service', '') <> '')",
            )
        ],
    ),
    Rule(
        "action_status",
        "It is necessary that each action is pending, running, done, failed, expired or cancelled.",
        [Check(DeviceAction, "status", _one_of("status", ActionStatus))],
    ),
    Rule(
        "action_expiry",
        "It is necessary that each action expires between 1 minute and 30 days after it was made.",
        [
            Check(
                DeviceAction,
                "expires_at",
                "expires_at between created_at + interval '1 minute' "
                "and created_at + interval '30 days'",
            )
        ],
    ),
    Rule(
        "action_end",
        "It is necessary that each action has an end unless it is pending or running.",
        [
            Check(
                DeviceAction,
                "ended_at",
                "(ended_at is null) = (status in ('pending', 'running'))",
            )
        ],
    ),
    Rule(
        "action_alone",
        "It is necessary that each device has at most one action that is running.",
        [
            Unique(
                DeviceAction,
                ("device",),
                name="uq_device_action_running",
                where="status = 'running'",
            )
        ],
    ),
)

REGISTRY = (
    Rule(
        "registry_run_kind",
        "It is necessary that each run over the registry is a survey or collects or frees.",
        [Check(RegistryRun, "kind", _one_of("kind", RunKind))],
    ),
    Rule(
        "registry_run_status",
        "It is necessary that each run over the registry is ordered, running, done or failed.",
        [Check(RegistryRun, "status", _one_of("status", RunStatus))],
    ),
    Rule(
        "registry_run_alone",
        "It is necessary that at most one run over the registry is running.",
        [
            Unique(
                RegistryRun,
                ("status",),
                name="uq_registry_run_running",
                where="status = 'running'",
            )
        ],
    ),
)

# By what they speak of, as they are listed.
GROUPS = {
    "Fleets and devices": FLEETS,
    "Actions on devices": ACTIONS,
    "Releases": RELEASES,
    "The registry's space": REGISTRY,
    "Variables and tags": VARIABLES,
    "Accounts, organizations and keys": ACCOUNTS,
}
RULES = tuple(rule for rules in GROUPS.values() for rule in rules)
