"""Who a request comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserActor:
    """A person, by a session or by an API key of theirs."""

    actor_id: int
    user_id: int
    username: str
    email: str | None
    is_administrator: bool
    # By a key: it must not make itself, or another, hold longer.
    by_key: bool = False


@dataclass(frozen=True, slots=True)
class DeviceActor:
    """A device, by its own key."""

    actor_id: int
    device_id: int
    uuid: str
    application_id: int


@dataclass(frozen=True, slots=True)
class ProvisioningActor:
    """Whoever holds a key that registers devices in one application."""

    actor_id: int
    application_id: int


@dataclass(frozen=True, slots=True)
class ServiceActor:
    """One of the fleet's own services."""

    name: str


Actor = UserActor | DeviceActor | ProvisioningActor
