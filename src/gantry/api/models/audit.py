"""Who changed what."""

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, JsonObject, Key


class AuditEntry(Base):
    """One change of one row by somebody. It stays when the row and the one who acted are gone."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_organization_id", "organization", "id"),
        # The end of a tunnel is noted under the name of whoever opened it.
        Index("ix_audit_entry_session", "session", postgresql_where=text("session is not null")),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    # No foreign keys: what is gone is told still. The organization takes its entries with it.
    organization: Mapped[int | None] = mapped_column(
        ForeignKey("organization.id", ondelete="CASCADE")
    )
    actor: Mapped[int | None] = mapped_column(index=True)
    # Who that was: `user admin`, `device 3f2a…`.
    actor_name: Mapped[str | None]
    action: Mapped[str]
    resource: Mapped[str]
    row: Mapped[int]
    # What the row is called, and the values that were set; secrets are left out.
    row_name: Mapped[str | None]
    changes: Mapped[JsonObject]
    # What several entries have in common: a tunnel's beginning and its end.
    session: Mapped[str | None]
