"""What each actor may see, as conditions over rows: they are part of every query of `/v7`."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, false, or_, select, true, union_all

from gantry.api.actors import Actor, DeviceActor, UserActor
from gantry.api.models import (
    Application,
    Device,
    OrganizationMembership,
    Release,
    ReleaseImage,
    Service,
    ServiceInstall,
    User,
)

Condition = Callable[[Any, Actor], ColumnElement[bool]]


def everyone(_: Any, __: Actor) -> ColumnElement[bool]:
    """Rows that are no secret."""
    return true()


def of_members(organization: Any, user_id: int) -> ColumnElement[bool]:
    """Whether this user is a member of the organization that the column names."""
    own = select(OrganizationMembership.is_member_of__organization).where(
        OrganizationMembership.user == user_id
    )
    return organization.in_(own)  # type: ignore[no-any-return]


def _own_applications(actor: UserActor) -> Select[int]:
    return select(Application.id).where(of_members(Application.organization, actor.user_id))


def _own_devices(actor: UserActor) -> Select[int]:
    return select(Device.id).where(Device.belongs_to__application.in_(_own_applications(actor)))


def _public_applications() -> Select[int]:
    return select(Application.id).where(Application.is_public)


def _device_releases(actor: DeviceActor) -> ColumnElement[Any]:
    """What a device runs or should run: no other release of its fleet concerns it."""
    own = select(Device).where(Device.id == actor.device_id).subquery()
    target = select(Application.should_be_running__release).where(
        Application.id == actor.application_id
    )
    ids = union_all(
        target,
        select(own.c.is_pinned_on__release),
        select(own.c.is_running__release),
        select(own.c.should_be_managed_by__release),
    ).subquery()
    return select(ids.c[0]).where(ids.c[0].is_not(None)).scalar_subquery()


def organization(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Those that a user is a member of, and those with something for everybody."""
    public = row.id.in_(select(Application.organization).where(Application.is_public))
    match actor:
        case UserActor():
            return or_(of_members(row.id, actor.user_id), public)
        case DeviceActor():
            own = select(Application.organization).where(Application.id == actor.application_id)
            return or_(row.id.in_(own), public)
        case _:
            return false()


def own_organization(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The organizations that a user is a member of."""
    return of_members(row.id, actor.user_id) if isinstance(actor, UserActor) else false()


def membership(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The members of one's organizations."""
    if not isinstance(actor, UserActor):
        return false()
    return of_members(row.is_member_of__organization, actor.user_id)


def own_application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The applications of a user's organizations, and a device's."""
    match actor:
        case UserActor():
            return of_members(row.organization, actor.user_id)
        case DeviceActor():
            return row.id == actor.application_id  # type: ignore[no-any-return]
        case _:
            return false()


def application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own, and those for everybody."""
    return or_(own_application(row, actor), row.is_public)


def of_application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `application` of what is the actor's."""
    return _in_application(row.application, actor)


def of_readable_application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `application` of what is the actor's, or for everybody."""
    return or_(of_application(row, actor), row.application.in_(_public_applications()))


def _in_application(column: Any, actor: Actor) -> ColumnElement[bool]:
    match actor:
        case UserActor():
            return column.in_(_own_applications(actor))  # type: ignore[no-any-return]
        case DeviceActor():
            return column == actor.application_id  # type: ignore[no-any-return]
        case _:
            return false()


def device(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The devices of a user's applications; a device itself."""
    match actor:
        case UserActor():
            return _in_application(row.belongs_to__application, actor)
        case DeviceActor():
            return row.id == actor.device_id  # type: ignore[no-any-return]
        case _:
            return false()


def of_device(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `device` of what the actor may see."""
    return _on_device(row.device, actor)


def of_gateway(row: Any, actor: Actor) -> ColumnElement[bool]:
    """What the devices that the actor may see download for others."""
    return _on_device(row.is_downloaded_by__device, actor)


def _on_device(column: Any, actor: Actor) -> ColumnElement[bool]:
    match actor:
        case UserActor():
            return column.in_(_own_devices(actor))  # type: ignore[no-any-return]
        case DeviceActor():
            return column == actor.device_id  # type: ignore[no-any-return]
        case _:
            return false()


def of_service(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `service` of what the actor may see."""
    services = select(Service.id).where(_in_application(Service.application, actor))
    return row.service.in_(services)  # type: ignore[no-any-return]


def of_service_install(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `service_install` of what the actor may see."""
    installs = select(ServiceInstall.id).where(_on_device(ServiceInstall.device, actor))
    return row.service_install.in_(installs)  # type: ignore[no-any-return]


def own_release(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The releases of a user's applications; what a device runs or should run."""
    match actor:
        case UserActor():
            return _in_application(row.belongs_to__application, actor)
        case DeviceActor():
            return row.id.in_(_device_releases(actor))  # type: ignore[no-any-return]
        case _:
            return false()


def release(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own, and those for everybody."""
    public = row.belongs_to__application.in_(_public_applications())
    return or_(own_release(row, actor), public)


def of_release(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `release` of what is the actor's."""
    return _in_release(row.release, actor, own_release)


def of_readable_release(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `release` of what is the actor's, or for everybody."""
    return _in_release(row.release, actor, release)


def _in_release(column: Any, actor: Actor, condition: Condition) -> ColumnElement[bool]:
    releases = select(Release.id).where(condition(Release, actor))
    return column.in_(releases)  # type: ignore[no-any-return]


def release_image(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The parts of visible releases."""
    return _in_release(row.is_part_of__release, actor, release)


def image(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The images of a user's services, and those for everybody; those of a device's releases."""
    if isinstance(actor, UserActor):
        applications = or_(
            Service.application.in_(_own_applications(actor)),
            Service.application.in_(_public_applications()),
        )
        return row.is_a_build_of__service.in_(  # type: ignore[no-any-return]
            select(Service.id).where(applications)
        )
    parts = select(ReleaseImage.image).where(
        _in_release(ReleaseImage.is_part_of__release, actor, release)
    )
    return row.id.in_(parts)  # type: ignore[no-any-return]


def user(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Oneself and the members of one's organizations.

    The administrator sees all accounts (and nothing else of theirs).
    """
    if not isinstance(actor, UserActor):
        return false()
    if actor.is_administrator:
        return true()
    return or_(row.id == actor.user_id, row.id.in_(_colleagues(actor)))


def _colleagues(actor: UserActor) -> Select[int]:
    """The members of one's organizations."""
    return select(OrganizationMembership.user).where(
        of_members(OrganizationMembership.is_member_of__organization, actor.user_id)
    )


def public_key(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own SSH keys."""
    return row.user == actor.user_id if isinstance(actor, UserActor) else false()


def actor(row: Any, who: Actor) -> ColumnElement[bool]:
    """Oneself, one's applications and devices, and the members of one's organizations."""
    match who:
        case UserActor():
            people = select(User.actor).where(User.id.in_(_colleagues(who)))
            return or_(_acts_for(row.id, who), row.id.in_(people))
        case DeviceActor():
            return row.id == who.actor_id  # type: ignore[no-any-return]
        case _:
            return false()


def api_key(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own keys, and those of one's applications and devices."""
    match actor:
        case UserActor():
            return _acts_for(row.is_of__actor, actor)
        case DeviceActor():
            return row.is_of__actor == actor.actor_id  # type: ignore[no-any-return]
        case _:
            return false()


def _acts_for(column: Any, actor: UserActor) -> ColumnElement[bool]:
    """Whether the actor of this column is the user, an application or a device of theirs."""
    applications = select(Application.actor).where(Application.id.in_(_own_applications(actor)))
    devices = select(Device.actor).where(Device.id.in_(_own_devices(actor)))
    return or_(column == actor.actor_id, column.in_(applications), column.in_(devices))


def audit_entry(row: Any, actor: Actor) -> ColumnElement[bool]:
    """What was changed in one's organizations, and what one changed oneself."""
    if not isinstance(actor, UserActor):
        return false()
    return or_(of_members(row.organization, actor.user_id), row.actor == actor.actor_id)
