"""What a whole fleet should run: the state of version 3 of no device in particular."""

from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, UserActor
from gantry.api.errors import NotFoundError
from gantry.api.models import Application
from gantry.api.queries import applications, releases, targets
from gantry.api.services.applications import owned
from gantry.api.services.target_state import release_state
from gantry.api.services.variables import Levels


def fleet_state(
    session: Session, actor: Actor, uuid: str, commit: str | None = None
) -> dict[str, Any]:
    """The target of an application, or what it would be with another of its releases.

    Raises:
        NotFoundError: no such application or release, or not for this actor.
    """
    application = _visible(session, actor, uuid)
    levels = Levels(
        applications.application_variables(session, application.id),
        applications.service_variables(session, application.id),
        {},
        {},
    )
    release_id = _release(session, application, commit)
    contents = targets.contents(session, release_id) if release_id else None
    app = {
        "id": application.id,
        "name": application.app_name,
        "slug": application.slug,
        "class": application.is_of__class,
        "is_host": application.is_host,
        "releases": release_state(contents, levels) if contents else {},
    }
    return {
        application.uuid: {
            "name": application.app_name,
            "config": levels.configuration(),
            "apps": {application.uuid: app},
        }
    }


def _release(session: Session, application: Application, commit: str | None) -> int | None:
    if commit:
        found = releases.success_of_commit(session, application.id, commit)
        if found is None:
            raise NotFoundError(f"{application.slug} has no release {commit[:64]!r}")
        return found.id
    return application.should_be_running__release


def _visible(session: Session, actor: Actor, uuid: str) -> Application:
    found = applications.application_by_uuid(session, uuid)
    if found is not None:
        match actor:
            case DeviceActor() if actor.application_id == found.id:
                return found
            case UserActor():
                return owned(session, actor.user_id, found.id)
    raise NotFoundError(f"there is no application {uuid[:64]!r}")
