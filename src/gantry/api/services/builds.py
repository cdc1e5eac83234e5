"""Releases as the builder makes them."""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlalchemy.orm import Session

from gantry.api.errors import BadRequestError, ConflictError, NotFoundError
from gantry.api.models import Application, Image, Release, ReleaseImage
from gantry.api.queries import accounts, applications, releases
from gantry.api.services import audit, versions
from gantry.api.services.secrets import new_uuid
from gantry.contracts.build import ReleaseStatus

log = logging.getLogger(__name__)

_SERVICE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
MAX_SERVICES = 100


class NewRelease(BaseModel):
    """What the builder is about to build."""

    model_config = ConfigDict(extra="forbid")

    application_id: int
    user_id: int
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
    composition: dict[str, Any]
    source: str = "git"
    services: Annotated[list[str], Field(min_length=1, max_length=MAX_SERVICES)]
    semver: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")] | None = None
    builder: str | None = None
    # A draft runs only where a device is pinned on it, until somebody says that it is final.
    is_draft: bool = False
    contract: dict[str, Any] | None = None


class BuiltImage(BaseModel):
    """One image of a release, as it lies in the registry. `size` in bytes."""

    model_config = ConfigDict(extra="forbid")

    image_id: int
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    dockerfile: str | None = None
    project_type: str | None = None
    labels: dict[str, str] = {}
    # What it requires of a device, as its contract.yml says.
    contract: dict[str, Any] | None = None
    build_seconds: Annotated[float, Field(ge=0)] | None = None


class FinishedRelease(BaseModel):
    """How a build ended."""

    model_config = ConfigDict(extra="forbid")

    status: ReleaseStatus
    build_log: str | None = None
    error: str | None = None
    images: list[BuiltImage] = []


@dataclass(frozen=True, slots=True)
class ReleaseImageRef:
    """Where the builder pushes one service's image."""

    image_id: int
    service: str
    repository: str


@dataclass(frozen=True, slots=True)
class ReleaseRef:
    """A release and its images; `already` when the commit was built before."""

    release_id: int
    images: list[ReleaseImageRef]
    already: bool = False


def start(session: Session, registry: str, asked: NewRelease) -> ReleaseRef:
    """A running release; or, when this commit was built before, that success, as the target again.

    Raises:
        NotFoundError: no such application or user.
        BadRequestError: a service's name that no container could have.
    """
    application = applications.application_by_id(session, asked.application_id, lock=True)
    if application is None:
        raise NotFoundError(f"there is no application {asked.application_id}")
    if accounts.user_by_id(session, asked.user_id) is None:
        raise NotFoundError(f"there is no user {asked.user_id}")
    known = releases.success_of_commit(session, application.id, asked.commit)
    if known is not None:
        # Pushing an older commit again is how people go back to it.
        if not asked.is_draft:
            _go_back(session, application, known)
        return ReleaseRef(known.id, _refs(session, known.id), already=True)
    release = Release(
        belongs_to__application=application.id,
        is_created_by__user=asked.user_id,
        commit=asked.commit,
        composition=asked.composition,
        source=asked.source,
        builder=asked.builder,
        is_final=not asked.is_draft,
        contract=asked.contract,
    )
    if asked.semver is not None:
        release.semver = asked.semver
    session.add(release)
    session.flush()
    for name in dict.fromkeys(asked.services):
        _add_image(session, registry, application, release, name)
    releases.ensure_service_installs(session, application_id=application.id)
    return ReleaseRef(release.id, _refs(session, release.id))


def _go_back(session: Session, application: Application, known: Release) -> None:
    if known.is_invalidated:
        raise ConflictError(
            f"commit {known.commit[:12]} is release {known.id}, which is invalidated: say that it "
            "is good first, or push another commit"
        )
    versions.finalize(session, application, known)
    if application.should_track_latest_release:
        application.should_be_running__release = known.id


def _add_image(
    session: Session, registry: str, application: Application, release: Release, name: str
) -> None:
    if not _SERVICE.fullmatch(name):
        raise BadRequestError(
            f"the service name {name[:80]!r} is not valid: use letters, digits, . _ and -, at "
            "most 63, beginning with a letter or digit"
        )
    service = releases.ensure_service(session, application.id, name, f"v2/{new_uuid()}")
    image = Image(
        is_a_build_of__service=service.id,
        is_stored_at__image_location=f"{registry}/{service.repository}",
    )
    session.add(image)
    session.flush()
    session.add(ReleaseImage(image=image.id, is_part_of__release=release.id))
    session.flush()


def _refs(session: Session, release_id: int) -> list[ReleaseImageRef]:
    return [
        ReleaseImageRef(image.id, service.service_name, service.repository)
        for image, service in releases.images_of(session, release_id)
    ]


def finish(session: Session, release_id: int, said: FinishedRelease) -> None:
    """End a release. A success becomes its fleet's target, which tells the devices.

    Sent again it changes nothing.

    Raises:
        NotFoundError: no such release.
        BadRequestError: an image of another release, or a success without all digests.
        ConflictError: the release ended otherwise before, or its commit succeeded meanwhile.
    """
    found = releases.release_by_id(session, release_id)
    if found is None:
        raise NotFoundError(f"there is no release {release_id}")
    # The application first, as everywhere: two locks in one order cannot block each other.
    application = applications.application_by_id(session, found.belongs_to__application, lock=True)
    release = releases.release_by_id(session, release_id, lock=True)
    if application is None or release is None:
        raise NotFoundError(f"there is no release {release_id}")
    session.refresh(release)
    if said.status == ReleaseStatus.RUNNING:
        _store_images(session, release, said, None)
        return
    if release.status != ReleaseStatus.RUNNING:
        if release.status == said.status:
            return
        raise ConflictError(
            f"release {release_id} is {release.status} already and cannot become {said.status}"
        )
    if said.status == ReleaseStatus.SUCCESS:
        other = releases.success_of_commit(session, application.id, release.commit)
        if other is not None:
            raise ConflictError(f"commit {release.commit} has become release {other.id} meanwhile")
    now = session.scalars(func.now().select()).one()
    _store_images(session, release, said, now)
    release.status = said.status
    release.build_log = _text(said.build_log)
    release.error_message = _text(said.error)
    release.end_timestamp = now
    release.update_timestamp = now
    session.flush()
    if said.status == ReleaseStatus.SUCCESS and release.is_final:
        versions.succeed(session, application, release)
    session.flush()
    audit.note(
        session, None, audit.Action.UPDATE, Release, [release.id], {"status": said.status.value}
    )
    log.info("release %d of %s: %s", release.id, application.slug, said.status)


def _store_images(
    session: Session, release: Release, said: FinishedRelease, ended: datetime | None
) -> None:
    images = {
        image.id: (image, service) for image, service in releases.images_of(session, release.id)
    }
    for built in said.images:
        if built.image_id not in images:
            raise BadRequestError(f"image {built.image_id} is not part of release {release.id}")
        image, _ = images[built.image_id]
        image.content_hash = built.digest or image.content_hash
        image.image_size = built.size if built.size is not None else image.image_size
        image.dockerfile = _text(built.dockerfile)
        image.project_type = built.project_type
        image.labels = built.labels
        image.contract = built.contract
        image.build_seconds = built.build_seconds
        if built.digest:
            image.push_timestamp = ended
    missing = [service.service_name for image, service in images.values() if not image.content_hash]
    if said.status == ReleaseStatus.SUCCESS and missing:
        raise BadRequestError(
            f"release {release.id} cannot succeed: no digest for {', '.join(missing)}"
        )
    if ended is not None:
        for image, _ in images.values():
            image.status = said.status
            image.end_timestamp = ended


def _text(value: str | None) -> str | None:
    return value.replace("\0", "") if value is not None else None


def recover(session: Session, builder: str) -> list[int]:
    """Fail what a builder that has just started left running before; the releases' ids."""
    return releases.fail_running(
        session, builder, "the builder was stopped while it built this release: push again"
    )
