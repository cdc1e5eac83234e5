"""Another supervisor for a device is announced: it is part of the target."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BEFORE = ("is_pinned_on__release", "device_name", "belongs_to__application")
_NOW = (*_BEFORE, "should_be_managed_by__release")


def _announce(columns: tuple[str, ...]) -> None:
    """Have a change of these columns of a device announced, and of no others."""
    old, new = (", ".join(f"{row}.{each}" for each in columns) for row in ("old", "new"))
    op.execute("drop trigger announce on device")
    op.execute(
        f"create trigger announce after update of {', '.join(columns)} on device for each row "
        f"when (({old}) is distinct from ({new})) execute function announce_device()"
    )


def upgrade() -> None:
    _announce(_NOW)


def downgrade() -> None:
    _announce(_BEFORE)
