"""Releases, their services and images."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import (
    Application,
    Device,
    GatewayDownload,
    Image,
    Release,
    ReleaseImage,
    Service,
    ServiceInstall,
)
from gantry.api.queries.visibility import of_members


def has_repository(session: Session, application_id: int, repository: str) -> bool:
    """Whether a service of this application is stored in `repository`."""
    found = select(Service.id).where(
        Service.application == application_id, Service.repository == repository
    )
    return session.scalar(found) is not None


def owns_repository(session: Session, user_id: int, repository: str) -> bool:
    """Whether a service of one of this user's applications is stored in `repository`."""
    found = (
        select(Service.id)
        .join(Application, Application.id == Service.application)
        .where(of_members(Application.organization, user_id), Service.repository == repository)
    )
    return session.scalar(found) is not None


def release_by_id(session: Session, release_id: int, *, lock: bool = False) -> Release | None:
    """A release; with `lock`, held until the transaction ends."""
    query = select(Release).where(Release.id == release_id)
    return session.scalar(query.with_for_update() if lock else query)


def success_of_commit(session: Session, application_id: int, commit: str) -> Release | None:
    """The one success of this commit that has its images."""
    return session.scalar(
        select(Release).where(
            Release.belongs_to__application == application_id,
            Release.commit == commit,
            Release.status == "success",
            Release.images_removed_timestamp.is_(None),
        )
    )


def last_revision(session: Session, application_id: int, semver: str) -> int | None:
    """The highest revision of a version so far."""
    return session.scalar(
        select(func.max(Release.revision)).where(
            Release.belongs_to__application == application_id, Release.semver == semver
        )
    )


def images_of(session: Session, release_id: int) -> Sequence[tuple[Image, Service]]:
    """The images of a release with their services, in the order of the services' names."""
    rows = session.execute(
        select(Image, Service)
        .join(ReleaseImage, ReleaseImage.image == Image.id)
        .join(Service, Service.id == Image.is_a_build_of__service)
        .where(ReleaseImage.is_part_of__release == release_id)
        .order_by(Service.service_name)
    )
    return [row._tuple() for row in rows]


def ensure_service(session: Session, application_id: int, name: str, repository: str) -> Service:
    """The service of this name; made, to be stored in `repository`, when it is new."""
    session.execute(
        insert(Service)
        .values(application=application_id, service_name=name, repository=repository)
        .on_conflict_do_nothing(index_elements=["application", "service_name"])
    )
    return session.scalars(
        select(Service).where(Service.application == application_id, Service.service_name == name)
    ).one()


def ensure_service_installs(
    session: Session, *, application_id: int | None = None, device_id: int | None = None
) -> None:
    """Every device of the application (or this one device) has each of its fleet's services."""
    pairs = select(Device.id, Service.id).join(
        Service, Service.application == Device.belongs_to__application
    )
    if application_id is not None:
        pairs = pairs.where(Device.belongs_to__application == application_id)
    if device_id is not None:
        pairs = pairs.where(Device.id == device_id)
    session.execute(
        insert(ServiceInstall)
        .from_select(["device", "installs__service"], pairs)
        .on_conflict_do_nothing()
    )


def fail_running(session: Session, builder: str, reason: str) -> list[int]:
    """Set what this builder left running to failed; the ids."""
    mine = (Release.status == "running") & (
        (Release.builder == builder) | Release.builder.is_(None)
    )
    ids = list(
        session.scalars(
            update(Release)
            .where(mine)
            .values(status="failed", error_message=reason, end_timestamp=func.now())
            .returning(Release.id)
        )
    )
    parts = select(ReleaseImage.image).where(ReleaseImage.is_part_of__release.in_(ids))
    session.execute(
        update(Image)
        .where(Image.id.in_(parts), Image.status == "running")
        .values(status="failed", end_timestamp=func.now())
    )
    return ids


def is_wanted(session: Session, release_id: int) -> bool:
    """Whether a fleet or a device is set to run this release."""
    target = select(Application.id).where(Application.should_be_running__release == release_id)
    pin = select(Device.id).where(Device.is_pinned_on__release == release_id)
    return session.scalar(target.limit(1)) is not None or session.scalar(pin.limit(1)) is not None


def images_by_ids(
    session: Session, application_id: int, ids: Collection[int]
) -> list[tuple[int, str, str]]:
    """Id, location and release's commit of these images of an application's successes."""
    rows = session.execute(
        select(Image.id, Image.is_stored_at__image_location, Release.commit)
        .join(ReleaseImage, ReleaseImage.image == Image.id)
        .join(Release, Release.id == ReleaseImage.is_part_of__release)
        .where(
            Image.id.in_(ids),
            Release.belongs_to__application == application_id,
            Release.status == "success",
        )
    )
    return [row._tuple() for row in rows]


def image_of_application(session: Session, application_id: int, location: str) -> int | None:
    """The newest image of an application's services at this location, with or without digest."""
    name, _, digest = location.partition("@")
    query = (
        select(Image.id)
        .join(Service, Service.id == Image.is_a_build_of__service)
        .where(Service.application == application_id, Image.is_stored_at__image_location == name)
        .order_by(Image.id.desc())
    )
    return session.scalar((query.where(Image.content_hash == digest) if digest else query).limit(1))


def report_download(
    session: Session, device_id: int, image_id: int, status: str, progress: int | None
) -> None:
    """Note how far a device is with an image that it downloads for others."""
    row = insert(GatewayDownload).values(
        image=image_id,
        is_downloaded_by__device=device_id,
        status=status,
        download_progress=progress,
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=["image", "is_downloaded_by__device"],
            set_={
                "status": row.excluded.status,
                "download_progress": row.excluded.download_progress,
            },
        )
    )


def newest_success(session: Session, application_id: int, *, but: int = 0) -> int | None:
    """The last success that an application may track: no draft, none invalidated or without its
    images, not `but`."""
    return session.scalar(
        select(func.max(Release.id)).where(
            Release.belongs_to__application == application_id,
            Release.status == "success",
            Release.is_final,
            ~Release.is_invalidated,
            Release.images_removed_timestamp.is_(None),
            Release.id != but,
        )
    )


def delete_releases(session: Session, ids: Sequence[int]) -> None:
    """Remove releases and their images."""
    images = list(
        session.scalars(select(ReleaseImage.image).where(ReleaseImage.is_part_of__release.in_(ids)))
    )
    session.execute(delete(Release).where(Release.id.in_(ids)))
    session.execute(delete(Image).where(Image.id.in_(images)))
