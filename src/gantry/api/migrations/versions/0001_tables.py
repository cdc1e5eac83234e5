"""The tables of accounts, fleets, releases and devices."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Whoever changes what a device should run, by whatever way, is heard by all replicas. Equal
# announcements of one transaction are sent once, when it commits.
ANNOUNCE = """
create function announce_application() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'application:' || new.id);
    return null;
end $$;
create trigger announce after update of should_be_running__release, app_name, slug
    on application for each row
    when ((old.should_be_running__release, old.app_name, old.slug)
        is distinct from (new.should_be_running__release, new.app_name, new.slug))
    execute function announce_application();

create function announce_application_variable() returns trigger language plpgsql as $$
begin
    perform pg_notify(
        'gantry_target', 'application:' || coalesce(new.application, old.application));
    return null;
end $$;
create trigger announce after insert or update or delete
    on application_environment_variable for each row
    execute function announce_application_variable();

create function announce_device() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'device:' || old.id);
    return null;
end $$;
create trigger announce after update of is_pinned_on__release, device_name, belongs_to__application
    on device for each row
    when ((old.is_pinned_on__release, old.device_name, old.belongs_to__application)
        is distinct from
        (new.is_pinned_on__release, new.device_name, new.belongs_to__application))
    execute function announce_device();
create trigger announce_deletion after delete on device for each row
    execute function announce_device();

create function announce_device_variable() returns trigger language plpgsql as $$
begin
    perform pg_notify('gantry_target', 'device:' || coalesce(new.device, old.device));
    return null;
end $$;
create trigger announce after insert or update or delete
    on device_environment_variable for each row
    execute function announce_device_variable();
"""

FORGET = """
drop function announce_application() cascade;
drop function announce_application_variable() cascade;
drop function announce_device() cascade;
drop function announce_device_variable() cascade;
"""


def upgrade() -> None:
    op.create_table(
        "actor",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_actor")),
    )
    op.create_table(
        "cpu_architecture",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cpu_architecture")),
        sa.UniqueConstraint("slug", name=op.f("uq_cpu_architecture_slug")),
    )
    op.create_table(
        "login_attempt",
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("username", "address", name=op.f("pk_login_attempt")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("is_of__actor", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("expiry_date", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role in ('user', 'device', 'provisioning')", name=op.f("ck_api_key_role")
        ),
        sa.ForeignKeyConstraint(
            ["is_of__actor"], ["actor.id"], name=op.f("fk_api_key_is_of__actor"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_key_key_hash")),
    )
    op.create_index(op.f("ix_api_key_is_of__actor"), "api_key", ["is_of__actor"], unique=False)
    op.create_table(
        "device_type",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_of__cpu_architecture", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["is_of__cpu_architecture"],
            ["cpu_architecture.id"],
            name=op.f("fk_device_type_is_of__cpu_architecture"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_type")),
        sa.UniqueConstraint("slug", name=op.f("uq_device_type_slug")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("actor", sa.BigInteger(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column(
            "is_administrator", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("session_epoch", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("username ~ '^[a-z][a-z0-9_-]{1,30}$'", name=op.f("ck_user_username")),
        sa.ForeignKeyConstraint(["actor"], ["actor.id"], name=op.f("fk_user_actor")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("actor", name=op.f("uq_user_actor")),
        sa.UniqueConstraint("username", name=op.f("uq_user_username")),
    )
    op.create_table(
        "application",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("actor", sa.BigInteger(), nullable=False),
        sa.Column("belongs_to__user", sa.BigInteger(), nullable=False),
        sa.Column("app_name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("is_for__device_type", sa.BigInteger(), nullable=False),
        sa.Column("is_of__class", sa.Text(), server_default="fleet", nullable=False),
        sa.Column("is_host", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "should_track_latest_release",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
        ),
        sa.Column("should_be_running__release", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "app_name ~ '^[A-Za-z][A-Za-z0-9_-]{3,99}$'", name=op.f("ck_application_app_name")
        ),
        sa.CheckConstraint(
            "is_of__class in ('fleet', 'block', 'app')", name=op.f("ck_application_is_of__class")
        ),
        sa.CheckConstraint("uuid ~ '^[0-9a-f]{32}$'", name=op.f("ck_application_uuid")),
        sa.ForeignKeyConstraint(["actor"], ["actor.id"], name=op.f("fk_application_actor")),
        sa.ForeignKeyConstraint(
            ["belongs_to__user"], ["user.id"], name=op.f("fk_application_belongs_to__user")
        ),
        sa.ForeignKeyConstraint(
            ["is_for__device_type"],
            ["device_type.id"],
            name=op.f("fk_application_is_for__device_type"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application")),
        sa.UniqueConstraint("actor", name=op.f("uq_application_actor")),
        sa.UniqueConstraint(
            "belongs_to__user", "app_name", name=op.f("uq_application_belongs_to__user_app_name")
        ),
        sa.UniqueConstraint("slug", name=op.f("uq_application_slug")),
        sa.UniqueConstraint("uuid", name=op.f("uq_application_uuid")),
    )
    op.create_index(
        op.f("ix_application_should_be_running__release"),
        "application",
        ["should_be_running__release"],
        unique=False,
    )
    op.create_table(
        "user__has__public_key",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"], ["user.id"], name=op.f("fk_user__has__public_key_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user__has__public_key")),
        sa.UniqueConstraint(
            "user", "fingerprint", name=op.f("uq_user__has__public_key_user_fingerprint")
        ),
    )
    op.create_table(
        "application_environment_variable",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("application", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "name !~ '^(RESIN|BALENA)(_|$)' or name ~ '^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$'",  # noqa: E501
            name=op.f("ck_application_environment_variable_reserved"),
        ),
        sa.CheckConstraint(
            "name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255",
            name=op.f("ck_application_environment_variable_name"),
        ),
        sa.ForeignKeyConstraint(
            ["application"],
            ["application.id"],
            name=op.f("fk_application_environment_variable_application"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_environment_variable")),
        sa.UniqueConstraint(
            "application", "name", name=op.f("uq_application_environment_variable_application_name")
        ),
    )
    op.create_table(
        "release",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("belongs_to__application", sa.BigInteger(), nullable=False),
        sa.Column("is_created_by__user", sa.BigInteger(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("composition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("semver", sa.Text(), server_default="0.0.0", nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("is_final", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "start_timestamp",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("end_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "update_timestamp",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("build_log", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("builder", sa.Text(), nullable=True),
        sa.CheckConstraint("commit ~ '^[0-9a-f]{7,64}$'", name=op.f("ck_release_commit")),
        sa.CheckConstraint(
            "phase in ('next', 'current', 'sunset', 'end-of-life')", name=op.f("ck_release_phase")
        ),
        sa.CheckConstraint(
            "semver ~ '^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$'",
            name=op.f("ck_release_semver"),
        ),
        sa.CheckConstraint(
            "status in ('running', 'success', 'failed', 'cancelled')",
            name=op.f("ck_release_status"),
        ),
        sa.ForeignKeyConstraint(
            ["belongs_to__application"],
            ["application.id"],
            name=op.f("fk_release_belongs_to__application"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["is_created_by__user"],
            ["user.id"],
            name=op.f("fk_release_is_created_by__user"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint(
            "belongs_to__application", "id", name=op.f("uq_release_belongs_to__application_id")
        ),
    )
    op.create_index(
        "uq_release_revision",
        "release",
        ["belongs_to__application", "semver", "revision"],
        unique=True,
        postgresql_where=sa.text("revision is not null"),
    )
    op.create_index(
        "uq_release_success_commit",
        "release",
        ["belongs_to__application", "commit"],
        unique=True,
        postgresql_where=sa.text("status = 'success'"),
    )
    op.create_table(
        "service",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("application", sa.BigInteger(), nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.CheckConstraint("repository ~ '^v2/[0-9a-f]{32}$'", name=op.f("ck_service_repository")),
        sa.CheckConstraint(
            "service_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'",
            name=op.f("ck_service_service_name"),
        ),
        sa.ForeignKeyConstraint(
            ["application"],
            ["application.id"],
            name=op.f("fk_service_application"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service")),
        sa.UniqueConstraint(
            "application", "service_name", name=op.f("uq_service_application_service_name")
        ),
        sa.UniqueConstraint("repository", name=op.f("uq_service_repository")),
    )
    op.create_table(
        "device",
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
        sa.Column("actor", sa.BigInteger(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("device_name", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("belongs_to__user", sa.BigInteger(), nullable=False),
        sa.Column("belongs_to__application", sa.BigInteger(), nullable=False),
        sa.Column("is_of__device_type", sa.BigInteger(), nullable=False),
        sa.Column("is_pinned_on__release", sa.BigInteger(), nullable=True),
        sa.Column("is_running__release", sa.BigInteger(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("is_online", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("api_heartbeat_state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("last_connectivity_event", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_stream", sa.Text(), nullable=True),
        sa.Column("event_stream_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("update_status", sa.Text(), nullable=True),
        sa.Column("os_version", sa.Text(), nullable=True),
        sa.Column("os_variant", sa.Text(), nullable=True),
        sa.Column("supervisor_version", sa.Text(), nullable=True),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("mac_address", sa.Text(), nullable=True),
        sa.Column("provisioning_progress", sa.BigInteger(), nullable=True),
        sa.Column("provisioning_state", sa.Text(), nullable=True),
        sa.Column("download_progress", sa.BigInteger(), nullable=True),
        sa.Column("cpu_usage", sa.BigInteger(), nullable=True),
        sa.Column("cpu_temp", sa.BigInteger(), nullable=True),
        sa.Column("cpu_id", sa.Text(), nullable=True),
        sa.Column("is_undervolted", sa.Boolean(), nullable=True),
        sa.Column("memory_usage", sa.BigInteger(), nullable=True),
        sa.Column("memory_total", sa.BigInteger(), nullable=True),
        sa.Column("storage_block_device", sa.Text(), nullable=True),
        sa.Column("storage_usage", sa.BigInteger(), nullable=True),
        sa.Column("storage_total", sa.BigInteger(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "api_heartbeat_state in ('unknown', 'online', 'timeout', 'offline')",
            name=op.f("ck_device_api_heartbeat_state"),
        ),
        sa.CheckConstraint("uuid ~ '^[0-9a-f]{32}([0-9a-f]{30})?$'", name=op.f("ck_device_uuid")),
        sa.CheckConstraint(
            "length(device_name) between 1 and 255", name=op.f("ck_device_device_name")
        ),
        sa.ForeignKeyConstraint(["actor"], ["actor.id"], name=op.f("fk_device_actor")),
        sa.ForeignKeyConstraint(
            ["belongs_to__application", "is_pinned_on__release"],
            ["release.belongs_to__application", "release.id"],
            name="fk_device_is_pinned_on__release",
            ondelete="SET NULL (is_pinned_on__release)",
        ),
        sa.ForeignKeyConstraint(
            ["belongs_to__application"],
            ["application.id"],
            name=op.f("fk_device_belongs_to__application"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["belongs_to__user"], ["user.id"], name=op.f("fk_device_belongs_to__user")
        ),
        sa.ForeignKeyConstraint(
            ["is_of__device_type"], ["device_type.id"], name=op.f("fk_device_is_of__device_type")
        ),
        sa.ForeignKeyConstraint(
            ["is_running__release"],
            ["release.id"],
            name=op.f("fk_device_is_running__release"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("actor", name=op.f("uq_device_actor")),
        sa.UniqueConstraint("uuid", name=op.f("uq_device_uuid")),
    )
    op.create_index(
        op.f("ix_device_belongs_to__application"),
        "device",
        ["belongs_to__application"],
        unique=False,
    )
    op.create_index(
        op.f("ix_device_belongs_to__user"), "device", ["belongs_to__user"], unique=False
    )
    op.create_index(
        "ix_device_heartbeat",
        "device",
        ["heartbeat_expires_at"],
        unique=False,
        postgresql_where=sa.text("api_heartbeat_state in ('online', 'timeout')"),
    )
    op.create_index(
        op.f("ix_device_is_pinned_on__release"), "device", ["is_pinned_on__release"], unique=False
    )
    op.create_index(
        op.f("ix_device_is_running__release"), "device", ["is_running__release"], unique=False
    )
    op.create_table(
        "image",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("is_a_build_of__service", sa.BigInteger(), nullable=False),
        sa.Column("is_stored_at__image_location", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("image_size", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("project_type", sa.Text(), nullable=True),
        sa.Column("dockerfile", sa.Text(), nullable=True),
        sa.Column(
            "labels",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "start_timestamp",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("push_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("build_seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "content_hash ~ '^sha256:[0-9a-f]{64}$'", name=op.f("ck_image_content_hash")
        ),
        sa.CheckConstraint(
            "status <> 'success' or content_hash is not null", name=op.f("ck_image_success")
        ),
        sa.CheckConstraint(
            "status in ('running', 'success', 'failed', 'cancelled')", name=op.f("ck_image_status")
        ),
        sa.ForeignKeyConstraint(
            ["is_a_build_of__service"],
            ["service.id"],
            name=op.f("fk_image_is_a_build_of__service"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
    )
    op.create_index(
        op.f("ix_image_is_a_build_of__service"), "image", ["is_a_build_of__service"], unique=False
    )
    op.create_table(
        "device_environment_variable",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "name !~ '^(RESIN|BALENA)(_|$)' or name ~ '^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$'",  # noqa: E501
            name=op.f("ck_device_environment_variable_reserved"),
        ),
        sa.CheckConstraint(
            "name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255",
            name=op.f("ck_device_environment_variable_name"),
        ),
        sa.ForeignKeyConstraint(
            ["device"],
            ["device.id"],
            name=op.f("fk_device_environment_variable_device"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_environment_variable")),
        sa.UniqueConstraint(
            "device", "name", name=op.f("uq_device_environment_variable_device_name")
        ),
    )
    op.create_table(
        "image_install",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "install_date",
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
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("installs__image", sa.BigInteger(), nullable=False),
        sa.Column("is_provided_by__release", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("download_progress", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "download_progress between 0 and 100", name=op.f("ck_image_install_download_progress")
        ),
        sa.ForeignKeyConstraint(
            ["device"], ["device.id"], name=op.f("fk_image_install_device"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["installs__image"],
            ["image.id"],
            name=op.f("fk_image_install_installs__image"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["is_provided_by__release"],
            ["release.id"],
            name=op.f("fk_image_install_is_provided_by__release"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_install")),
        sa.UniqueConstraint(
            "device", "installs__image", name=op.f("uq_image_install_device_installs__image")
        ),
    )
    op.create_index(
        op.f("ix_image_install_installs__image"), "image_install", ["installs__image"], unique=False
    )
    op.create_index(
        op.f("ix_image_install_is_provided_by__release"),
        "image_install",
        ["is_provided_by__release"],
        unique=False,
    )
    op.create_table(
        "release_image",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("image", sa.BigInteger(), nullable=False),
        sa.Column("is_part_of__release", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image"], ["image.id"], name=op.f("fk_release_image_image"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["is_part_of__release"],
            ["release.id"],
            name=op.f("fk_release_image_is_part_of__release"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_image")),
        sa.UniqueConstraint(
            "is_part_of__release", "image", name=op.f("uq_release_image_is_part_of__release_image")
        ),
    )
    op.create_index(op.f("ix_release_image_image"), "release_image", ["image"], unique=False)
    op.create_table(
        "service_install",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("installs__service", sa.BigInteger(), nullable=False),
        sa.Column(
            "should_be_running", sa.Boolean(), server_default=sa.text("true"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["device"], ["device.id"], name=op.f("fk_service_install_device"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["installs__service"],
            ["service.id"],
            name=op.f("fk_service_install_installs__service"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_install")),
        sa.UniqueConstraint(
            "device", "installs__service", name=op.f("uq_service_install_device_installs__service")
        ),
    )
    op.create_index(
        op.f("ix_service_install_installs__service"),
        "service_install",
        ["installs__service"],
        unique=False,
    )
    # The two tables refer to each other: this one comes last.
    op.create_foreign_key(
        "fk_application_should_be_running__release",
        "application",
        "release",
        ["id", "should_be_running__release"],
        ["belongs_to__application", "id"],
        ondelete="SET NULL (should_be_running__release)",
    )
    op.execute(ANNOUNCE)


def downgrade() -> None:
    op.execute(FORGET)
    op.drop_constraint(
        "fk_application_should_be_running__release", "application", type_="foreignkey"
    )
    op.drop_index(op.f("ix_service_install_installs__service"), table_name="service_install")
    op.drop_table("service_install")
    op.drop_index(op.f("ix_release_image_image"), table_name="release_image")
    op.drop_table("release_image")
    op.drop_index(op.f("ix_image_install_is_provided_by__release"), table_name="image_install")
    op.drop_index(op.f("ix_image_install_installs__image"), table_name="image_install")
    op.drop_table("image_install")
    op.drop_table("device_environment_variable")
    op.drop_index(op.f("ix_image_is_a_build_of__service"), table_name="image")
    op.drop_table("image")
    op.drop_index(op.f("ix_device_is_running__release"), table_name="device")
    op.drop_index(op.f("ix_device_is_pinned_on__release"), table_name="device")
    op.drop_index(
        "ix_device_heartbeat",
        table_name="device",
        postgresql_where=sa.text("api_heartbeat_state in ('online', 'timeout')"),
    )
    op.drop_index(op.f("ix_device_belongs_to__user"), table_name="device")
    op.drop_index(op.f("ix_device_belongs_to__application"), table_name="device")
    op.drop_table("device")
    op.drop_table("service")
    op.drop_index(
        "uq_release_success_commit",
        table_name="release",
        postgresql_where=sa.text("status = 'success'"),
    )
    op.drop_index(
        "uq_release_revision",
        table_name="release",
        postgresql_where=sa.text("revision is not null"),
    )
    op.drop_table("release")
    op.drop_table("application_environment_variable")
    op.drop_table("user__has__public_key")
    op.drop_index(op.f("ix_application_should_be_running__release"), table_name="application")
    op.drop_table("application")
    op.drop_table("user")
    op.drop_table("device_type")
    op.drop_index(op.f("ix_api_key_is_of__actor"), table_name="api_key")
    op.drop_table("api_key")
    op.drop_table("login_attempt")
    op.drop_table("cpu_architecture")
    op.drop_table("actor")
