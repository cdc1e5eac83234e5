"""What a device should run: the family's state of version 3, and its ETag.

A poll is one statement, which reads all that the target is made of. Where that is as it was when
the target was built last, its ETag is the same, and the target is not built. What is kept for this
is of one process: several need not agree on it.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from gantry.api.database import Database
from gantry.api.queries import targets
from gantry.api.queries.targets import Heartbeat, ImageContents, ReleaseContents, TargetInputs
from gantry.api.services.variables import Levels

# Of devices, some 300 bytes each; of releases, which many devices share.
_ETAGS = 20_000
_RELEASES = 64

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TargetState:
    """A device's target as canonical JSON, and the strong ETag over it. Who said that they have it
    already is given no body."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Target:
    """A device's target at one moment. `body` is empty when it was not built."""

    inputs: TargetInputs
    heartbeat: Heartbeat
    etag: str
    body: bytes = b""


class _Recent(Generic[K, V]):
    """The values that were used last, at most `size`; for several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._size:
                self._values.popitem(last=False)


class _Kept:
    """What was built from one database: ETags by device, contents by release and version."""

    def __init__(self) -> None:
        self.etags: _Recent[int, tuple[bytes, str]] = _Recent(_ETAGS)
        self.releases: _Recent[tuple[int, str | None], ReleaseContents] = _Recent(_RELEASES)


_kept: WeakKeyDictionary[Database, _Kept] = WeakKeyDictionary()


def current_target(database: Database, uuid: str, if_none_match: str | None = "*") -> Target | None:
    """The target of a device as it is now; None when there is no such device.

    It is built when it is another one than before, or when `if_none_match` does not name it: by
    default its ETag alone is asked for.
    """
    with database.statement() as session:
        found = targets.inputs(session, uuid)
    if found is None:
        return None
    inputs, heartbeat = found
    kept = _kept.setdefault(database, _Kept())
    known = kept.etags.get(inputs.device_id)
    if known and known[0] == inputs.digest and etag_matches(known[1], if_none_match):
        return Target(inputs, heartbeat, known[1])
    return _build(database, kept, inputs, heartbeat)


def _build(
    database: Database, kept: _Kept, inputs: TargetInputs, heartbeat: Heartbeat
) -> Target | None:
    release = None
    if inputs.release_id is not None:
        release = kept.releases.get((inputs.release_id, inputs.release_version))
    if release is None and inputs.release_id is not None:
        # What was read just now may be no more: again, and the release of the same moment.
        with database.snapshot() as session:
            found = targets.inputs(session, inputs.uuid)
            if found is None:
                return None
            inputs, heartbeat = found
            if inputs.release_id is not None:
                release = targets.contents(session, inputs.release_id)
                kept.releases.put((inputs.release_id, inputs.release_version), release)
    body = canonical(_state(inputs, release))
    etag = etag_of(body)
    kept.etags.put(inputs.device_id, (inputs.digest, etag))
    return Target(inputs, heartbeat, etag, body)


def _state(inputs: TargetInputs, release: ReleaseContents | None) -> dict[str, Any]:
    fleet, device = inputs.variables
    services, device_services = inputs.variables_of_services
    levels = Levels(fleet, services, device, device_services)
    application = {
        "id": inputs.application_id,
        "name": inputs.app_name,
        "slug": inputs.slug,
        "class": inputs.is_of__class,
        "is_host": inputs.is_host,
        "releases": release_state(release, levels) if release else {},
    }
    # Ours. The family names it among `apps`, where older supervisors of Gantry would run it.
    supervisor = {"supervisor": json.loads(inputs.supervisor)} if inputs.supervisor else {}
    return {
        inputs.uuid: {
            "name": inputs.device_name,
            "config": levels.configuration(),
            "apps": {inputs.application_uuid: application},
            **supervisor,
        }
    }


def release_state(release: ReleaseContents, levels: Levels) -> dict[str, dict[str, Any]]:
    """A release in a target, under its commit, with the variables of its services."""
    compositions = _mapping(release.composition, "services")
    return {
        release.commit: {
            "id": release.id,
            "services": {
                image.service_name: _service(
                    image, compositions, levels.environment(image.service_id)
                )
                for image in release.images
            },
            "volumes": _mapping(release.composition, "volumes"),
            "networks": _mapping(release.composition, "networks"),
        }
    }


def _service(
    image: ImageContents, compositions: Mapping[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    composition = _mapping(compositions, image.service_name)
    return {
        "id": image.service_id,
        "image_id": image.image_id,
        "image": image.reference,
        # What people set goes before what the composition says, and that before the image.
        "environment": {**_pairs(composition.get("environment")), **environment},
        "labels": {**image.labels, **_pairs(composition.get("labels"))},
        "running": True,
        "composition": {
            key: value for key, value in composition.items() if key not in ("build", "image")
        },
        **({"contract": image.contract} if image.contract else {}),
    }


def _mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
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
