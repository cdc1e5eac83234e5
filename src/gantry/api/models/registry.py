"""The registry's space: what is looked at and removed, who pushes meanwhile, and what was there."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, JsonObject, Key


class RegistryRun(Base):
    """One look of the collector at the registry, and what it removed there."""

    __tablename__ = "registry_run"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="ordered")
    # Who ordered it; None: the schedule, or what an earlier run left to be freed.
    user: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    # Seconds: how old a blob must be, and how long those of a removed image stay.
    grace: Mapped[int]
    linger: Mapped[int]
    started_at: Mapped[datetime | None]
    # When the collector last gave a sign of life.
    seen_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    progress: Mapped[str | None]
    error: Mapped[str | None]
    report: Mapped[JsonObject | None]
    # Until then no push begins: because it waits for those that go on to end, or because it
    # removes things. `hold_rests_until`: it has waited in vain, and lets pushes begin again.
    waits_until: Mapped[datetime | None]
    holds_until: Mapped[datetime | None]
    hold_rests_until: Mapped[datetime | None]


class RegistryPush(Base):
    """That something is being pushed to a repository, or was."""

    __tablename__ = "registry_push"
    __table_args__ = (
        Index("ix_registry_push_open", "repository", postgresql_where=text("ended_at is null")),
        # Those that are forgotten after a while.
        Index("ix_registry_push_ended_at", "ended_at"),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    repository: Mapped[str]
    # Who: a builder's name, or `token` for one who was given a token to push and no more.
    holder: Mapped[str]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class DiscardedImage(Base):
    """An image whose row is gone: the registry may have it still. A trigger writes these."""

    __tablename__ = "discarded_image"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    location: Mapped[str]
    content_hash: Mapped[str]
