"""Variables of fleets and devices, tags, and what devices have installed."""

from sqlalchemy import ForeignKey, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key

# Regular expressions that mean the same to Python and PostgreSQL.
VARIABLE_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
RESERVED_NAME_PATTERN = "^(RESIN|BALENA)(_|$)"
CONFIGURATION_NAME_PATTERN = "^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$"
MAX_VARIABLE_NAME = 255
MAX_VALUE_BYTES = 100_000


class ApplicationVariable(Base):
    """A variable of all devices of a fleet."""

    __tablename__ = "application_environment_variable"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    application: Mapped[int] = mapped_column(ForeignKey("application.id", ondelete="CASCADE"))
    name: Mapped[str]
    value: Mapped[str]


class DeviceVariable(Base):
    """A variable of one device: goes before its fleet's of the same name."""

    __tablename__ = "device_environment_variable"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    name: Mapped[str]
    value: Mapped[str]


class DeviceTag(Base):
    """What a user notes of a device, for programs and people; devices are not told."""

    __tablename__ = "device_tag"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    tag_key: Mapped[str]
    value: Mapped[str]


class ServiceInstall(Base):
    """That a device has a service of its fleet."""

    __tablename__ = "service_install"
    __table_args__ = (UniqueConstraint("device", "installs__service"),)

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    installs__service: Mapped[int] = mapped_column(
        ForeignKey("service.id", ondelete="CASCADE"), index=True
    )
    should_be_running: Mapped[bool] = mapped_column(server_default=true())


class ImageInstall(Base):
    """An image on a device, as the device last reported it."""

    __tablename__ = "image_install"
    __table_args__ = (UniqueConstraint("device", "installs__image"),)

    id: Mapped[Key]
    install_date: Mapped[CreatedAt]
    modified_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    installs__image: Mapped[int] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    is_provided_by__release: Mapped[int] = mapped_column(
        ForeignKey("release.id", ondelete="CASCADE"), index=True
    )
    status: Mapped[str]
    download_progress: Mapped[int | None]
