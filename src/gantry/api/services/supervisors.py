"""Releases of supervisors: public applications, one for each CPU architecture, for all to read."""

import logging
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from gantry.api.models import Application, Image, Organization, Release, ReleaseImage
from gantry.api.queries import accounts, applications, organizations, releases
from gantry.api.services import audit, versions
from gantry.api.services.applications import slug_of
from gantry.api.services.secrets import new_uuid
from gantry.contracts.device_types import DEVICE_TYPES, Architecture

log = logging.getLogger(__name__)

# The family's clients look for supervisors in this organization.
HANDLE = "balena_os"
_SERVICE = "main"


class PublishedSupervisor(BaseModel):
    """A supervisor's image as it lies in the registry: `image` without tag, and its digest."""

    model_config = ConfigDict(extra="forbid")

    architecture: Architecture
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")]
    image: Annotated[str, Field(min_length=1, max_length=255)]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def publish(session: Session, asked: PublishedSupervisor) -> int:
    """The release of this image; made, when this very image is new. Its id."""
    application = _application(session, asked.architecture)
    # An image has no commit: what names it, and nothing else, is its digest.
    commit = asked.digest.removeprefix("sha256:")[:40]
    known = releases.success_of_commit(session, application.id, commit)
    if known is not None:
        return known.id
    release = Release(
        belongs_to__application=application.id,
        commit=commit,
        composition={"services": {_SERVICE: {"image": asked.image}}},
        source="gantry",
        semver=asked.version,
    )
    session.add(release)
    service = releases.ensure_service(session, application.id, _SERVICE, f"v2/{new_uuid()}")
    image = Image(
        is_a_build_of__service=service.id,
        is_stored_at__image_location=asked.image,
        content_hash=asked.digest,
        status="success",
    )
    session.add(image)
    session.flush()
    session.add(ReleaseImage(image=image.id, is_part_of__release=release.id))
    release.status = "success"
    session.flush()
    versions.succeed(session, application, release)
    audit.note(session, None, audit.Action.CREATE, Release, [release.id], {"status": "success"})
    log.info("supervisor published: %s %s %s", application.slug, asked.version, asked.digest)
    return release.id


def _application(session: Session, architecture: Architecture) -> Application:
    """The application of this architecture's supervisors, held until the transaction ends."""
    organization = organizations.ensure(session, HANDLE, "Supervisors")
    name = f"{architecture.value}-supervisor"
    slug = slug_of(HANDLE, name)
    found = applications.application_by_slug(session, slug)
    if found is None:
        found = _new(session, organization, architecture, name, slug)
    held = applications.application_by_id(session, found.id, lock=True)
    return held or found


def _new(
    session: Session, organization: Organization, architecture: Architecture, name: str, slug: str
) -> Application:
    kind = next(each.slug for each in DEVICE_TYPES if each.architecture is architecture)
    device_type = applications.device_type_by_slug(session, kind)
    if device_type is None:  # made at each start
        raise RuntimeError(f"there is no device type {kind}")
    made = Application(
        actor=accounts.new_actor(session),
        organization=organization.id,
        application_type=applications.default_type(session),
        app_name=name,
        slug=slug,
        uuid=new_uuid(),
        is_for__device_type=device_type.id,
        is_of__class="app",
        is_public=True,
    )
    session.add(made)
    session.flush()
    return made
