"""What fleets run: releases, their services and images."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint, false, text, true
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, JsonObject, Key


class Release(Base):
    """One build of a fleet's application, under its commit."""

    __tablename__ = "release"
    # For the foreign keys of targets and pins, which hold the application too.
    __table_args__ = (UniqueConstraint("belongs_to__application", "id"),)

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    belongs_to__application: Mapped[int] = mapped_column(
        ForeignKey("application.id", ondelete="CASCADE")
    )
    is_created_by__user: Mapped[int | None] = mapped_column(
        ForeignKey("user.id", ondelete="SET NULL")
    )
    commit: Mapped[str]
    composition: Mapped[JsonObject]
    status: Mapped[str] = mapped_column(server_default="running")
    phase: Mapped[str | None]
    source: Mapped[str]
    semver: Mapped[str] = mapped_column(server_default="0.0.0")
    revision: Mapped[int | None]
    is_final: Mapped[bool] = mapped_column(server_default=true())
    start_timestamp: Mapped[CreatedAt]
    end_timestamp: Mapped[datetime | None]
    update_timestamp: Mapped[CreatedAt]
    build_log: Mapped[str | None]
    error_message: Mapped[str | None]
    note: Mapped[str | None]
    variant: Mapped[str] = mapped_column(server_default="")
    contract: Mapped[JsonObject | None]
    is_finalized_at__date: Mapped[datetime | None]
    # Not to be tracked any more; devices that are pinned on it stay.
    is_invalidated: Mapped[bool] = mapped_column(server_default=false())
    invalidation_reason: Mapped[str | None]
    known_issue_list: Mapped[str | None]
    # Since when the registry need not have its images any more: nothing can be set to run it.
    images_removed_timestamp: Mapped[datetime | None]
    # The builder that works on it; what it left behind is told by this name.
    builder: Mapped[str | None]


class Service(Base):
    """A container of a fleet's composition, over all releases."""

    __tablename__ = "service"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    application: Mapped[int] = mapped_column(ForeignKey("application.id", ondelete="CASCADE"))
    service_name: Mapped[str]
    # The same for all releases, so that they share layers in the registry and on devices.
    repository: Mapped[str] = mapped_column(unique=True)


class Image(Base):
    """One service as one release built it."""

    __tablename__ = "image"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    is_a_build_of__service: Mapped[int] = mapped_column(
        ForeignKey("service.id", ondelete="CASCADE"), index=True
    )
    is_stored_at__image_location: Mapped[str]
    content_hash: Mapped[str | None]
    image_size: Mapped[int | None]
    status: Mapped[str] = mapped_column(server_default="running")
    project_type: Mapped[str | None]
    dockerfile: Mapped[str | None]
    contract: Mapped[JsonObject | None]
    error_message: Mapped[str | None]
    labels: Mapped[JsonObject] = mapped_column(server_default=text("'{}'::jsonb"))
    start_timestamp: Mapped[CreatedAt]
    push_timestamp: Mapped[datetime | None]
    end_timestamp: Mapped[datetime | None]
    build_seconds: Mapped[float | None]


class ReleaseImage(Base):
    """That an image is part of a release."""

    __tablename__ = "release_image"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    image: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"), index=True)
    is_part_of__release: Mapped[int] = mapped_column(ForeignKey("release.id", ondelete="CASCADE"))


class ReleaseAsset(Base):
    """A file that belongs to a release. Its bytes are in `release_asset_chunk`."""

    __tablename__ = "release_asset"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[CreatedAt]
    release: Mapped[int] = mapped_column(ForeignKey("release.id", ondelete="CASCADE"))
    asset_key: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]
    # SHA-256 of the bytes, in hexadecimal digits.
    checksum: Mapped[str]


class ReleaseAssetChunk(Base):
    """A piece of an asset: none is so large that it must be in memory twice."""

    __tablename__ = "release_asset_chunk"

    release_asset: Mapped[int] = mapped_column(
        ForeignKey("release_asset.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)
