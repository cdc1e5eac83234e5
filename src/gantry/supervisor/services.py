"""What the HTTP API may ask of a provisioned device: one bundle of services."""

from typing import Any, Protocol

from gantry.supervisor.local_service import LocalService


class Services(Protocol):
    """Made by `managed.Managed`."""

    def device(self) -> dict[str, Any]:
        """The body of `GET /v1/device`."""

    def update(self, force: bool) -> None:
        """Ask for the target now."""

    def local(self) -> LocalService:
        """Local mode."""
