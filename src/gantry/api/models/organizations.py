"""Organizations: who owns fleets, and who belongs to them."""

from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key

HANDLE_PATTERN = "^[a-z0-9][a-z0-9_-]{1,30}$"


class OrganizationRole(StrEnum):
    """What a member may do: both use the fleets, administrators say who is a member."""

    ADMINISTRATOR = "administrator"
    MEMBER = "member"


class Organization(Base):
    """Owner of fleets. Each user has one of their own, whose handle is the user's name."""

    __tablename__ = "organization"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    name: Mapped[str]
    handle: Mapped[str] = mapped_column(unique=True)


class OrganizationMembershipRole(Base):
    """The roles of members, as rows: the family's clients look them up by name."""

    __tablename__ = "organization_membership_role"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)


class OrganizationMembership(Base):
    """That a user is a member of an organization."""

    __tablename__ = "organization_membership"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    user: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    is_member_of__organization: Mapped[int] = mapped_column(
        ForeignKey("organization.id", ondelete="CASCADE"), index=True
    )
    organization_membership_role: Mapped[int] = mapped_column(
        ForeignKey("organization_membership_role.id")
    )
