"""Organizations, tags, files and variables of services, and who changed what."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gantry.api.migrations import rules

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROWS = """
insert into organization_membership_role (name) values ('administrator'), ('member');
insert into application_type (name, slug, description)
    values ('Microservices', 'microservices', 'One container or several');
insert into organization (name, handle, created_at)
    select username, username, created_at from "user" order by id;
insert into organization_membership
    ("user", is_member_of__organization, organization_membership_role, created_at)
    select "user".id, organization.id, role.id, "user".created_at
    from "user"
    join organization on organization.handle = "user".username
    join organization_membership_role as role on role.name = 'administrator'
    order by "user".id;
"""

# Each user's fleets are their own organization's.
OWNERS = """
update application set
    organization = (
        select organization.id from organization
        join "user" on "user".username = organization.handle
        where "user".id = application.belongs_to__user),
    application_type = (select id from application_type where slug = 'microservices');
"""

# What only 0005 has an owner for goes with it: fleets of organizations that are no user's own.
STRANGERS = """
do $$
begin
    if exists (select from application where belongs_to__user is null) then
        raise exception 'an application has lost the user who made it: remove it, or set its user';
    end if;
end $$;
"""

ANNOUNCE = """
create function announce_service_variable() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'application:' || service.application)
        from service where service.id = coalesce(new.service, old.service);
    return null;
end $$;
create trigger announce after insert or update or delete
    on service_environment_variable for each row
    execute function announce_service_variable();

create function announce_device_service_variable() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'device:' || service_install.device)
        from service_install
        where service_install.id = coalesce(new.service_install, old.service_install);
    return null;
end $$;
create trigger announce after insert or update or delete
    on device_service_environment_variable for each row
    execute function announce_device_service_variable();
"""

FORGET = """
drop function announce_service_variable() cascade;
drop function announce_device_service_variable() cascade;
"""

COORDINATES = ("custom_latitude", "custom_longitude")


def upgrade() -> None:
    rules.replace(None)
    op.create_table(
        "application_type",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "supports_multicontainer", sa.Boolean(), server_default=sa.true(), nullable=False
        ),
        sa.Column("supports_web_url", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_legacy", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("requires_payment", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("needs__os_version_range", sa.Text(), nullable=True),
        sa.Column("maximum_device_count", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_type")),
        sa.UniqueConstraint("slug", name=op.f("uq_application_type_slug")),
    )
    op.create_table(
        "organization",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "handle ~ '^[a-z0-9][a-z0-9_-]{1,30}$'", name=op.f("ck_organization_handle")
        ),
        sa.CheckConstraint("length(name) between 1 and 255", name=op.f("ck_organization_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("handle", name=op.f("uq_organization_handle")),
    )
    op.create_table(
        "organization_membership_role",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_membership_role")),
        sa.UniqueConstraint("name", name=op.f("uq_organization_membership_role_name")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("organization", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.BigInteger(), nullable=True),
        sa.Column("actor_name", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("row_name", sa.Text(), nullable=True),
        sa.Column("changes", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization"],
            ["organization.id"],
            name=op.f("fk_audit_entry_organization"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
    )
    op.create_index(op.f("ix_audit_entry_actor"), "audit_entry", ["actor"], unique=False)
    op.create_index(
        "ix_audit_entry_organization_id", "audit_entry", ["organization", "id"], unique=False
    )
    op.create_table(
        "device_type_alias",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("is_referenced_by__alias", sa.Text(), nullable=False),
        sa.Column("references__device_type", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["references__device_type"],
            ["device_type.id"],
            name=op.f("fk_device_type_alias_references__device_type"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_type_alias")),
        sa.UniqueConstraint(
            "is_referenced_by__alias", name=op.f("uq_device_type_alias_is_referenced_by__alias")
        ),
    )
    op.create_index(
        op.f("ix_device_type_alias_references__device_type"),
        "device_type_alias",
        ["references__device_type"],
        unique=False,
    )
    op.create_table(
        "organization_membership",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("is_member_of__organization", sa.BigInteger(), nullable=False),
        sa.Column("organization_membership_role", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["is_member_of__organization"],
            ["organization.id"],
            name=op.f("fk_organization_membership_is_member_of__organization"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_membership_role"],
            ["organization_membership_role.id"],
            name=op.f("fk_organization_membership_organization_membership_role"),
        ),
        sa.ForeignKeyConstraint(
            ["user"], ["user.id"], name=op.f("fk_organization_membership_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_membership")),
        sa.UniqueConstraint(
            "user",
            "is_member_of__organization",
            name=op.f("uq_organization_membership_user_is_member_of__organization"),
        ),
    )
    op.create_index(
        op.f("ix_organization_membership_is_member_of__organization"),
        "organization_membership",
        ["is_member_of__organization"],
        unique=False,
    )
    op.create_table(
        "application_tag",
        sa.Column("application", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tag_key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100",
            name=op.f("ck_application_tag_tag_key"),
        ),
        sa.CheckConstraint("length(value) <= 1000", name=op.f("ck_application_tag_value")),
        sa.ForeignKeyConstraint(
            ["application"],
            ["application.id"],
            name=op.f("fk_application_tag_application"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_tag")),
        sa.UniqueConstraint(
            "application", "tag_key", name=op.f("uq_application_tag_application_tag_key")
        ),
    )
    op.create_table(
        "release_asset",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "modified_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("release", sa.BigInteger(), nullable=False),
        sa.Column("asset_key", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "asset_key ~ '^[A-Za-z0-9._/-]{1,255}$'", name=op.f("ck_release_asset_asset_key")
        ),
        sa.ForeignKeyConstraint(
            ["release"], ["release.id"], name=op.f("fk_release_asset_release"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_asset")),
        sa.UniqueConstraint(
            "release", "asset_key", name=op.f("uq_release_asset_release_asset_key")
        ),
    )
    op.create_table(
        "release_tag",
        sa.Column("release", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tag_key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100",
            name=op.f("ck_release_tag_tag_key"),
        ),
        sa.CheckConstraint("length(value) <= 1000", name=op.f("ck_release_tag_value")),
        sa.ForeignKeyConstraint(
            ["release"], ["release.id"], name=op.f("fk_release_tag_release"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_tag")),
        sa.UniqueConstraint("release", "tag_key", name=op.f("uq_release_tag_release_tag_key")),
    )
    op.create_table(
        "service_environment_variable",
        sa.Column("service", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "name !~ '^(RESIN|BALENA)(_|$)'", name=op.f("ck_service_environment_variable_reserved")
        ),
        sa.CheckConstraint(
            "name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255",
            name=op.f("ck_service_environment_variable_name"),
        ),
        sa.CheckConstraint(
            "octet_length(value) <= 100000", name=op.f("ck_service_environment_variable_value")
        ),
        sa.ForeignKeyConstraint(
            ["service"],
            ["service.id"],
            name=op.f("fk_service_environment_variable_service"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_environment_variable")),
        sa.UniqueConstraint(
            "service", "name", name=op.f("uq_service_environment_variable_service_name")
        ),
    )
    op.create_table(
        "gateway_download",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("image", sa.BigInteger(), nullable=False),
        sa.Column("is_downloaded_by__device", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("download_progress", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "download_progress between 0 and 100",
            name=op.f("ck_gateway_download_download_progress"),
        ),
        sa.ForeignKeyConstraint(
            ["image"], ["image.id"], name=op.f("fk_gateway_download_image"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["is_downloaded_by__device"],
            ["device.id"],
            name=op.f("fk_gateway_download_is_downloaded_by__device"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_download")),
        sa.UniqueConstraint(
            "image",
            "is_downloaded_by__device",
            name=op.f("uq_gateway_download_image_is_downloaded_by__device"),
        ),
    )
    op.create_index(
        op.f("ix_gateway_download_is_downloaded_by__device"),
        "gateway_download",
        ["is_downloaded_by__device"],
        unique=False,
    )
    op.create_table(
        "release_asset_chunk",
        sa.Column("release_asset", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_asset"],
            ["release_asset.id"],
            name=op.f("fk_release_asset_chunk_release_asset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("release_asset", "number", name=op.f("pk_release_asset_chunk")),
    )
    op.create_table(
        "device_service_environment_variable",
        sa.Column("service_install", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "name !~ '^(RESIN|BALENA)(_|$)'",
            name=op.f("ck_device_service_environment_variable_reserved"),
        ),
        sa.CheckConstraint(
            "name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255",
            name=op.f("ck_device_service_environment_variable_name"),
        ),
        sa.CheckConstraint(
            "octet_length(value) <= 100000",
            name=op.f("ck_device_service_environment_variable_value"),
        ),
        sa.ForeignKeyConstraint(
            ["service_install"],
            ["service_install.id"],
            name=op.f("fk_device_service_environment_variable_service_install"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_service_environment_variable")),
        sa.UniqueConstraint(
            "service_install",
            "name",
            name=op.f("uq_device_service_environment_variable_service_install_name"),
        ),
    )
    op.execute(ROWS)
    op.add_column("application", sa.Column("organization", sa.BigInteger()))
    op.add_column("application", sa.Column("application_type", sa.BigInteger()))
    op.execute(OWNERS)
    for column in ("organization", "application_type"):
        op.alter_column("application", column, nullable=False)
    op.add_column(
        "application",
        sa.Column("is_public", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "application",
        sa.Column("is_archived", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "application",
        sa.Column("is_discoverable", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "application", sa.Column("is_stored_at__repository_url", sa.Text(), nullable=True)
    )
    op.add_column(
        "application",
        sa.Column(
            "is_accessible_by_support_until__date", sa.DateTime(timezone=True), nullable=True
        ),
    )
    op.alter_column("application", "belongs_to__user", nullable=True)
    op.drop_constraint(
        op.f("uq_application_belongs_to__user_app_name"), "application", type_="unique"
    )
    op.create_index(
        op.f("ix_application_belongs_to__user"), "application", ["belongs_to__user"], unique=False
    )
    op.create_unique_constraint(
        op.f("uq_application_organization_app_name"), "application", ["organization", "app_name"]
    )
    op.drop_constraint(op.f("fk_application_belongs_to__user"), "application", type_="foreignkey")
    op.create_foreign_key(
        op.f("fk_application_belongs_to__user"),
        "application",
        "user",
        ["belongs_to__user"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_foreign_key(
        op.f("fk_application_organization"),
        "application",
        "organization",
        ["organization"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_foreign_key(
        op.f("fk_application_application_type"),
        "application",
        "application_type",
        ["application_type"],
        ["id"],
    )
    op.add_column(
        "device", sa.Column("should_be_managed_by__release", sa.BigInteger(), nullable=True)
    )
    op.add_column(
        "device", sa.Column("should_be_operated_by__release", sa.BigInteger(), nullable=True)
    )
    op.add_column(
        "device",
        sa.Column("is_web_accessible", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "device",
        sa.Column(
            "is_accessible_by_support_until__date", sa.DateTime(timezone=True), nullable=True
        ),
    )
    op.add_column(
        "device", sa.Column("is_locked_until__date", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("device", sa.Column("custom_latitude", sa.Text(), nullable=True))
    op.add_column("device", sa.Column("custom_longitude", sa.Text(), nullable=True))
    op.add_column(
        "device",
        sa.Column("is_connected_to_vpn", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("device", sa.Column("last_vpn_event", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("public_address", sa.Text(), nullable=True))
    op.add_column("device", sa.Column("location", sa.Text(), nullable=True))
    op.add_column("device", sa.Column("local_id", sa.Text(), nullable=True))
    op.alter_column("device", "belongs_to__user", nullable=True)
    op.create_index(
        op.f("ix_device_should_be_managed_by__release"),
        "device",
        ["should_be_managed_by__release"],
        unique=False,
    )
    op.create_index(
        op.f("ix_device_should_be_operated_by__release"),
        "device",
        ["should_be_operated_by__release"],
        unique=False,
    )
    op.drop_constraint(op.f("fk_device_belongs_to__user"), "device", type_="foreignkey")
    op.create_foreign_key(
        op.f("fk_device_should_be_managed_by__release"),
        "device",
        "release",
        ["should_be_managed_by__release"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_foreign_key(
        op.f("fk_device_should_be_operated_by__release"),
        "device",
        "release",
        ["should_be_operated_by__release"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_foreign_key(
        op.f("fk_device_belongs_to__user"),
        "device",
        "user",
        ["belongs_to__user"],
        ["id"],
        ondelete="SET NULL",
    )
    op.add_column(
        "device_type",
        sa.Column("is_private", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("device_type", sa.Column("logo", sa.Text(), nullable=True))
    op.add_column("device_type", sa.Column("contract", postgresql.JSONB(), nullable=True))
    op.add_column("image", sa.Column("contract", postgresql.JSONB(), nullable=True))
    op.add_column("image", sa.Column("error_message", sa.Text(), nullable=True))
    op.add_column("release", sa.Column("variant", sa.Text(), server_default="", nullable=False))
    op.add_column("release", sa.Column("contract", postgresql.JSONB(), nullable=True))
    op.add_column(
        "release", sa.Column("is_finalized_at__date", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "release",
        sa.Column("is_invalidated", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("release", sa.Column("invalidation_reason", sa.Text(), nullable=True))
    op.add_column("release", sa.Column("known_issue_list", sa.Text(), nullable=True))
    op.execute("update release set is_finalized_at__date = end_timestamp where status = 'success'")
    for name in COORDINATES:
        op.create_check_constraint(
            op.f(f"ck_device_{name}"),
            "device",
            f"{name} ~ '^(-?[0-9]{{1,3}}([.][0-9]{{1,20}})?)?$'",
        )
    op.execute(ANNOUNCE)
    rules.replace(revision)


def downgrade() -> None:
    rules.replace(None)
    op.execute(STRANGERS)
    op.execute(FORGET)
    op.drop_column("release", "known_issue_list")
    op.drop_column("release", "invalidation_reason")
    op.drop_column("release", "is_invalidated")
    op.drop_column("release", "is_finalized_at__date")
    op.drop_column("release", "contract")
    op.drop_column("release", "variant")
    op.drop_column("image", "error_message")
    op.drop_column("image", "contract")
    op.drop_column("device_type", "contract")
    op.drop_column("device_type", "logo")
    op.drop_column("device_type", "is_private")
    op.drop_constraint(op.f("fk_device_belongs_to__user"), "device", type_="foreignkey")
    op.drop_constraint(
        op.f("fk_device_should_be_operated_by__release"), "device", type_="foreignkey"
    )
    op.drop_constraint(
        op.f("fk_device_should_be_managed_by__release"), "device", type_="foreignkey"
    )
    op.create_foreign_key(
        op.f("fk_device_belongs_to__user"), "device", "user", ["belongs_to__user"], ["id"]
    )
    op.drop_index(op.f("ix_device_should_be_operated_by__release"), table_name="device")
    op.drop_index(op.f("ix_device_should_be_managed_by__release"), table_name="device")
    op.alter_column("device", "belongs_to__user", nullable=False)
    op.drop_column("device", "local_id")
    op.drop_column("device", "location")
    op.drop_column("device", "public_address")
    op.drop_column("device", "last_vpn_event")
    op.drop_column("device", "is_connected_to_vpn")
    op.drop_column("device", "custom_longitude")
    op.drop_column("device", "custom_latitude")
    op.drop_column("device", "is_locked_until__date")
    op.drop_column("device", "is_accessible_by_support_until__date")
    op.drop_column("device", "is_web_accessible")
    op.drop_column("device", "should_be_operated_by__release")
    op.drop_column("device", "should_be_managed_by__release")
    op.drop_constraint(op.f("fk_application_application_type"), "application", type_="foreignkey")
    op.drop_constraint(op.f("fk_application_organization"), "application", type_="foreignkey")
    op.drop_constraint(op.f("fk_application_belongs_to__user"), "application", type_="foreignkey")
    op.create_foreign_key(
        op.f("fk_application_belongs_to__user"), "application", "user", ["belongs_to__user"], ["id"]
    )
    op.drop_constraint(op.f("uq_application_organization_app_name"), "application", type_="unique")
    op.drop_index(op.f("ix_application_belongs_to__user"), table_name="application")
    op.create_unique_constraint(
        op.f("uq_application_belongs_to__user_app_name"),
        "application",
        ["belongs_to__user", "app_name"],
        postgresql_nulls_not_distinct=False,
    )
    op.alter_column("application", "belongs_to__user", nullable=False)
    op.drop_column("application", "is_accessible_by_support_until__date")
    op.drop_column("application", "is_stored_at__repository_url")
    op.drop_column("application", "is_discoverable")
    op.drop_column("application", "is_archived")
    op.drop_column("application", "is_public")
    op.drop_column("application", "application_type")
    op.drop_column("application", "organization")
    op.drop_table("device_service_environment_variable")
    op.drop_table("release_asset_chunk")
    op.drop_index(
        op.f("ix_gateway_download_is_downloaded_by__device"), table_name="gateway_download"
    )
    op.drop_table("gateway_download")
    op.drop_table("service_environment_variable")
    op.drop_table("release_tag")
    op.drop_table("release_asset")
    op.drop_table("application_tag")
    op.drop_index(
        op.f("ix_organization_membership_is_member_of__organization"),
        table_name="organization_membership",
    )
    op.drop_table("organization_membership")
    op.drop_index(
        op.f("ix_device_type_alias_references__device_type"), table_name="device_type_alias"
    )
    op.drop_table("device_type_alias")
    op.drop_index("ix_audit_entry_organization_id", table_name="audit_entry")
    op.drop_index(op.f("ix_audit_entry_actor"), table_name="audit_entry")
    op.drop_table("audit_entry")
    op.drop_table("organization_membership_role")
    op.drop_table("organization")
    op.drop_table("application_type")
    rules.replace("0004")
