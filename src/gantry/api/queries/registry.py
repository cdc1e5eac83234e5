"""The registry's space: the facts of what is needed, one query a resource; runs; pushes."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, text, union, update
from sqlalchemy.orm import Session

from gantry.api.models import (
    Application,
    Device,
    DiscardedImage,
    GatewayDownload,
    Image,
    ImageInstall,
    RegistryPush,
    RegistryRun,
    Release,
    ReleaseImage,
    ReleaseTag,
    Service,
)
from gantry.api.queries import records
from gantry.api.registry_needs import DiscardedFact, Facts, ImageFact, ReleaseFact
from gantry.contracts.registry_space import KEEP_TAG

# Whoever begins a push and whoever holds pushes back take turns; any number will do.
_LOCK = 0x72656769737472
# Kept so long after their end: a run that asks for those since its beginning is over by then.
_REMEMBER = timedelta(days=2)


def facts(session: Session) -> Facts:
    """What the rule looks at. `session` is of one moment, or holds what may change."""
    devices = session.execute(
        select(
            Device.is_pinned_on__release,
            Device.is_running__release,
            Device.should_be_managed_by__release,
            Device.should_be_operated_by__release,
        ).distinct()
    ).all()
    return Facts(
        now=records.now(session),
        releases=_releases(session),
        images=_images(session),
        discarded=[
            DiscardedFact(_repository(location), digest, at)
            for location, digest, at in session.execute(
                select(
                    DiscardedImage.location, DiscardedImage.content_hash, DiscardedImage.created_at
                )
            )
        ],
        targets=_ids(session, select(Application.should_be_running__release).distinct()),
        pinned=_set(row[0] for row in devices),
        running=_set(row[1] for row in devices),
        managing=_set(each for row in devices for each in row[2:]),
        tagged=_ids(session, select(ReleaseTag.release).where(ReleaseTag.tag_key == KEEP_TAG)),
        installed=_ids(
            session, union(select(ImageInstall.installs__image), select(GatewayDownload.image))
        ),
    )


def _ids(session: Session, query: Any) -> set[int]:
    return _set(session.scalars(query))


def _set(ids: Iterable[int | None]) -> set[int]:
    return {each for each in ids if each is not None}


def _releases(session: Session) -> list[ReleaseFact]:
    rows = session.execute(
        select(
            Release.id,
            Release.belongs_to__application,
            Application.slug,
            Release.commit,
            Release.status,
            func.coalesce(Release.end_timestamp, Release.created_at),
            Release.images_removed_timestamp.is_not(None),
        ).join(Application, Application.id == Release.belongs_to__application)
    )
    return [ReleaseFact(*row) for row in rows]


def _images(session: Session) -> list[ImageFact]:
    rows = session.execute(
        select(
            Image.id,
            Image.is_stored_at__image_location,
            Image.content_hash,
            Service.service_name,
            func.array_remove(func.array_agg(ReleaseImage.is_part_of__release), None),
        )
        .join(Service, Service.id == Image.is_a_build_of__service)
        .outerjoin(ReleaseImage, ReleaseImage.image == Image.id)
        .group_by(Image.id, Service.service_name)
    )
    return [
        ImageFact(image, _repository(location), digest, service, tuple(releases))
        for image, location, digest, service, releases in rows
    ]


def _repository(location: str) -> str:
    """`HOST[:PORT]/NAME` without the host, which may have been another when it was pushed."""
    return location.partition("/")[2]


def mark_removed(session: Session, ids: Sequence[int]) -> None:
    """These releases have their images removed. The rules refuse those that something needs."""
    session.execute(
        update(Release).where(Release.id.in_(ids)).values(images_removed_timestamp=func.now())
    )


def forget_discarded(session: Session, before: datetime) -> None:
    """What was discarded that long ago has been seen by many runs."""
    session.execute(delete(DiscardedImage).where(DiscardedImage.created_at < before))


def take_turn(session: Session) -> None:
    """Until the transaction ends, nobody else begins a push or holds pushes back."""
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def run_by_id(session: Session, run_id: int, *, lock: bool = False) -> RegistryRun | None:
    """A run; with `lock`, held until the transaction ends."""
    query = select(RegistryRun).where(RegistryRun.id == run_id)
    return session.scalar(query.with_for_update() if lock else query)


def last_runs(session: Session, number: int) -> Sequence[RegistryRun]:
    """The newest first."""
    return session.scalars(select(RegistryRun).order_by(RegistryRun.id.desc()).limit(number)).all()


def forget_runs(session: Session, kept: int) -> None:
    """Only so many of the newest runs are remembered: reports of large registries are long."""
    oldest = select(RegistryRun.id).order_by(RegistryRun.id.desc()).offset(kept).limit(1)
    session.execute(delete(RegistryRun).where(RegistryRun.id <= oldest.scalar_subquery()))


def last_of(
    session: Session, kinds: Sequence[str], status: str | None = None
) -> RegistryRun | None:
    """The newest run of these kinds, whatever its status, or of this one."""
    query = select(RegistryRun).where(RegistryRun.kind.in_(kinds))
    if status is not None:
        query = query.where(RegistryRun.status == status)
    return session.scalar(query.order_by(RegistryRun.id.desc()).limit(1))


def open_run(session: Session) -> RegistryRun | None:
    """The one that is running, else the first that is ordered; held."""
    return session.scalar(
        select(RegistryRun)
        .where(RegistryRun.status.in_(("running", "ordered")))
        .order_by(RegistryRun.status.desc(), RegistryRun.id)
        .limit(1)
        .with_for_update()
    )


def holding(session: Session) -> RegistryRun | None:
    """The run that holds pushes back, or waits for those that go on to end."""
    return session.scalar(
        select(RegistryRun)
        .where(
            RegistryRun.status == "running",
            func.greatest(RegistryRun.waits_until, RegistryRun.holds_until) > func.now(),
        )
        .limit(1)
    )


def pushes_go_on(session: Session) -> bool:
    """Whether something is being pushed."""
    found = select(RegistryPush.id).where(_goes_on()).limit(1)
    return session.scalar(found) is not None


def is_pushed_to(session: Session, repository: str) -> bool:
    """Whether something is being pushed to this repository."""
    found = select(RegistryPush.id).where(RegistryPush.repository == repository, _goes_on())
    return session.scalar(found.limit(1)) is not None


def _goes_on() -> Any:
    return RegistryPush.ended_at.is_(None) & (RegistryPush.expires_at > func.now())


def pushed_since(session: Session, moment: datetime) -> list[str]:
    """The repositories that something was pushed to since then, begun before it or after."""
    ended = func.coalesce(RegistryPush.ended_at, RegistryPush.expires_at)
    return list(
        session.scalars(
            select(RegistryPush.repository)
            .where(ended >= moment)
            .distinct()
            .order_by(RegistryPush.repository)
        )
    )


def add_push(session: Session, repository: str, holder: str, lifetime: timedelta) -> int:
    """A push begins; what is long over is forgotten."""
    session.execute(
        delete(RegistryPush).where(
            func.coalesce(RegistryPush.ended_at, RegistryPush.expires_at) < func.now() - _REMEMBER
        )
    )
    push = RegistryPush(
        repository=repository, holder=holder, expires_at=records.now(session) + lifetime
    )
    session.add(push)
    session.flush()
    return push.id


def renew_push(session: Session, push_id: int, lifetime: timedelta) -> bool:
    """A push goes on; False when its time is over."""
    found = session.scalars(
        update(RegistryPush)
        .where(RegistryPush.id == push_id, _goes_on())
        .values(expires_at=func.now() + lifetime)
        .returning(RegistryPush.id)
    ).one_or_none()
    return found is not None


def end_push(session: Session, push_id: int) -> None:
    """A push has ended."""
    session.execute(
        update(RegistryPush)
        .where(RegistryPush.id == push_id, RegistryPush.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp())
    )
