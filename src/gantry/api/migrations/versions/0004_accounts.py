"""Second factors; logins counted by place too; a key or session that ends is announced."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gantry.api.migrations import rules

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Streams look again whether what they were opened with holds: a device's own, and those of logs.
_ANNOUNCE = """
create function announce_api_key() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'key:' || old.id);
    perform pg_notify('gantry_target', 'device:' || device.id)
        from device where device.actor = old.is_of__actor;
    return null;
end $$;
create trigger announce after delete or update of expiry_date, key_hash, is_of__actor, role
    on api_key for each row execute function announce_api_key();
create function announce_user() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'user:' || old.id);
    return null;
end $$;
create trigger announce after delete or update of session_epoch
    on "user" for each row execute function announce_user();
"""


def upgrade() -> None:
    op.create_table(
        "second_factor",
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sealed_secret", sa.Text(), nullable=False),
        sa.Column("enabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_step", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "recovery_hashes",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["user"], ["user.id"], name=op.f("fk_second_factor_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_second_factor")),
    )
    op.add_column(
        "login_attempt", sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(op.f("ix_login_attempt_address"), "login_attempt", ["address"])
    op.execute(_ANNOUNCE)
    rules.replace(revision)


def downgrade() -> None:
    rules.replace(down_revision)
    op.execute("drop function announce_api_key() cascade")
    op.execute("drop function announce_user() cascade")
    op.drop_index(op.f("ix_login_attempt_address"), "login_attempt")
    op.drop_column("login_attempt", "last_success_at")
    op.drop_table("second_factor")
