"""Fleets and their devices."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    false,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, JsonObject, Key

UUID_PATTERN = "^[0-9a-f]{32}([0-9a-f]{30})?$"
# Ports and ranges of them, such as `80,8000-8010,22222`; nothing for none.
PORTS_PATTERN = "^([0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*)?$"
APP_NAME_PATTERN = "^[A-Za-z][A-Za-z0-9_-]{3,99}$"


class HeartbeatState(StrEnum):
    """What the api knows of a device's connection, under the family's names."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    TIMEOUT = "timeout"
    OFFLINE = "offline"


class CpuArchitecture(Base):
    """A CPU architecture that images are built for."""

    __tablename__ = "cpu_architecture"

    id: Mapped[Key]
    slug: Mapped[str] = mapped_column(unique=True)


class DeviceType(Base):
    """A kind of board."""

    __tablename__ = "device_type"

    id: Mapped[Key]
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    is_of__cpu_architecture: Mapped[int] = mapped_column(ForeignKey("cpu_architecture.id"))
    is_private: Mapped[bool] = mapped_column(server_default=false())
    logo: Mapped[str | None]
    contract: Mapped[JsonObject | None]


class DeviceTypeAlias(Base):
    """A name that clients may use for a device type; its slug is one."""

    __tablename__ = "device_type_alias"

    id: Mapped[Key]
    is_referenced_by__alias: Mapped[str] = mapped_column(unique=True)
    references__device_type: Mapped[int] = mapped_column(
        ForeignKey("device_type.id", ondelete="CASCADE"), index=True
    )


class ApplicationType(Base):
    """What an application may have; here all may have all."""

    __tablename__ = "application_type"

    id: Mapped[Key]
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str | None]
    supports_multicontainer: Mapped[bool] = mapped_column(server_default=true())
    supports_web_url: Mapped[bool] = mapped_column(server_default=false())
    is_legacy: Mapped[bool] = mapped_column(server_default=false())
    requires_payment: Mapped[bool] = mapped_column(server_default=false())
    needs__os_version_range: Mapped[str | None]
    maximum_device_count: Mapped[int | None]


class Application(Base):
    """A fleet: devices of one type that run the same release."""

    __tablename__ = "application"
    __table_args__ = (
        # A target is a release of this very application. The rule says so first, and better.
        ForeignKeyConstraint(
            ["id", "should_be_running__release"],
            ["release.belongs_to__application", "release.id"],
            name="fk_application_should_be_running__release",
            ondelete="SET NULL (should_be_running__release)",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    actor: Mapped[int] = mapped_column(ForeignKey("actor.id"), unique=True)
    organization: Mapped[int] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    application_type: Mapped[int] = mapped_column(ForeignKey("application_type.id"))
    # Who made it; what one may do with it comes with the organization.
    belongs_to__user: Mapped[int | None] = mapped_column(
        ForeignKey("user.id", ondelete="SET NULL"), index=True
    )
    app_name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    uuid: Mapped[str] = mapped_column(unique=True)
    is_for__device_type: Mapped[int] = mapped_column(ForeignKey("device_type.id"))
    is_of__class: Mapped[str] = mapped_column(server_default="fleet")
    is_host: Mapped[bool] = mapped_column(server_default=false())
    # Whether everybody may read it, its releases and their images' names.
    is_public: Mapped[bool] = mapped_column(server_default=false())
    is_archived: Mapped[bool] = mapped_column(server_default=false())
    is_discoverable: Mapped[bool] = mapped_column(server_default=false())
    is_stored_at__repository_url: Mapped[str | None]
    is_accessible_by_support_until__date: Mapped[datetime | None]
    should_track_latest_release: Mapped[bool] = mapped_column(server_default=true())
    should_be_running__release: Mapped[int | None] = mapped_column(index=True)
    # Which ports of its devices members reach who are no administrators; null: all.
    reachable_ports: Mapped[str | None]


class Device(Base):
    """A device of a fleet, what it should run, and what it last said of itself."""

    __tablename__ = "device"
    __table_args__ = (
        # A pin is a release of the device's own fleet. The rule says so first, and better.
        ForeignKeyConstraint(
            ["belongs_to__application", "is_pinned_on__release"],
            ["release.belongs_to__application", "release.id"],
            name="fk_device_is_pinned_on__release",
            ondelete="SET NULL (is_pinned_on__release)",
            deferrable=True,
            initially="DEFERRED",
        ),
        # The sweep looks for those whose time is over among those that are not offline yet.
        Index(
            "ix_device_heartbeat",
            "heartbeat_expires_at",
            postgresql_where=text("api_heartbeat_state in ('online', 'timeout')"),
        ),
        Index(
            "ix_device_vpn_server",
            "vpn_server",
            postgresql_where=text("is_connected_to_vpn"),
        ),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[CreatedAt]
    actor: Mapped[int] = mapped_column(ForeignKey("actor.id"), unique=True)
    uuid: Mapped[str] = mapped_column(unique=True)
    device_name: Mapped[str]
    note: Mapped[str | None]
    belongs_to__user: Mapped[int | None] = mapped_column(
        ForeignKey("user.id", ondelete="SET NULL"), index=True
    )
    belongs_to__application: Mapped[int] = mapped_column(
        ForeignKey("application.id", ondelete="CASCADE"), index=True
    )
    is_of__device_type: Mapped[int] = mapped_column(ForeignKey("device_type.id"))
    is_pinned_on__release: Mapped[int | None] = mapped_column(index=True)
    is_running__release: Mapped[int | None] = mapped_column(
        ForeignKey("release.id", ondelete="SET NULL"), index=True
    )
    is_active: Mapped[bool] = mapped_column(server_default=true())
    # The supervisor that it should have, and the host OS.
    should_be_managed_by__release: Mapped[int | None] = mapped_column(
        ForeignKey("release.id", ondelete="SET NULL"), index=True
    )
    should_be_operated_by__release: Mapped[int | None] = mapped_column(
        ForeignKey("release.id", ondelete="SET NULL"), index=True
    )
    is_web_accessible: Mapped[bool] = mapped_column(server_default=false())
    # As the application's, before which it goes; null: as that says.
    reachable_ports: Mapped[str | None]
    is_accessible_by_support_until__date: Mapped[datetime | None]
    is_locked_until__date: Mapped[datetime | None]
    # Where people say that it is: goes before what it says itself. Texts, as the family has them.
    custom_latitude: Mapped[str | None]
    custom_longitude: Mapped[str | None]

    # The connection. A stream's lease is renewed by the process that serves it.
    is_online: Mapped[bool] = mapped_column(server_default=false())
    api_heartbeat_state: Mapped[str] = mapped_column(server_default="unknown")
    last_connectivity_event: Mapped[datetime | None]
    heartbeat_expires_at: Mapped[datetime | None]
    event_stream: Mapped[str | None]
    event_stream_expires_at: Mapped[datetime | None]
    is_connected_to_vpn: Mapped[bool] = mapped_column(server_default=false())
    last_vpn_event: Mapped[datetime | None]
    # Given at its first login, and kept: an IPv4 address of the fleet's VPN.
    vpn_address: Mapped[str | None] = mapped_column(unique=True)
    # The server that has it or had it last, the connection (`<boot>/<session>`), and since when by
    # that server's clock. `services.vpn` says what they mean.
    vpn_server: Mapped[str | None]
    vpn_session: Mapped[str | None]
    vpn_session_at: Mapped[datetime | None]
    # What its supervisor asks for, encrypted under the fleet's data key.
    api_secret: Mapped[str | None]

    # What the device says of itself.
    status: Mapped[str | None]
    update_status: Mapped[str | None]
    os_version: Mapped[str | None]
    os_variant: Mapped[str | None]
    supervisor_version: Mapped[str | None]
    ip_address: Mapped[str | None]
    public_address: Mapped[str | None]
    mac_address: Mapped[str | None]
    provisioning_progress: Mapped[int | None]
    provisioning_state: Mapped[str | None]
    download_progress: Mapped[int | None]
    cpu_usage: Mapped[int | None]
    cpu_temp: Mapped[int | None]
    cpu_id: Mapped[str | None]
    is_undervolted: Mapped[bool | None]
    memory_usage: Mapped[int | None]
    memory_total: Mapped[int | None]
    storage_block_device: Mapped[str | None]
    storage_usage: Mapped[int | None]
    storage_total: Mapped[int | None]
    latitude: Mapped[float | None] = mapped_column(Float)
    longitude: Mapped[float | None] = mapped_column(Float)
    location: Mapped[str | None]
    local_id: Mapped[str | None]
