"""What devices have of their fleets, and what they hold for others."""

from sqlalchemy import ForeignKey, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key


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


class GatewayDownload(Base):
    """An image that a device downloads for others that it is the gateway of."""

    __tablename__ = "gateway_download"
    __table_args__ = (UniqueConstraint("image", "is_downloaded_by__device"),)

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    image: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"))
    is_downloaded_by__device: Mapped[int] = mapped_column(
        ForeignKey("device.id", ondelete="CASCADE"), index=True
    )
    status: Mapped[str]
    download_progress: Mapped[int | None]
