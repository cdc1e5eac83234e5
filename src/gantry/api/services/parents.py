"""What variables, tags and files belong to: found for whoever may change it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import ConflictError, NotFoundError
from gantry.api.models import Release, Service, ServiceInstall
from gantry.api.queries import devices, records
from gantry.api.services.applications import owned


@dataclass(frozen=True, slots=True)
class Parent:
    """A row that others belong to, by their column of this name.

    `found` answers what people call the row, and raises NotFoundError where the user may not
    change it.
    """

    column: str
    found: Callable[[Session, UserActor, int], str]


def _application(session: Session, actor: UserActor, row_id: int) -> str:
    return owned(session, actor.user_id, row_id).slug


def _device(session: Session, actor: UserActor, row_id: int) -> str:
    device = devices.owned_device_by_id(session, actor.user_id, row_id)
    if device is None:
        raise NotFoundError(f"there is no device {row_id}")
    return f"device {device.uuid[:7]}"


def _release(session: Session, actor: UserActor, row_id: int) -> str:
    release = records.maybe(session, Release, row_id)
    if release is None or not _is_own(session, actor, release.belongs_to__application):
        raise NotFoundError(f"there is no release {row_id}")
    return f"release {row_id}"


def _service(session: Session, actor: UserActor, row_id: int) -> str:
    service = records.maybe(session, Service, row_id)
    if service is None or not _is_own(session, actor, service.application):
        raise NotFoundError(f"there is no service {row_id}")
    return f"service {service.service_name}"


def _service_install(session: Session, actor: UserActor, row_id: int) -> str:
    install = records.maybe(session, ServiceInstall, row_id)
    device = devices.owned_device_by_id(session, actor.user_id, install.device) if install else None
    if install is None or device is None:
        raise NotFoundError(f"there is no service_install {row_id}")
    service = records.by_id(session, Service, install.installs__service)
    return f"service {service.service_name} of device {device.uuid[:7]}"


def _is_own(session: Session, actor: UserActor, application_id: int) -> bool:
    try:
        owned(session, actor.user_id, application_id)
    except NotFoundError:
        return False
    return True


APPLICATION = Parent("application", _application)
DEVICE = Parent("device", _device)
RELEASE = Parent("release", _release)
SERVICE = Parent("service", _service)
SERVICE_INSTALL = Parent("service_install", _service_install)


def refuse_second(session: Session, model: Any, taken: Mapping[str, object], what: str) -> None:
    """Raise ConflictError when there is a row with these values; `what` says what it would be."""
    if records.exists(session, model, taken):
        raise ConflictError(f"{what} already: change it")
