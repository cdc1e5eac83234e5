"""What the HTTP API may ask of a provisioned device."""

from collections.abc import Iterable
from typing import Any, Protocol

from gantry.supervisor.actions import Actions
from gantry.supervisor.engine import Engine
from gantry.supervisor.exposition import Sample
from gantry.supervisor.host import Host
from gantry.supervisor.keys import Scope
from gantry.supervisor.local_service import LocalService
from gantry.supervisor.locks import Locks
from gantry.supervisor.pulse import Pulse
from gantry.supervisor.tags import Tags
from gantry.supervisor.views import Picture


class Services(Protocol):
    """Made by `managed.Managed`."""

    actions: Actions
    engine: Engine
    locks: Locks
    pulse: Pulse
    tags: Tags

    @property
    def host(self) -> Host:
        """The doorway to the host."""

    @property
    def name(self) -> str:
        """The device's name, as it was last heard."""

    def device(self) -> dict[str, Any]:
        """The body of `GET /v1/device`."""

    def picture(self) -> Picture:
        """What is known of the device's applications now."""

    async def samples(self, scope: Scope) -> Iterable[Sample]:
        """The device's figures, of as much as this scope may see."""

    def succession(self) -> dict[str, Any]:
        """Which supervisor is to take this one's place, and how far that is."""

    def local(self) -> LocalService:
        """Local mode."""
