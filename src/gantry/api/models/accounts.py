"""Who acts: people, their keys, and the counter of failed logins."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Text, UniqueConstraint, false, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base, CreatedAt, Key

USERNAME_PATTERN = "^[a-z][a-z0-9_-]{1,30}$"


class KeyRole(StrEnum):
    """What an API key stands for."""

    USER = "user"
    DEVICE = "device"
    PROVISIONING = "provisioning"


class Actor(Base):
    """Someone who acts: a user, a device or an application (by its provisioning keys)."""

    __tablename__ = "actor"

    id: Mapped[Key]


class User(Base):
    """An account of the platform, and a login name of the fleet's git server."""

    __tablename__ = "user"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    actor: Mapped[int] = mapped_column(ForeignKey("actor.id"), unique=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    password_hash: Mapped[str]
    is_administrator: Mapped[bool] = mapped_column(server_default=false())
    # Part of every session token: a new password makes a new one, and old sessions end.
    session_epoch: Mapped[int] = mapped_column(server_default=text("1"))


class PublicKey(Base):
    """An SSH key that opens the git server under its user's name."""

    __tablename__ = "user__has__public_key"
    __table_args__ = (UniqueConstraint("user", "fingerprint"),)

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    user: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    title: Mapped[str]
    public_key: Mapped[str]
    fingerprint: Mapped[str]


class ApiKey(Base):
    """A key for programs and devices: only its SHA-256 is kept."""

    __tablename__ = "api_key"

    id: Mapped[Key]
    created_at: Mapped[CreatedAt]
    key_hash: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    is_of__actor: Mapped[int] = mapped_column(
        ForeignKey("actor.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str | None]
    description: Mapped[str | None]
    expiry_date: Mapped[datetime | None]


class SecondFactor(Base):
    """What the codes of an account's authenticator are made of (RFC 6238), and what replaces it.

    Until a first code has shown that the authenticator has the secret, the factor is not asked
    for: `enabled_at` is null.
    """

    __tablename__ = "second_factor"

    user: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[CreatedAt]
    # Encrypted under the fleet's data key: docs/decisions/0016-the-second-factor.md.
    sealed_secret: Mapped[str]
    enabled_at: Mapped[datetime | None]
    # The time step of the last code that was taken: it and those before it are taken no more.
    last_step: Mapped[int] = mapped_column(server_default=text("0"))
    recovery_hashes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))


class LoginAttempt(Base):
    """Failed logins of one name from one address, counted over replicas."""

    __tablename__ = "login_attempt"

    username: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True, index=True)
    failures: Mapped[int]
    last_failure_at: Mapped[datetime]
    # Whoever has logged in from here before is let try while strangers are kept out.
    last_success_at: Mapped[datetime | None]
