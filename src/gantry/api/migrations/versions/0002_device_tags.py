"""Tags of devices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_tag",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("tag_key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100",
            name=op.f("ck_device_tag_tag_key"),
        ),
        sa.CheckConstraint("length(value) <= 1000", name=op.f("ck_device_tag_value")),
        sa.ForeignKeyConstraint(
            ["device"], ["device.id"], name=op.f("fk_device_tag_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_tag")),
        sa.UniqueConstraint("device", "tag_key", name=op.f("uq_device_tag_device_tag_key")),
    )


def downgrade() -> None:
    op.drop_table("device_tag")
