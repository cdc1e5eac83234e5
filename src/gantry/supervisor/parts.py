"""What a managed device is made of."""

from dataclasses import dataclass

from gantry.supervisor.cloud import Cloud
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.device import Memory
from gantry.supervisor.engine import Engine, EngineInfo
from gantry.supervisor.journal import Journal
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """What is there before the device is managed, and whom it is managed by."""

    settings: Settings
    config: DeviceConfig
    store: Store
    engine: Engine
    info: EngineInfo
    memory: Memory
    cloud: Cloud
    shipper: LogShipper
    journal: Journal
    logs: LogRouter
    offline: OfflineReleases
