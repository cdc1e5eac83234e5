"""Variables of fleets, services and devices."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key

# Regular expressions that mean the same to Python and PostgreSQL.
VARIABLE_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
RESERVED_NAME_PATTERN = "^(RESIN|BALENA)(_|$)"
CONFIGURATION_NAME_PATTERN = "^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$"
MAX_VARIABLE_NAME = 255
MAX_VALUE_BYTES = 100_000


class Variable:
    """A name and its value."""

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    name: Mapped[str]
    value: Mapped[str]


class ApplicationVariable(Variable, Base):
    """A variable of all devices of a fleet: any other of the same name goes before it."""

    __tablename__ = "application_environment_variable"

    application: Mapped[int] = mapped_column(ForeignKey("application.id", ondelete="CASCADE"))


class ServiceVariable(Variable, Base):
    """A variable of one service of a fleet, on all devices: goes before the fleet's."""

    __tablename__ = "service_environment_variable"

    service: Mapped[int] = mapped_column(ForeignKey("service.id", ondelete="CASCADE"))


class DeviceVariable(Variable, Base):
    """A variable of all services of one device: goes before the service's and the fleet's."""

    __tablename__ = "device_environment_variable"

    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))


class DeviceServiceVariable(Variable, Base):
    """A variable of one service on one device: goes before all others."""

    __tablename__ = "device_service_environment_variable"

    service_install: Mapped[int] = mapped_column(
        ForeignKey("service_install.id", ondelete="CASCADE")
    )
