"""What a device should run: the family's state of version 3, and its ETag."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.models import Application, Device, Image, Release, Service
from gantry.api.queries import applications, releases
from gantry.api.services.variables import Levels


@dataclass(frozen=True, slots=True)
class TargetState:
    """A device's target as canonical JSON, and the strong ETag over it."""

    body: bytes
    etag: str


def target_state(session: Session, device: Device) -> TargetState:
    """The target of one device. `session` must be of one snapshot, else it may be of two minds."""
    application = applications.application_by_id(session, device.belongs_to__application)
    if application is None:  # the foreign key holds
        raise RuntimeError(f"device {device.id} is of no application")
    levels = Levels(
        applications.application_variables(session, application.id),
        applications.service_variables(session, application.id),
        applications.device_variables(session, device.id),
        applications.device_service_variables(session, device.id),
    )
    release_id = device.is_pinned_on__release or application.should_be_running__release
    release = releases.release_by_id(session, release_id) if release_id else None
    state = {
        device.uuid: {
            "name": device.device_name,
            "config": levels.configuration(),
            "apps": {application.uuid: application_state(session, application, release, levels)},
        }
    }
    body = canonical(state)
    return TargetState(body, etag_of(body))


def application_state(
    session: Session, application: Application, release: Release | None, levels: Levels
) -> dict[str, Any]:
    """An application and the release that it should run, with the variables of its services."""
    return {
        "id": application.id,
        "name": application.app_name,
        "slug": application.slug,
        "class": application.is_of__class,
        "is_host": application.is_host,
        "releases": _release(session, release, levels) if release else {},
    }


def _release(session: Session, release: Release, levels: Levels) -> dict[str, dict[str, Any]]:
    images = releases.images_of(session, release.id)
    return {
        release.commit: {
            "id": release.id,
            "services": {
                service.service_name: _service(
                    service,
                    image,
                    _mapping(release.composition, "services"),
                    levels.environment(service.id),
                )
                for image, service in images
            },
            "volumes": _mapping(release.composition, "volumes"),
            "networks": _mapping(release.composition, "networks"),
        }
    }


def _service(
    service: Service, image: Image, compositions: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    composition = _mapping(compositions, service.service_name)
    return {
        "id": service.id,
        "image_id": image.id,
        "image": f"{image.is_stored_at__image_location}@{image.content_hash}",
        # What people set goes before what the composition says, and that before the image.
        "environment": {**_pairs(composition.get("environment")), **environment},
        "labels": {**image.labels, **_pairs(composition.get("labels"))},
        "running": True,
        "composition": {
            key: value for key, value in composition.items() if key not in ("build", "image")
        },
    }


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _pairs(value: object) -> dict[str, str]:
    """`environment` and `labels` of the Compose format: a mapping, or a list of NAME=VALUE."""
    if isinstance(value, dict):
        return {str(name): _text(each) for name, each in value.items()}
    if isinstance(value, list):
        split_up = (str(each).partition("=") for each in value)
        return {name: each for name, _, each in split_up}
    return {}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def canonical(value: object) -> bytes:
    """JSON that is the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def etag_of(body: bytes) -> str:
    """A strong ETag (RFC 9110, 8.8.3), quotes included."""
    return f'"{hashlib.sha256(body).hexdigest()[:40]}"'


def etag_matches(etag: str, if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` header names this ETag (compared weakly, as RFC 9110 has it)."""
    if if_none_match is None:
        return False
    named = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in named or etag in named
