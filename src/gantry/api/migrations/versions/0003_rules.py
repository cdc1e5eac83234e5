"""Rules about several rows, and the size of variables' values."""

from alembic import op

from gantry.api.migrations import rules

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Judged when the transaction ends: the rules, which name the rows, are first.
_DEFERRED = (
    ("device", "fk_device_is_pinned_on__release"),
    ("application", "fk_application_should_be_running__release"),
)
_VARIABLES = ("application_environment_variable", "device_environment_variable")


def upgrade() -> None:
    rules.replace(revision)
    for table, name in _DEFERRED:
        op.execute(f"alter table {table} alter constraint {name} deferrable initially deferred")
    for table in _VARIABLES:
        op.create_check_constraint(
            op.f(f"ck_{table}_value"), table, "octet_length(value) <= 100000"
        )


def downgrade() -> None:
    for table in _VARIABLES:
        op.drop_constraint(op.f(f"ck_{table}_value"), table, type_="check")
    for table, name in _DEFERRED:
        op.execute(f"alter table {table} alter constraint {name} not deferrable")
    rules.replace(None)
