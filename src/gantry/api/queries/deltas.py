"""What devices have, and what they are to have instead."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

# Of supervisors the version is known that runs: of the releases that have it, the last one counts.
_UPDATES = text("""
select running, target, count(*) as devices
from (
    select
        d.is_running__release as running,
        coalesce(d.is_pinned_on__release, a.should_be_running__release) as target
    from device d
    join application a on a.id = d.belongs_to__application
    where d.is_active and d.is_running__release is not null
    union all
    select old.id, new.id
    from device d
    join release new on new.id = d.should_be_managed_by__release
    cross join lateral (
        select r.id from release r
        where r.belongs_to__application = new.belongs_to__application
            and r.semver = d.supervisor_version and r.status = 'success'
            and r.images_removed_timestamp is null
        order by r.id desc limit 1
    ) old
    where d.is_active and d.supervisor_version <> new.semver
) of
where running <> target
group by running, target
order by devices desc, target desc, running desc
limit :limit
""")

# As targets have it: a release's images that were stored, by their services' names.
_IMAGES = text("""
select
    p.is_part_of__release, s.service_name,
    i.is_stored_at__image_location || '@' || i.content_hash
from release_image p
join image i on i.id = p.image
join service s on s.id = i.is_a_build_of__service
where p.is_part_of__release = any(:releases) and i.content_hash is not null
order by p.is_part_of__release, s.service_name
""")


@dataclass(frozen=True, slots=True)
class Update:
    """So many devices run one release, and are to run another."""

    running: int
    target: int
    devices: int


def updates(session: Session, limit: int) -> list[Update]:
    """The updates that devices have before them, most devices first."""
    return [Update(*row) for row in session.execute(_UPDATES, {"limit": limit})]


def images(session: Session, releases: set[int]) -> dict[int, dict[str, str]]:
    """The images (`name@sha256:…`) of these releases by their services' names."""
    found: dict[int, dict[str, str]] = {each: {} for each in releases}
    for release, service, image in session.execute(_IMAGES, {"releases": sorted(releases)}):
        found[release][service] = image
    return found
