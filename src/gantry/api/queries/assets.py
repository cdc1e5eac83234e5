"""The bytes of files of releases."""

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from gantry.api.models import ReleaseAssetChunk


def store(session: Session, asset_id: int, number: int, content: bytes) -> None:
    """One more piece of a file."""
    session.execute(
        insert(ReleaseAssetChunk).values(release_asset=asset_id, number=number, content=content)
    )


def piece(session: Session, asset_id: int, number: int) -> bytes | None:
    """A piece of a file; None where there is none."""
    return session.scalar(
        select(ReleaseAssetChunk.content).where(
            ReleaseAssetChunk.release_asset == asset_id, ReleaseAssetChunk.number == number
        )
    )
