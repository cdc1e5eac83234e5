"""All that a device's target is made of, in one statement; and the contents of a release."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from gantry.api.models import HeartbeatState
from gantry.api.queries import releases

# A row's xmin is the transaction that wrote it: another one, whenever any of its columns changes.
_INPUTS = text("""
select
    d.id, d.uuid, d.device_name, d.is_active,
    a.id as application_id, a.uuid as application_uuid, a.app_name, a.slug,
    a.is_of__class, a.is_host,
    r.id as release_id,
    r.xmin::text || coalesce((
        select string_agg(concat_ws('.', p.xmin, i.xmin, s.xmin), ',' order by p.id)
        from release_image p
        join image i on i.id = p.image
        join service s on s.id = i.is_a_build_of__service
        where p.is_part_of__release = r.id
    ), '') as release_version,
    (
        select json_object_agg(v.name, v.value order by v.name)::text
        from application_environment_variable v where v.application = a.id
    ) as fleet_variables,
    (
        select json_object_agg(v.name, v.value order by v.name)::text
        from device_environment_variable v where v.device = d.id
    ) as device_variables,
    (
        select json_object_agg(of.service, of.variables order by of.service)::text
        from (
            select v.service, json_object_agg(v.name, v.value order by v.name) as variables
            from service_environment_variable v join service s on s.id = v.service
            where s.application = a.id group by v.service
        ) of
    ) as service_variables,
    (
        select json_object_agg(of.service, of.variables order by of.service)::text
        from (
            select n.installs__service as service,
                json_object_agg(v.name, v.value order by v.name) as variables
            from device_service_environment_variable v
            join service_install n on n.id = v.service_install
            where n.device = d.id group by n.installs__service
        ) of
    ) as device_service_variables,
    (
        select json_build_object(
            'image', i.is_stored_at__image_location || '@' || i.content_hash,
            'version', w.semver || coalesce('+rev' || nullif(w.revision, 0), ''))::text
        from release w
        join release_image p on p.is_part_of__release = w.id
        join image i on i.id = p.image
        where w.id = d.should_be_managed_by__release order by i.id limit 1
    ) as supervisor,
    d.api_heartbeat_state, d.heartbeat_expires_at, now() as now
from device d
join application a on a.id = d.belongs_to__application
left join release r on r.id = coalesce(d.is_pinned_on__release, a.should_be_running__release)
where d.uuid = :uuid
""")


@dataclass(frozen=True, slots=True)
class TargetInputs:
    """What a device's target depends on. `release_version` changes with the release's contents;
    variables are JSON, as the database gives them."""

    device_id: int
    uuid: str
    device_name: str
    is_active: bool
    application_id: int
    application_uuid: str
    app_name: str
    slug: str
    is_of__class: str
    is_host: bool
    release_id: int | None
    release_version: str | None
    fleet_variables: str | None
    device_variables: str | None
    service_variables: str | None
    device_service_variables: str | None
    # JSON: `image` by digest and `version`, where the device's supervisor is to be of a release.
    supervisor: str | None

    @property
    def digest(self) -> bytes:
        """The same for the same target, another one for another."""
        return hashlib.blake2b(repr(astuple(self)).encode(), digest_size=16).digest()

    @property
    def variables(self) -> tuple[dict[str, str], dict[str, str]]:
        """The fleet's variables, and the device's."""
        return json.loads(self.fleet_variables or "{}"), json.loads(self.device_variables or "{}")

    @property
    def variables_of_services(
        self,
    ) -> tuple[dict[int, dict[str, str]], dict[int, dict[str, str]]]:
        """Those of single services by the service's id: the fleet's, and the device's."""
        return _by_service(self.service_variables), _by_service(self.device_service_variables)


def _by_service(stored: str | None) -> dict[int, dict[str, str]]:
    return {int(service): found for service, found in json.loads(stored or "{}").items()}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How the api thought of a device's connection, and when it was asked."""

    state: str
    expires_at: datetime | None
    now: datetime

    @property
    def is_online(self) -> bool:
        """Whether the device counts as online."""
        return self.state == HeartbeatState.ONLINE


@dataclass(frozen=True, slots=True)
class ImageContents:
    """One service of a release, as it was built."""

    service_id: int
    service_name: str
    image_id: int
    reference: str
    labels: Mapping[str, str]
    contract: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ReleaseContents:
    """A release, as all devices get it."""

    id: int
    commit: str
    composition: Mapping[str, Any]
    images: tuple[ImageContents, ...]


def inputs(session: Session, uuid: str) -> tuple[TargetInputs, Heartbeat] | None:
    """What the target of the device of this uuid is made of, and how the device was."""
    row = session.execute(_INPUTS, {"uuid": uuid}).one_or_none()
    if row is None:
        return None
    return TargetInputs(*row[:-3]), Heartbeat(*row[-3:])


def contents(session: Session, release_id: int) -> ReleaseContents:
    """What is in a release; `session` is of the moment in which it was found to be there."""
    release = releases.release_by_id(session, release_id)
    if release is None:  # the snapshot has it
        raise RuntimeError(f"release {release_id} is gone")
    images = (
        ImageContents(
            service.id,
            service.service_name,
            image.id,
            f"{image.is_stored_at__image_location}@{image.content_hash}",
            image.labels,
            image.contract,
        )
        for image, service in releases.images_of(session, release_id)
    )
    return ReleaseContents(release.id, release.commit, release.composition, tuple(images))
