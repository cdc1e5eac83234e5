"""All of the host that lives as long as the supervisor, put together."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gantry.supervisor.cloud import POLL_TIMEOUT, Cloud
from gantry.supervisor.config import ConfigFile, DeviceConfig
from gantry.supervisor.facts import Facts
from gantry.supervisor.host.boot import BootPartition
from gantry.supervisor.host.connectivity import Connectivity
from gantry.supervisor.host.device import DeviceHost, Hold
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.side import HostSide
from gantry.supervisor.host.undervoltage import Undervoltage, find_alarm
from gantry.supervisor.host.variables import Variables
from gantry.supervisor.journal import Journal
from gantry.supervisor.local import VARIANTS
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.metrics import Metrics
from gantry.supervisor.poll import Poller
from gantry.supervisor.report import Reporter
from gantry.supervisor.settings import Settings


class Hosting:
    """The host, and what its variables set in the supervisor. For the running event loop.

    `host` is the doorway for the HTTP API. `hold` has the update locks of all applications;
    `changed` hears that there is something to report.
    """

    def __init__(
        self,
        settings: Settings,
        config: DeviceConfig,
        store: Facts,
        journal: Journal,
        hold: Hold,
        changed: Callable[[], None],
    ) -> None:
        file = ConfigFile(settings.config_path)
        self.host = DeviceHost(Door(settings.host_door), file, hold)
        self._config = config
        self._side = HostSide(
            self.host,
            BootPartition(file),
            store,
            journal,
            hold,
            changed,
            config.device_type,
            settings.variant in VARIANTS,
        )
        self._undervoltage = Undervoltage(changed)
        self._connectivity: Connectivity | None = None

    @property
    def variables(self) -> Variables:
        """What the device's configuration variables say."""
        return self._side.variables

    def open(self, poller: Poller) -> None:
        """Begin to look after the board and the network."""
        self._undervoltage.open(find_alarm())
        self._connectivity = Connectivity(
            str(self._config.api_endpoint),
            self.host,
            poller.away,
            lambda: self.variables.connectivity_check,
            poller.ask_now,
        )

    def close(self) -> None:
        """End what `open` began."""
        self._undervoltage.close()

    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What has to be run, by name; after `open`."""
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"host": self._side.run}
        if self._connectivity is not None:
            loops["connectivity"] = self._connectivity.run
        return loops

    def follow(
        self,
        config: Mapping[str, str],
        poller: Poller,
        cloud: Cloud,
        metrics: Metrics,
        reporter: Reporter,
        shipper: LogShipper,
    ) -> None:
        """Follow a target's variables, here and on the host."""
        self._side.follow(config)
        found = self.variables
        poller.instant = found.instant_updates
        cloud.request_seconds = found.request_seconds or POLL_TIMEOUT
        if metrics.enabled != found.hardware_metrics:
            metrics.enabled = found.hardware_metrics
            reporter.measure()
        shipper.enabled = found.logs

    def report(self) -> dict[str, Any]:
        """What of it is part of the device's report."""
        detected = self._undervoltage.detected
        told = {} if detected is None else {"is_undervolted": detected}
        return {**self._side.report(), **told}
