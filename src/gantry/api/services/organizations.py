"""Organizations: made, changed, and who is a member."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from gantry.api.models import Organization, OrganizationMembership, OrganizationRole, User
from gantry.api.models.organizations import HANDLE_PATTERN
from gantry.api.queries import accounts, organizations, records
from gantry.api.services.records import Body, Reference, Writer
from gantry.api.services.reserved_names import is_reserved
from gantry.api.services.secrets import new_uuid

_HANDLE = re.compile(HANDLE_PATTERN)
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


def create(session: Session, owner: User, name: str, handle: str) -> Organization:
    """A new organization, whose administrator is this user.

    Raises:
        BadRequestError: a handle that is not valid, or reserved.
        ConflictError: the handle is another's.
    """
    if not _HANDLE.fullmatch(handle) or is_reserved(handle):
        raise BadRequestError(
            f"the handle {handle[:40]!r} is not valid: use 2 to 31 lower-case letters, digits, - "
            "and _, beginning with a letter or digit, and none of the platform's own names"
        )
    if organizations.organization_by_handle(session, handle) is not None:
        raise ConflictError(f"the organization {handle!r} exists already")
    made = Organization(name=name, handle=handle)
    session.add(made)
    session.flush()
    organizations.add_member(session, made.id, owner.id, OrganizationRole.ADMINISTRATOR)
    return made


def of_user(session: Session, user_id: int, organization_id: int) -> Organization:
    """An organization that the user is a member of.

    Raises:
        NotFoundError: no such organization, or one of others.
    """
    found = organizations.organization_by_id(session, organization_id)
    if found is None or organizations.role_of(session, user_id, organization_id) is None:
        raise NotFoundError(f"there is no organization {organization_id}")
    return found


def _administered(session: Session, actor: UserActor, organization_id: int) -> Organization:
    """An organization that the user is an administrator of, held until the transaction ends."""
    found = of_user(session, actor.user_id, organization_id)
    organizations.organization_by_id(session, organization_id, lock=True)
    role = organizations.role_of(session, actor.user_id, organization_id)
    if role is not OrganizationRole.ADMINISTRATOR:
        raise ForbiddenError(f"only administrators of {found.handle} may do this")
    return found


class NewOrganization(Body):
    """A new organization; without a handle it gets one made of its name."""

    name: Name
    handle: str | None = None


class ChangedOrganization(Body):
    """An organization's name; the handle stays, for it is in the addresses of fleets."""

    name: Name


def _create(session: Session, actor: UserActor, body: NewOrganization) -> int:
    owner = records.by_id(session, User, actor.user_id)
    handle = body.handle
    if handle is None:
        plain = re.sub(r"[^a-z0-9_-]+", "-", body.name.lower()).strip("-_")[:24]
        handle = plain if len(plain) > 1 else f"o-{new_uuid()[:6]}"
        if organizations.organization_by_handle(session, handle) is not None:
            handle = f"{handle}-{new_uuid()[:6]}"
    # The names of accounts are the handles of their organizations: theirs to come included.
    if accounts.user_by_name(session, handle) is not None:
        raise ConflictError(f"the handle {handle!r} is an account's")
    return create(session, owner, body.name, handle).id


def _update(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedOrganization
) -> None:
    for each in ids:
        _administered(session, actor, each).name = body.name


def _delete(session: Session, actor: UserActor, ids: Sequence[int]) -> None:
    for each in ids:
        found = _administered(session, actor, each)
        if accounts.user_by_name(session, found.handle) is not None:
            raise ConflictError(f"{found.handle} is an account's own organization: it stays")
        if organizations.has_applications(session, each):
            raise ConflictError(
                f"{found.handle} has applications: remove them first, with their devices"
            )
    records.delete(session, Organization, ids)


class NewMembership(Body):
    """A new member, by the user's id or name."""

    is_member_of__organization: Reference
    user: Reference | None = None
    username: str | None = None
    organization_membership_role: Reference | None = None


class ChangedMembership(Body):
    """What a member is."""

    organization_membership_role: Reference


def _role(session: Session, role_id: int | None) -> OrganizationRole:
    if role_id is None:
        return OrganizationRole.MEMBER
    for role in OrganizationRole:
        if organizations.role_id(session, role) == role_id:
            return role
    raise BadRequestError(f"there is no organization_membership_role {role_id}")


def _add(session: Session, actor: UserActor, body: NewMembership) -> int:
    organization = _administered(session, actor, body.is_member_of__organization)
    if (body.user is None) == (body.username is None):
        raise BadRequestError("say who: `user` (an id) or `username`, one of the two")
    user = (
        accounts.user_by_id(session, body.user)
        if body.user is not None
        else accounts.user_by_name(session, body.username or "")
    )
    if user is None:
        raise NotFoundError(f"there is no user {body.user or body.username!r}")
    if organizations.role_of(session, user.id, organization.id) is not None:
        raise ConflictError(f"{user.username} is a member of {organization.handle} already")
    role = _role(session, body.organization_membership_role)
    return organizations.add_member(session, organization.id, user.id, role).id


def _change_role(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedMembership
) -> None:
    role = _role(session, body.organization_membership_role)
    rows = [records.by_id(session, OrganizationMembership, each) for each in ids]
    for row in rows:
        _administered(session, actor, row.is_member_of__organization)
        row.organization_membership_role = organizations.role_id(session, role)
    session.flush()
    _keep_administrators(session, rows)


def _remove(session: Session, actor: UserActor, ids: Sequence[int]) -> None:
    rows = [records.by_id(session, OrganizationMembership, each) for each in ids]
    for row in rows:
        # Whoever is a member may leave.
        if row.user != actor.user_id:
            _administered(session, actor, row.is_member_of__organization)
        else:
            organizations.organization_by_id(session, row.is_member_of__organization, lock=True)
    records.delete(session, OrganizationMembership, ids)
    _keep_administrators(session, rows)


def _keep_administrators(session: Session, rows: Sequence[OrganizationMembership]) -> None:
    for each in {row.is_member_of__organization for row in rows}:
        if organizations.administrators(session, each) == 0:
            raise ConflictError(f"organization {each} would have no administrator any more")


ORGANIZATION = Writer((NewOrganization, _create), (ChangedOrganization, _update), _delete)
MEMBERSHIP = Writer((NewMembership, _add), (ChangedMembership, _change_role), _remove)
