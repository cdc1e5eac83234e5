"""The registry's space: runs over it, pushes to it, and which releases have no images any more."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gantry.api.migrations import rules

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A release's removal, its application's, its organization's: whatever takes an image's row along.
DISCARD = """
create function note_discarded_image() returns trigger language plpgsql as $$
begin
    insert into discarded_image (location, content_hash)
        values (old.is_stored_at__image_location, old.content_hash);
    return null;
end $$;
create trigger discarded after delete on image for each row
    when (old.content_hash is not null) execute function note_discarded_image();
"""
CHECKS = {
    "kind": "kind in ('survey', 'collect', 'free')",
    "status": "status in ('ordered', 'running', 'done', 'failed')",
}
REMOVED = "images_removed_timestamp is null or status <> 'running'"


def _time(name: str, *, now: bool = False) -> "sa.Column[datetime]":
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def _key() -> "sa.Column[int]":
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def upgrade() -> None:
    op.add_column("release", _time("images_removed_timestamp"))
    op.create_check_constraint(op.f("ck_release_images_removed_timestamp"), "release", REMOVED)
    _unique("status = 'success' and images_removed_timestamp is null")
    op.create_table(
        "registry_run",
        _key(),
        _time("created_at", now=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="ordered", nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=True),
        sa.Column("grace", sa.BigInteger(), nullable=False),
        sa.Column("linger", sa.BigInteger(), nullable=False),
        _time("started_at"),
        _time("seen_at"),
        _time("ended_at"),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        _time("waits_until"),
        _time("holds_until"),
        _time("hold_rests_until"),
        *(
            sa.CheckConstraint(condition, name=op.f(f"ck_registry_run_{name}"))
            for name, condition in CHECKS.items()
        ),
        sa.ForeignKeyConstraint(
            ["user"], ["user.id"], name=op.f("fk_registry_run_user"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_run")),
    )
    op.create_index(op.f("ix_registry_run_user"), "registry_run", ["user"])
    op.create_index(
        "uq_registry_run_running",
        "registry_run",
        ["status"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "registry_push",
        _key(),
        _time("created_at", now=True),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_push")),
    )
    op.create_index(
        "ix_registry_push_open",
        "registry_push",
        ["repository"],
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_index("ix_registry_push_ended_at", "registry_push", ["ended_at"])
    op.create_table(
        "discarded_image",
        _key(),
        _time("created_at", now=True),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discarded_image")),
    )
    op.execute(DISCARD)
    rules.replace(revision)


def _unique(condition: str) -> None:
    op.drop_index("uq_release_success_commit", "release")
    op.create_index(
        "uq_release_success_commit",
        "release",
        ["belongs_to__application", "commit"],
        unique=True,
        postgresql_where=sa.text(condition),
    )


def downgrade() -> None:
    rules.replace(None)
    # A commit that was built again after its images were removed: the later success stays one.
    op.execute("update release set status = 'cancelled' where images_removed_timestamp is not null")
    op.execute("drop function note_discarded_image() cascade")
    for table in ("discarded_image", "registry_push", "registry_run"):
        op.drop_table(table)
    _unique("status = 'success'")
    op.drop_constraint(op.f("ck_release_images_removed_timestamp"), "release", type_="check")
    op.drop_column("release", "images_removed_timestamp")
    rules.replace("0006")
