"""What users note of fleets, releases and devices; devices are not told."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key


class Tag:
    """A key and a value, for programs and people."""

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    tag_key: Mapped[str]
    value: Mapped[str]


class ApplicationTag(Tag, Base):
    """A tag of a fleet."""

    __tablename__ = "application_tag"

    application: Mapped[int] = mapped_column(ForeignKey("application.id", ondelete="CASCADE"))


class DeviceTag(Tag, Base):
    """A tag of a device."""

    __tablename__ = "device_tag"

    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))


class ReleaseTag(Tag, Base):
    """A tag of a release."""

    __tablename__ = "release_tag"

    release: Mapped[int] = mapped_column(ForeignKey("release.id", ondelete="CASCADE"))
