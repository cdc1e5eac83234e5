"""Applications (fleets), device types and variables."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import (
    Application,
    ApplicationType,
    ApplicationVariable,
    CpuArchitecture,
    DeviceServiceVariable,
    DeviceType,
    DeviceTypeAlias,
    DeviceVariable,
    Service,
    ServiceInstall,
    ServiceVariable,
)
from gantry.contracts.device_types import DEVICE_TYPES


def application_by_id(
    session: Session, application_id: int, *, lock: bool = False
) -> Application | None:
    """An application; with `lock`, held until the transaction ends."""
    query = select(Application).where(Application.id == application_id)
    return session.scalar(query.with_for_update() if lock else query)


def application_by_slug(session: Session, slug: str) -> Application | None:
    """The application of this slug (`<organization>/<app>`, in lower case)."""
    return session.scalar(select(Application).where(Application.slug == slug))


def application_by_uuid(session: Session, uuid: str) -> Application | None:
    """The application of this uuid."""
    return session.scalar(select(Application).where(Application.uuid == uuid))


def device_type_by_slug(session: Session, slug: str) -> DeviceType | None:
    """The device type of this slug."""
    return session.scalar(select(DeviceType).where(DeviceType.slug == slug))


def device_type_by_id(session: Session, device_type_id: int) -> DeviceType | None:
    """The device type of this id."""
    return session.get(DeviceType, device_type_id)


def default_type(session: Session) -> int:
    """The type of application that there is."""
    return session.scalars(
        select(ApplicationType.id).where(ApplicationType.slug == "microservices")
    ).one()


def application_variables(session: Session, application_id: int) -> dict[str, str]:
    """The variables of all devices of a fleet."""
    rows = session.execute(
        select(ApplicationVariable.name, ApplicationVariable.value).where(
            ApplicationVariable.application == application_id
        )
    )
    return {row.name: row.value for row in rows}


def device_variables(session: Session, device_id: int) -> dict[str, str]:
    """The variables of one device alone."""
    rows = session.execute(
        select(DeviceVariable.name, DeviceVariable.value).where(DeviceVariable.device == device_id)
    )
    return {row.name: row.value for row in rows}


def service_variables(session: Session, application_id: int) -> dict[int, dict[str, str]]:
    """The variables of single services of a fleet, by the service's id."""
    rows = session.execute(
        select(ServiceVariable.service, ServiceVariable.name, ServiceVariable.value)
        .join(Service, Service.id == ServiceVariable.service)
        .where(Service.application == application_id)
    )
    return _by_service(rows.tuples())


def device_service_variables(session: Session, device_id: int) -> dict[int, dict[str, str]]:
    """The variables of single services on one device, by the service's id."""
    rows = session.execute(
        select(
            ServiceInstall.installs__service,
            DeviceServiceVariable.name,
            DeviceServiceVariable.value,
        )
        .join(ServiceInstall, ServiceInstall.id == DeviceServiceVariable.service_install)
        .where(ServiceInstall.device == device_id)
    )
    return _by_service(rows.tuples())


def _by_service(rows: Iterable[tuple[int, str, str]]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for service, name, value in rows:
        found.setdefault(service, {})[name] = value
    return found


def seed_device_types(session: Session) -> None:
    """The device types of `gantry.contracts`, as rows; what is there already keeps its id."""
    for each in DEVICE_TYPES:
        session.execute(
            insert(CpuArchitecture)
            .values(slug=each.architecture.value)
            .on_conflict_do_nothing(index_elements=["slug"])
        )
        architecture = session.scalars(
            select(CpuArchitecture.id).where(CpuArchitecture.slug == each.architecture.value)
        ).one()
        row = insert(DeviceType).values(
            slug=each.slug,
            name=each.name,
            is_of__cpu_architecture=architecture,
            contract=each.contract(),
        )
        stored = session.scalars(
            row.on_conflict_do_update(
                index_elements=["slug"],
                set_={
                    "name": row.excluded.name,
                    "is_of__cpu_architecture": row.excluded.is_of__cpu_architecture,
                    "contract": row.excluded.contract,
                },
            ).returning(DeviceType.id)
        ).one()
        session.execute(
            insert(DeviceTypeAlias)
            .values(is_referenced_by__alias=each.slug, references__device_type=stored)
            .on_conflict_do_nothing()
        )
