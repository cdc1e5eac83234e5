"""Applications: made, named, found for whoever may use them."""

import re

from sqlalchemy.orm import Session

from gantry.api.errors import BadRequestError, ConflictError, NotFoundError
from gantry.api.models import Application, Organization, User
from gantry.api.models.fleet import APP_NAME_PATTERN
from gantry.api.queries import accounts, applications, organizations
from gantry.api.services.secrets import new_uuid

_NAME = re.compile(APP_NAME_PATTERN)


def create(
    session: Session, owner: User, organization: Organization, name: str, device_type_slug: str
) -> Application:
    """A new application of an organization, made by this user.

    Raises:
        BadRequestError: a name or a device type that is not valid.
        ConflictError: the organization has an application of this name.
    """
    check_name(name)
    kind = applications.device_type_by_slug(session, device_type_slug)
    if kind is None:
        raise BadRequestError(f"unknown device type {device_type_slug[:80]!r}")
    slug = slug_of(organization.handle, name)
    if applications.application_by_slug(session, slug) is not None:
        raise ConflictError(f"the application {slug} exists already")
    application = Application(
        actor=accounts.new_actor(session),
        organization=organization.id,
        application_type=applications.default_type(session),
        belongs_to__user=owner.id,
        app_name=name,
        slug=slug,
        uuid=new_uuid(),
        is_for__device_type=kind.id,
    )
    session.add(application)
    session.flush()
    return application


def check_name(name: str) -> None:
    """Raise BadRequestError for a name that no application may have."""
    if not _NAME.fullmatch(name):
        raise BadRequestError(
            f"the application name {name[:60]!r} is not valid: use 4 to 100 letters, digits, - "
            "and _, beginning with a letter"
        )


def slug_of(handle: str, name: str) -> str:
    """`<organization>/<app>`, in lower case: the name in URLs and git remotes."""
    return f"{handle}/{name.lower()}"


def owned(session: Session, user_id: int, application_id: int) -> Application:
    """An application of an organization that the user is a member of.

    Raises:
        NotFoundError: no such application, or one of others.
    """
    application = applications.application_by_id(session, application_id)
    role = (
        organizations.role_of(session, user_id, application.organization) if application else None
    )
    if application is None or role is None:
        raise NotFoundError(f"there is no application {application_id}")
    return application
