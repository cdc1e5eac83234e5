"""What each actor may see, as conditions over rows: they are part of every query of `/v7`."""

from typing import Any

from sqlalchemy import ColumnElement, Select, false, or_, select, true, union_all

from gantry.api.actors import Actor, DeviceActor, UserActor
from gantry.api.models import Application, Device, Release, ReleaseImage, Service


def everyone(_: Any, __: Actor) -> ColumnElement[bool]:
    """Rows that are no secret."""
    return true()


def _own_applications(actor: UserActor) -> Select[int]:
    return select(Application.id).where(Application.belongs_to__user == actor.user_id)


def _device_releases(actor: DeviceActor) -> ColumnElement[Any]:
    """What a device runs or should run: no other release of its fleet concerns it."""
    own = select(Device).where(Device.id == actor.device_id).subquery()
    target = select(Application.should_be_running__release).where(
        Application.id == actor.application_id
    )
    ids = union_all(
        target, select(own.c.is_pinned_on__release), select(own.c.is_running__release)
    ).subquery()
    return select(ids.c[0]).where(ids.c[0].is_not(None)).scalar_subquery()


def application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """A user's own, and a device's."""
    match actor:
        case UserActor():
            return row.belongs_to__user == actor.user_id  # type: ignore[no-any-return]
        case DeviceActor():
            return row.id == actor.application_id  # type: ignore[no-any-return]
        case _:
            return false()


def of_application(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `application` of what the actor may see."""
    return _in_application(row.application, actor)


def _in_application(column: Any, actor: Actor) -> ColumnElement[bool]:
    match actor:
        case UserActor():
            return column.in_(_own_applications(actor))  # type: ignore[no-any-return]
        case DeviceActor():
            return column == actor.application_id  # type: ignore[no-any-return]
        case _:
            return false()


def device(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The devices of a user's own applications; a device itself."""
    match actor:
        case UserActor():
            return _in_application(row.belongs_to__application, actor)
        case DeviceActor():
            return row.id == actor.device_id  # type: ignore[no-any-return]
        case _:
            return false()


def of_device(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Rows with a column `device` of what the actor may see."""
    match actor:
        case UserActor():
            own = select(Device.id).where(
                Device.belongs_to__application.in_(_own_applications(actor))
            )
            return row.device.in_(own)  # type: ignore[no-any-return]
        case DeviceActor():
            return row.device == actor.device_id  # type: ignore[no-any-return]
        case _:
            return false()


def release(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The releases of a user's own applications; what a device runs or should run."""
    match actor:
        case UserActor():
            return _in_application(row.belongs_to__application, actor)
        case DeviceActor():
            return row.id.in_(_device_releases(actor))  # type: ignore[no-any-return]
        case _:
            return false()


def release_image(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The parts of visible releases."""
    match actor:
        case UserActor():
            own = select(Release.id).where(
                Release.belongs_to__application.in_(_own_applications(actor))
            )
            return row.is_part_of__release.in_(own)  # type: ignore[no-any-return]
        case DeviceActor():
            return row.is_part_of__release.in_(_device_releases(actor))  # type: ignore[no-any-return]
        case _:
            return false()


def image(row: Any, actor: Actor) -> ColumnElement[bool]:
    """The images of a user's own services; those of the releases of a device."""
    match actor:
        case UserActor():
            own = select(Service.id).where(Service.application.in_(_own_applications(actor)))
            return row.is_a_build_of__service.in_(own)  # type: ignore[no-any-return]
        case DeviceActor():
            parts = select(ReleaseImage.image).where(
                ReleaseImage.is_part_of__release.in_(_device_releases(actor))
            )
            return row.id.in_(parts)  # type: ignore[no-any-return]
        case _:
            return false()


def user(row: Any, actor: Actor) -> ColumnElement[bool]:
    """Oneself; the administrator sees all accounts (and nothing else of theirs)."""
    if not isinstance(actor, UserActor):
        return false()
    return true() if actor.is_administrator else row.id == actor.user_id


def public_key(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own SSH keys."""
    return row.user == actor.user_id if isinstance(actor, UserActor) else false()


def api_key(row: Any, actor: Actor) -> ColumnElement[bool]:
    """One's own keys, and those of one's applications and devices."""
    match actor:
        case UserActor():
            own = _own_applications(actor)
            return or_(
                row.is_of__actor == actor.actor_id,
                row.is_of__actor.in_(
                    select(Application.actor).where(Application.belongs_to__user == actor.user_id)
                ),
                row.is_of__actor.in_(
                    select(Device.actor).where(Device.belongs_to__application.in_(own))
                ),
            )
        case DeviceActor():
            return row.is_of__actor == actor.actor_id  # type: ignore[no-any-return]
        case _:
            return false()
