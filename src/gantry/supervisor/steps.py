"""What the planner may ask for. Steps are data: the executor alone touches the engine.

A step's `lane` says what it belongs to. Steps of one lane are carried out in order, and end with
the first that fails; lanes do not wait for each other, so one service cannot block another.
"""

from dataclasses import dataclass

from gantry.supervisor.desired import DesiredNetwork, DesiredService, DesiredVolume
from gantry.supervisor.state import Container, EngineNetwork


@dataclass(frozen=True, slots=True)
class FetchImage:
    """Download an image; it goes on beside other steps."""

    reference: str
    app_id: int
    service: str
    service_id: int

    @property
    def lane(self) -> str:
        return f"image {self.reference}"


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    network: DesiredNetwork

    @property
    def lane(self) -> str:
        return f"network {self.network.name}"


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    network: EngineNetwork

    @property
    def lane(self) -> str:
        return f"network {self.network.name}"


@dataclass(frozen=True, slots=True)
class CreateVolume:
    volume: DesiredVolume

    @property
    def lane(self) -> str:
        return f"volume {self.volume.name}"


@dataclass(frozen=True, slots=True)
class RemoveVolume:
    """Remove a volume with all that is in it: of a purge, or of local mode."""

    name: str

    @property
    def lane(self) -> str:
        return f"volume {self.name}"


@dataclass(frozen=True, slots=True)
class CreateContainer:
    service: DesiredService

    @property
    def lane(self) -> str:
        return f"service {self.service.app_id} {self.service.service}"


@dataclass(frozen=True, slots=True)
class StartContainer:
    service: DesiredService

    @property
    def lane(self) -> str:
        return f"service {self.service.app_id} {self.service.service}"


@dataclass(frozen=True, slots=True)
class ReviveContainer:
    """Start a container of an older release, which an update that is no longer wanted stopped."""

    container: Container

    @property
    def lane(self) -> str:
        return f"service {self.container.app_id} {self.container.service}"


@dataclass(frozen=True, slots=True)
class RenameContainer:
    """Only the release changed: the container runs on under the new release's name."""

    container: Container
    service: DesiredService

    @property
    def lane(self) -> str:
        return f"service {self.service.app_id} {self.service.service}"


@dataclass(frozen=True, slots=True)
class StopContainer:
    container: Container

    @property
    def lane(self) -> str:
        return f"service {self.container.app_id} {self.container.service}"


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    container: Container

    @property
    def lane(self) -> str:
        return f"service {self.container.app_id} {self.container.service}"


@dataclass(frozen=True, slots=True)
class RemoveImage:
    """Take away one name of an image; with its last name the image goes."""

    reference: str

    @property
    def lane(self) -> str:
        return f"image {self.reference}"


@dataclass(frozen=True, slots=True)
class RestartHost:
    """Restart the host, so that these containers, which were made in this boot, may start."""

    containers: tuple[Container, ...]

    @property
    def lane(self) -> str:
        return "host"


Step = (
    FetchImage
    | CreateNetwork
    | RemoveNetwork
    | CreateVolume
    | RemoveVolume
    | CreateContainer
    | StartContainer
    | ReviveContainer
    | RenameContainer
    | StopContainer
    | RemoveContainer
    | RemoveImage
    | RestartHost
)
