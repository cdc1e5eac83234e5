"""Which ports of devices members reach; who has to ask anew when that changes."""

import sqlalchemy as sa
from alembic import op

from gantry.api.migrations import rules

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = ("application", "device")
CHECK = "reachable_ports ~ '^([0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*)?$'"

# What members have open they open anew, and are refused what is not theirs any more.
ANNOUNCE = """
create function announce_ports() returns trigger language plpgsql as $$
declare
    owner bigint;
begin
    if tg_table_name = 'application' then
        owner := new.organization;
    else
        select organization into owner from application where id = new.belongs_to__application;
    end if;
    perform pg_notify('gantry_target', name) from (
        with member as (
            select "user".id, "user".actor, "user".session_epoch
            from organization_membership as membership
            join "user" on "user".id = membership."user"
            join organization_membership_role as role
                on role.id = membership.organization_membership_role
            where membership.is_member_of__organization = owner and role.name <> 'administrator'
        )
        select 'user:' || member.id || ':' || member.session_epoch as name from member
        union all
        select 'key:' || api_key.id from api_key join member on member.actor = api_key.is_of__actor
    ) as held;
    return null;
end $$;
"""
TRIGGER = """
create trigger announce_ports after update of reachable_ports on {table} for each row
    when (old.reachable_ports is distinct from new.reachable_ports)
    execute function announce_ports();
"""
# Also of who is an administrator no more.
MEMBER = """
drop trigger announce on organization_membership;
create trigger announce after delete or update of {columns}
    on organization_membership for each row execute function announce_member();
"""
BEFORE = '"user", is_member_of__organization'


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("reachable_ports", sa.Text(), nullable=True))
        op.create_check_constraint(op.f(f"ck_{table}_reachable_ports"), table, CHECK)
    op.execute(ANNOUNCE)
    for table in TABLES:
        op.execute(TRIGGER.format(table=table))
    op.execute(MEMBER.format(columns=f"{BEFORE}, organization_membership_role"))
    rules.replace(revision)


def downgrade() -> None:
    rules.replace(None)
    op.execute(MEMBER.format(columns=BEFORE))
    op.execute("drop function announce_ports() cascade")
    for table in TABLES:
        op.drop_constraint(op.f(f"ck_{table}_reachable_ports"), table, type_="check")
        op.drop_column(table, "reachable_ports")
    rules.replace(down_revision)
