"""The VPN's servers and connections, actions on devices, and what is announced of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from gantry.api.migrations import rules

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# 100.64.0.0/10 has 4,194,304 addresses: the network's own, the servers' and the last one are none
# of a device. After the last the first comes again, which may be free by then.
SEQUENCE = "create sequence vpn_address minvalue 2 maxvalue 4194302 cycle"

ANNOUNCE = """
create function announce_reach() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or not new.is_active
        or new.belongs_to__application <> old.belongs_to__application
    then
        perform pg_notify('gantry_target', 'gone:' || old.uuid);
    end if;
    if tg_op = 'UPDATE' and new.is_web_accessible <> old.is_web_accessible then
        perform pg_notify('gantry_target', 'web:' || old.uuid || ':'
            || case when new.is_web_accessible then 'on' else 'off' end);
    end if;
    return null;
end $$;
create trigger announce_reach
    after update of is_active, belongs_to__application, is_web_accessible
    on device for each row
    when ((old.is_active, old.belongs_to__application, old.is_web_accessible)
        is distinct from
        (new.is_active, new.belongs_to__application, new.is_web_accessible))
    execute function announce_reach();
create trigger announce_reach_deletion after delete on device for each row
    execute function announce_reach();

create function announce_action() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'action:');
    return null;
end $$;
create trigger announce after insert on device_action for each statement
    execute function announce_action();

create function announce_member() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'user:' || "user".id || ':' || "user".session_epoch)
        from "user" where "user".id = old."user";
    perform pg_notify('gantry_target', 'key:' || api_key.id)
        from api_key join "user" on "user".actor = api_key.is_of__actor
        where "user".id = old."user";
    return null;
end $$;
create trigger announce after delete or update of "user", is_member_of__organization
    on organization_membership for each row execute function announce_member();
"""

# The sessions that end bear the epoch that they were made in: those of the next one do not end.
USER = """
create or replace function announce_user() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'user:' || old.id || ':' || old.session_epoch);
    return null;
end $$;
"""

USER_BEFORE = """
create or replace function announce_user() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'user:' || old.id);
    return null;
end $$;
"""

FORGET = """
drop function announce_reach() cascade;
drop function announce_action() cascade;
drop function announce_member() cascade;
"""

DEVICE: dict[str, TypeEngine[Any]] = {
    "vpn_address": sa.Text(),
    "vpn_server": sa.Text(),
    "vpn_session": sa.Text(),
    "vpn_session_at": sa.DateTime(timezone=True),
    "api_secret": sa.Text(),
}

CHECKS = {
    "action": "action in ('restart', 'start-service', 'stop-service', 'restart-service', 'purge', "
    "'reboot', 'shutdown', 'update', 'identify')",
    "service": "(action in ('start-service', 'stop-service', 'restart-service')) = "
    "(coalesce(parameters ->> 'service', '') <> '')",
    "status": "status in ('pending', 'running', 'done', 'failed', 'expired', 'cancelled')",
    "expires_at": "expires_at between created_at + interval '1 minute' "
    "and created_at + interval '30 days'",
    "ended_at": "(ended_at is null) = (status in ('pending', 'running'))",
}


def upgrade() -> None:
    op.execute(SEQUENCE)
    op.create_table(
        "vpn_server",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_vpn_server")),
    )
    for name, kind in DEVICE.items():
        op.add_column("device", sa.Column(name, kind, nullable=True))
    op.create_unique_constraint(op.f("uq_device_vpn_address"), "device", ["vpn_address"])
    op.create_index(
        "ix_device_vpn_server",
        "device",
        ["vpn_server"],
        postgresql_where=sa.text("is_connected_to_vpn"),
    )
    op.add_column("audit_entry", sa.Column("session", sa.Text(), nullable=True))
    op.create_index(
        "ix_audit_entry_session",
        "audit_entry",
        ["session"],
        postgresql_where=sa.text("session is not null"),
    )
    _create_actions()
    op.execute(ANNOUNCE)
    op.execute(USER)
    rules.replace(revision)


def _create_actions() -> None:
    now = sa.text("now()")
    op.create_table(
        "device_action",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        *(
            sa.CheckConstraint(condition, name=op.f(f"ck_device_action_{name}"))
            for name, condition in CHECKS.items()
        ),
        sa.ForeignKeyConstraint(
            ["device"], ["device.id"], name=op.f("fk_device_action_device"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user"], ["user.id"], name=op.f("fk_device_action_user"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_action")),
    )
    op.create_index("ix_device_action_device", "device_action", ["device"])
    op.create_index("ix_device_action_ended_at", "device_action", ["ended_at"])
    op.create_index(op.f("ix_device_action_user"), "device_action", ["user"])
    op.create_index(
        "ix_device_action_open",
        "device_action",
        ["device", "id"],
        postgresql_where=sa.text("status in ('pending', 'running')"),
    )
    op.create_index(
        "uq_device_action_running",
        "device_action",
        ["device"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )


def downgrade() -> None:
    rules.replace(None)
    op.execute(USER_BEFORE)
    op.execute(FORGET)
    # Nobody would ever say that they have left.
    op.execute("update device set is_connected_to_vpn = false where is_connected_to_vpn")
    op.drop_table("device_action")
    op.drop_index("ix_audit_entry_session", "audit_entry")
    op.drop_column("audit_entry", "session")
    op.drop_index("ix_device_vpn_server", "device")
    op.drop_constraint(op.f("uq_device_vpn_address"), "device")
    for name in DEVICE:
        op.drop_column("device", name)
    op.drop_table("vpn_server")
    op.execute("drop sequence vpn_address")
    rules.replace(down_revision)
