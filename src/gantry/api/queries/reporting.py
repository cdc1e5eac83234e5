"""What devices report, written in few statements: each one on `device` has its rules checked."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Table, func, select, text, update
from sqlalchemy.orm import Session

from gantry.api.models import Device, Image, Release, ReleaseImage
from gantry.api.queries.devices import online

# The device is held until the transaction ends: reports of one device follow each other.
_REPORTER = text("""
select
    d.id, d.belongs_to__application, a.uuid, d.update_status,
    (
        select json_object_agg(v.name, v.value)::text
        from application_environment_variable v where v.application = a.id
    ),
    (
        select json_object_agg(v.name, v.value)::text
        from device_environment_variable v where v.device = d.id
    )
from device d
join application a on a.id = d.belongs_to__application
where d.uuid = :uuid
for no key update of d
""")

# What is said again is not written again.
_INSTALLS = text("""
with gone as (
    delete from image_install
    where device = :device and installs__image <> all (cast(:images as bigint[]))
)
insert into image_install as old
    (device, installs__image, is_provided_by__release, status, download_progress)
select :device, image, release, status, progress
from unnest(
    cast(:images as bigint[]), cast(:releases as bigint[]),
    cast(:statuses as text[]), cast(:progress as integer[])
) as said (image, release, status, progress)
on conflict (device, installs__image) do update set
    is_provided_by__release = excluded.is_provided_by__release,
    status = excluded.status,
    download_progress = excluded.download_progress,
    modified_at = now()
where (old.is_provided_by__release, old.status, old.download_progress)
    is distinct from
    (excluded.is_provided_by__release, excluded.status, excluded.download_progress)
""")


_DEVICE = cast(Table, Device.__table__)


@dataclass(frozen=True, slots=True)
class Reporter:
    """The device that reports, with its fleet's variables and its own."""

    id: int
    application_id: int
    application_uuid: str
    update_status: str | None
    variables: tuple[dict[str, str], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Success:
    """A release of the device's fleet, and its images by the names that they are stored under."""

    id: int
    images: dict[str, int]


@dataclass(frozen=True, slots=True)
class Install:
    """What a device says of one image."""

    image_id: int
    release_id: int
    status: str
    progress: int | None


def reporter(session: Session, uuid: str) -> Reporter | None:
    """The device of this uuid, held until the transaction ends."""
    row = session.execute(_REPORTER, {"uuid": uuid}).one_or_none()
    if row is None:
        return None
    levels = json.loads(row[4] or "{}"), json.loads(row[5] or "{}")
    return Reporter(row[0], row[1], row[2], row[3], levels)


def successes(
    session: Session, application_id: int, commits: Collection[str]
) -> dict[str, Success]:
    """The successes of these commits, by commit; one that has its images goes before others."""
    rows = session.execute(
        select(Release.commit, Release.id, Image.is_stored_at__image_location, Image.id)
        .outerjoin(ReleaseImage, ReleaseImage.is_part_of__release == Release.id)
        .outerjoin(Image, Image.id == ReleaseImage.image)
        .where(
            Release.belongs_to__application == application_id,
            Release.commit == func.any(list(commits)),
            Release.status == "success",
        )
        .order_by(Release.images_removed_timestamp.is_not(None), Release.id.desc())
    )
    found: dict[str, Success] = {}
    for commit, release_id, location, image_id in rows:
        success = found.setdefault(commit, Success(release_id, {}))
        if location is not None and success.id == release_id:
            success.images[location] = image_id
    return found


def report_installs(session: Session, device_id: int, said: Sequence[Install]) -> None:
    """Note what a device says of its images, and drop those that it no longer reports."""
    session.execute(
        _INSTALLS,
        {
            "device": device_id,
            "images": [each.image_id for each in said],
            "releases": [each.release_id for each in said],
            "statuses": [each.status for each in said],
            "progress": [each.progress for each in said],
        },
    )


def write(session: Session, device_id: int, values: Mapping[str, Any], lifetime: timedelta) -> None:
    """Store a report; the device is online, and for `lifetime` from now unless more is heard."""
    # The table's update, not the entity's: no object of the session is to follow it.
    session.execute(
        update(_DEVICE)
        .where(_DEVICE.c.id == device_id)
        .values(**values, heartbeat_expires_at=func.now() + lifetime, **online())
    )
