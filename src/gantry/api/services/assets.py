"""Files of releases: what a release has beside its images. They are kept in the database."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import ConfigDict
from sqlalchemy.orm import Session

from gantry.api.actors import Actor, UserActor
from gantry.api.database import Database
from gantry.api.errors import BadRequestError, NotFoundError
from gantry.api.models import ReleaseAsset
from gantry.api.odata.compiler import Query
from gantry.api.odata.options import Options
from gantry.api.odata.resources import RESOURCES
from gantry.api.queries import assets, records, resources
from gantry.api.services import parents
from gantry.api.services.records import Body, Reference, Writer

MAX_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Upload:
    """A file that a client sends."""

    file: BinaryIO
    filename: str
    content_type: str

    def __str__(self) -> str:
        return self.filename


class NewReleaseAsset(Body):
    """A file of a release, under a key of its own there."""

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    release: Reference
    asset_key: str
    asset: Upload


class ChangedReleaseAsset(Body):
    """What a file is called."""

    asset_key: str


@dataclass(frozen=True, slots=True)
class Content:
    """A stored file: its head, and its bytes in pieces."""

    filename: str
    content_type: str
    size: int
    checksum: str
    pieces: Iterator[bytes]


def _create(session: Session, actor: UserActor, body: NewReleaseAsset) -> int:
    name = parents.RELEASE.found(session, actor, body.release)
    taken = {"release": body.release, "asset_key": body.asset_key}
    parents.refuse_second(session, ReleaseAsset, taken, f"{name} has a file {body.asset_key}")
    asset = ReleaseAsset(
        **taken,
        filename=body.asset.filename[:255],
        content_type=body.asset.content_type[:255],
        size=0,
        checksum="",
    )
    asset_id = records.add(session, asset)
    digest, size, number = hashlib.sha256(), 0, 0
    while piece := body.asset.file.read(CHUNK_BYTES):
        digest.update(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise BadRequestError(f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
        assets.store(session, asset_id, number, piece)
        number += 1
    asset.size, asset.checksum = size, digest.hexdigest()
    session.flush()
    return asset_id


def _update(session: Session, _: UserActor, ids: Sequence[int], body: ChangedReleaseAsset) -> None:
    values = {"asset_key": body.asset_key, "modified_at": records.now(session)}
    records.change(session, ReleaseAsset, ids, values)


def _delete(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete(session, ReleaseAsset, ids)


def content(database: Database, actor: Actor, asset_id: int) -> Content:
    """A file that the actor may see.

    Raises:
        NotFoundError: no such file, or not for this actor.
    """
    query = Query(RESOURCES, actor).ids(RESOURCES["release_asset"], Options(), {"id": asset_id})
    with database.snapshot() as session:
        if not resources.numbers(session, query):
            raise NotFoundError(f"there is no release_asset {asset_id}")
        found = records.by_id(session, ReleaseAsset, asset_id)
        head = (found.filename, found.content_type, found.size, found.checksum)
    return Content(*head, _pieces(database, asset_id, -(-head[2] // CHUNK_BYTES)))


def _pieces(database: Database, asset_id: int, count: int) -> Iterator[bytes]:
    """One after another, each in a transaction of its own: a slow reader holds no connection."""
    for number in range(count):
        with database.snapshot() as session:
            piece = assets.piece(session, asset_id, number)
        if piece is None:
            return
        yield piece


RELEASE_ASSET = Writer((NewReleaseAsset, _create), (ChangedReleaseAsset, _update), _delete)
