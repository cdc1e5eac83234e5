"""Notes of who changed what."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    cast,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from gantry.api.models import (
    ApiKey,
    Application,
    ApplicationTag,
    ApplicationVariable,
    AuditEntry,
    Base,
    Device,
    DeviceAction,
    DeviceServiceVariable,
    DeviceTag,
    DeviceVariable,
    Organization,
    OrganizationMembership,
    Release,
    ReleaseAsset,
    ReleaseTag,
    Service,
    ServiceInstall,
    ServiceVariable,
)

_Scope = Callable[[Any], ColumnElement[Any]]


def _of_application(application: ColumnElement[Any]) -> ColumnElement[Any]:
    query = select(Application.organization).where(Application.id == application)
    return query.correlate_except(Application).scalar_subquery()


def _of_device(device: ColumnElement[Any]) -> ColumnElement[Any]:
    query = (
        select(Application.organization)
        .join(Device, Device.belongs_to__application == Application.id)
        .where(Device.id == device)
    )
    return query.correlate_except(Application, Device).scalar_subquery()


def _of_release(release: ColumnElement[Any]) -> ColumnElement[Any]:
    query = (
        select(Application.organization)
        .join(Release, Release.belongs_to__application == Application.id)
        .where(Release.id == release)
    )
    return query.correlate_except(Application, Release).scalar_subquery()


def _of_service(service: ColumnElement[Any]) -> ColumnElement[Any]:
    query = (
        select(Application.organization)
        .join(Service, Service.application == Application.id)
        .where(Service.id == service)
    )
    return query.correlate_except(Application, Service).scalar_subquery()


def _of_install(install: ColumnElement[Any]) -> ColumnElement[Any]:
    query = (
        select(Application.organization)
        .join(Device, Device.belongs_to__application == Application.id)
        .join(ServiceInstall, ServiceInstall.device == Device.id)
        .where(ServiceInstall.id == install)
    )
    return query.correlate_except(Application, Device, ServiceInstall).scalar_subquery()


def _of_actor(actor: ColumnElement[Any]) -> ColumnElement[Any]:
    """Of an application's or a device's key; a person's belong to no organization."""
    query = (
        select(Application.organization)
        .outerjoin(
            Device, (Device.belongs_to__application == Application.id) & (Device.actor == actor)
        )
        .where(or_(Application.actor == actor, Device.id.is_not(None)))
        .limit(1)
    )
    return query.correlate_except(Application, Device).scalar_subquery()


# Which organization a row is of; rows of other tables are of none.
_ORGANIZATIONS: Mapping[type[Base], _Scope] = {
    Organization: lambda row: row.id,
    OrganizationMembership: lambda row: row.is_member_of__organization,
    Application: lambda row: row.organization,
    Device: lambda row: _of_application(row.belongs_to__application),
    Release: lambda row: _of_application(row.belongs_to__application),
    ReleaseAsset: lambda row: _of_release(row.release),
    ApplicationVariable: lambda row: _of_application(row.application),
    ApplicationTag: lambda row: _of_application(row.application),
    DeviceVariable: lambda row: _of_device(row.device),
    DeviceAction: lambda row: _of_device(row.device),
    DeviceTag: lambda row: _of_device(row.device),
    ReleaseTag: lambda row: _of_release(row.release),
    ServiceVariable: lambda row: _of_service(row.service),
    DeviceServiceVariable: lambda row: _of_install(row.service_install),
    ApiKey: lambda row: _of_actor(row.is_of__actor),
}
# What people call a row, the first that it has.
_NAMES = (
    "slug",
    "uuid",
    "handle",
    "username",
    "tag_key",
    "asset_key",
    "name",
    "title",
    "commit",
    "action",
)


def is_noted(session: Session, name: str, within: timedelta) -> bool:
    """Whether there is an entry under this name that is not older than that."""
    found = select(AuditEntry.id).where(
        AuditEntry.session == name, AuditEntry.created_at > func.now() - within
    )
    return session.scalar(found.limit(1)) is not None


def note_end(
    session: Session, name: str, begun: str, over: str, changes: Mapping[str, Any]
) -> None:
    """An entry `over` of what the entry `begun` under this name began, unless there is one."""
    entry, end = aliased(AuditEntry), aliased(AuditEntry)
    found = select(
        entry.organization,
        entry.actor,
        entry.actor_name,
        literal(over),
        entry.resource,
        entry.row,
        entry.row_name,
        cast(literal(dict(changes), JSONB), JSONB),
        entry.session,
    ).where(
        entry.session == name,
        entry.action == begun,
        ~exists().where(end.session == name, end.action == over),
    )
    columns = "organization actor actor_name action resource row row_name changes session"
    session.execute(insert(AuditEntry).from_select(columns.split(), found.limit(1)))


def note(
    session: Session,
    model: type[Base],
    ids: Sequence[int],
    values: Mapping[str, Any],
) -> None:
    """One entry for each of these rows of a table; `values` are the entry's other columns."""
    row: Any = model
    # An organization that goes takes its entries with it, but for the one that says so.
    goes = model is Organization and values["action"] == "delete"
    scope = None if goes else _ORGANIZATIONS.get(model)
    organization = cast(null(), Integer) if scope is None else scope(row)
    name = next((getattr(row, each) for each in _NAMES if hasattr(row, each)), null())
    fixed = {key: value for key, value in values.items() if key != "changes"}
    found = select(
        row.id,
        organization,
        name,
        cast(literal(dict(values["changes"]), JSONB), JSONB),
        *(literal(value) for value in fixed.values()),
    ).where(row.id.in_(ids))
    session.execute(
        insert(AuditEntry).from_select(
            ["row", "organization", "row_name", "changes", *fixed], found
        )
    )
