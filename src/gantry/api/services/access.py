"""Who may do what, asked by the fleet's other services."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session

from gantry.api.actors import DeviceActor
from gantry.api.errors import ForbiddenError, NotFoundError
from gantry.api.queries import accounts, applications, organizations, records
from gantry.api.services.applications import slug_of
from gantry.api.services.devices import visible
from gantry.api.services.sessions import Holder


class GitAction(StrEnum):
    """What git is asked to do with a repository."""

    PULL = "pull"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class GitAccess:
    """The application behind a repository, for whoever may use it."""

    application_id: int
    application_uuid: str
    slug: str
    device_type: str
    user_id: int


@dataclass(frozen=True, slots=True)
class LogAccess:
    """The device whose logs may be used."""

    device_id: int
    application_id: int
    # What the announcement of its end calls the caller's key or session; and in how many seconds
    # it ends of itself.
    credential: str
    seconds: float | None


def authorize_git(
    session: Session, username: str, owner: str, name: str, action: GitAction
) -> GitAccess:
    """The application that `username` wants to use, if it is their own.

    Raises:
        ForbiddenError: the user is unknown.
        NotFoundError: no such application, or another user's.
    """
    user = accounts.user_by_name(session, username)
    if user is None:
        raise ForbiddenError(f"there is no account {username[:40]!r}")
    slug = slug_of(owner, name)
    application = applications.application_by_slug(session, slug)
    role = (
        organizations.role_of(session, user.id, application.organization) if application else None
    )
    if application is None or role is None:
        verb = "push to" if action is GitAction.PUSH else "read"
        raise NotFoundError(
            f"there is no application {slug[:140]} that {username} may {verb}: check the remote "
            "(`git remote -v`), or make the application first"
        )
    kind = applications.device_type_by_id(session, application.is_for__device_type)
    if kind is None:  # the foreign key holds
        raise RuntimeError(f"application {application.id} is of no device type")
    return GitAccess(application.id, application.uuid, application.slug, kind.slug, user.id)


def authorize_logs(session: Session, holder: Holder, uuid: str, action: str) -> LogAccess:
    """The device whose logs `holder` wants to read or write.

    Raises:
        NotFoundError: no such device, or not for this actor.
        ForbiddenError: somebody else than the device wants to write.
    """
    device = visible(session, holder.actor, uuid)
    if action == "write" and not isinstance(holder.actor, DeviceActor):
        raise ForbiddenError("only a device writes its logs, with its own key")
    seconds = None
    if holder.until is not None:
        seconds = (holder.until - records.now(session)).total_seconds()
    return LogAccess(device.id, device.belongs_to__application, holder.credential, seconds)
