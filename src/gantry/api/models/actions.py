"""What people want done on a device, now or when it comes."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, JsonObject, Key


class ActionKind(StrEnum):
    """What a device can be asked to do."""

    RESTART = "restart"
    START_SERVICE = "start-service"
    STOP_SERVICE = "stop-service"
    RESTART_SERVICE = "restart-service"
    PURGE = "purge"
    REBOOT = "reboot"
    SHUTDOWN = "shutdown"
    UPDATE = "update"
    IDENTIFY = "identify"


class ActionStatus(StrEnum):
    """How far an action is. The first two go on, the others are its end."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class DeviceAction(Base):
    """One action on one device. It is kept until the device is there, or its time is over."""

    __tablename__ = "device_action"
    __table_args__ = (
        Index("ix_device_action_device", "device"),
        # Those that are forgotten after a while.
        Index("ix_device_action_ended_at", "ended_at"),
        # What is looked for again and again: the few that are not over.
        Index(
            "ix_device_action_open",
            "device",
            "id",
            postgresql_where=text("status in ('pending', 'running')"),
        ),
    )

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    device: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    # Who wants it; the note in the audit log stays when they are gone.
    user: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    action: Mapped[str]
    # `service`, `force`: those that the action takes.
    parameters: Mapped[JsonObject] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(server_default="pending")
    expires_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    # What the device answered: `status` of HTTP and `text`; or why there is no answer.
    result: Mapped[JsonObject | None]

    # The process that carries it out, until when it is believed to live, and whether the device
    # may have heard of it: then it is not asked a second time.
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    # Tries that did not reach the device, and when the next one is due.
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[CreatedAt]
