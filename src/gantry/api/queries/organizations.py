"""Organizations and their members."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import (
    Application,
    Organization,
    OrganizationMembership,
    OrganizationMembershipRole,
    OrganizationRole,
)


def organization_by_id(
    session: Session, organization_id: int, *, lock: bool = False
) -> Organization | None:
    """An organization; with `lock`, held until the transaction ends."""
    query = select(Organization).where(Organization.id == organization_id)
    return session.scalar(query.with_for_update() if lock else query)


def organization_by_handle(session: Session, handle: str) -> Organization | None:
    """The organization of this handle."""
    return session.scalar(select(Organization).where(Organization.handle == handle))


def ensure(session: Session, handle: str, name: str) -> Organization:
    """The organization of this handle; made when it is new. Held until the transaction ends."""
    session.execute(
        insert(Organization)
        .values(handle=handle, name=name)
        .on_conflict_do_nothing(index_elements=["handle"])
    )
    return session.scalars(
        select(Organization).where(Organization.handle == handle).with_for_update()
    ).one()


def role_id(session: Session, role: OrganizationRole) -> int:
    """The row of a role; there is one of each."""
    return session.scalars(
        select(OrganizationMembershipRole.id).where(OrganizationMembershipRole.name == role)
    ).one()


def role_of(session: Session, user_id: int, organization_id: int) -> OrganizationRole | None:
    """What a user is in an organization; None for no member."""
    name = session.scalar(
        select(OrganizationMembershipRole.name)
        .join(
            OrganizationMembership,
            OrganizationMembership.organization_membership_role == OrganizationMembershipRole.id,
        )
        .where(
            OrganizationMembership.user == user_id,
            OrganizationMembership.is_member_of__organization == organization_id,
        )
    )
    return OrganizationRole(name) if name else None


def add_member(
    session: Session, organization_id: int, user_id: int, role: OrganizationRole
) -> OrganizationMembership:
    """Make a user a member."""
    made = OrganizationMembership(
        user=user_id,
        is_member_of__organization=organization_id,
        organization_membership_role=role_id(session, role),
    )
    session.add(made)
    session.flush()
    return made


def has_applications(session: Session, organization_id: int) -> bool:
    """Whether the organization owns any application."""
    found = select(Application.id).where(Application.organization == organization_id)
    return session.scalar(found.limit(1)) is not None


def administrators(session: Session, organization_id: int) -> int:
    """How many administrators an organization has."""
    return session.scalars(
        select(func.count())
        .select_from(OrganizationMembership)
        .where(
            OrganizationMembership.is_member_of__organization == organization_id,
            OrganizationMembership.organization_membership_role
            == role_id(session, OrganizationRole.ADMINISTRATOR),
        )
    ).one()
