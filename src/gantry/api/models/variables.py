"""Variables of fleets and devices, tags, and what devices have installed."""

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key

NAME_CHECK = "name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255"
# Must stay as `services.variables` has it, which says the same in sentences.
RESERVED_CHECK = (
    "name !~ '^(RESIN|BALENA)(_|$)'"
    " or name ~ '^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$'"
)


class ApplicationVariable(Base):
    """A variable of all devices of a fleet."""

    __tablename__ = "application_environment_variable"
    __table_args__ = (
        UniqueConstraint("application", "name"),
        CheckConstraint(NAME_CHECK, name="name"),
        CheckConstraint(RESERVED_CHECK, name="reserved"),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    application: Mapped[int] = mapped_column(ForeignKey("application.id", ondelete="CASCADE"))
    name: Mapped[str]
    value: Mapped[str]


class DeviceVariable(Base):
    """A variable of one device: goes before its fleet's of the same name."""

    __tablename__ = "device_environment_variable"
    __table_args__ = (
        UniqueConstraint("device", "name"),
        CheckConstraint(NAME_CHECK, name="name"),
        CheckConstraint(RESERVED_CHECK, name="reserved"),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    name: Mapped[str]
    value: Mapped[str]


class DeviceTag(Base):
    """What a user notes of a device, for programs and people; devices are not told."""

    __tablename__ = "device_tag"
    __table_args__ = (
        UniqueConstraint("device", "tag_key"),
        # Must stay as `services.tags` has it.
        CheckConstraint("tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100", name="tag_key"),
        CheckConstraint("length(value) <= 1000", name="value"),
    )

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
    __table_args__ = (
        UniqueConstraint("device", "installs__image"),
        CheckConstraint("download_progress between 0 and 100", name="download_progress"),
    )

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
