"""A device that is part of its fleet: all loops, and what they tell each other."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import VERSION, device, wire
from gantry.supervisor.cloud import Cloud, TargetAnswer
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.device import Memory
from gantry.supervisor.engine import Credentials, Engine, EngineInfo
from gantry.supervisor.execute import Executor
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.journal import Journal
from gantry.supervisor.logfollow import LogFollowers
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.metrics import Metrics, addresses
from gantry.supervisor.observe import registry_of
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.poll import Poller, poll_interval
from gantry.supervisor.reconcile import Reconciler
from gantry.supervisor.report import Reporter
from gantry.supervisor.settings import Settings
from gantry.supervisor.state import CurrentState
from gantry.supervisor.status import device_state, overall, report_apps, settled_commits
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetState, read_target
from gantry.supervisor.web import same_key

_LOG = logging.getLogger(__name__)

_ADDRESSES_FOR = 30.0  # seconds for which addresses are believed
_STUCK_AFTER = 1800.0  # seconds that one round of steps may take at least


@dataclass(frozen=True, slots=True)
class Parts:
    """What a managed device is made of."""

    settings: Settings
    config: DeviceConfig
    store: Store
    engine: Engine
    info: EngineInfo
    memory: Memory
    cloud: Cloud
    shipper: LogShipper
    journal: Journal
    offline: OfflineReleases


class Managed:
    """The loops of a provisioned device. `open` comes first, then `loops` are run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._memory = parts.memory
        self._target: TargetState | None = None
        self._desired = DesiredState()
        self._running: dict[int, str] = {}
        self._registries: set[str] = set()
        self._addresses = ("", "")
        self._addresses_at = -_ADDRESSES_FOR
        self._chores: set[asyncio.Task[None]] = set()
        self._paused = False
        self._metrics = Metrics(parts.settings.data_directory)

    async def open(self) -> None:
        """Take up what was left at the last end: the target is followed before the api answers."""
        parts = self._parts
        store = parts.store
        self._fetcher = Fetcher(parts.engine, self._credentials, parts.journal, self._fetched)
        positions = await store.log_positions()
        self._followers = LogFollowers(
            parts.engine, parts.shipper.add, positions, self._memory.begun_at_ns
        )
        self._reporter = Reporter(parts.cloud, self._state, self._metrics.read)
        self._executor = Executor(
            parts.engine, parts.journal, self._followers.drain, self._reporter.changed
        )
        self._reconciler = Reconciler(
            parts.engine,
            parts.settings.instance,
            self._executor,
            self._fetcher,
            self._observed,
            lambda: parts.offline.removable(self._registries),
        )
        running = await store.get("running")
        self._running = {int(app): str(commit) for app, commit in (running or {}).items()}
        self._registries = set(await store.get("registries") or ())
        if parts.config.registry_endpoint:
            self._registries.add(parts.config.registry_endpoint)
        self._poller = Poller(
            parts.cloud, self._interval, self._received, self._online, await self._last_target()
        )

    async def _last_target(self) -> str | None:
        """Aim at the last target; its ETag."""
        document = await self._parts.store.get("target")
        etag = await self._parts.store.get("target_etag")
        if document is None:
            return None
        try:
            uuid = str(self._parts.config.uuid)
            self._aim(read_target(await self._parts.offline.over(document, uuid), uuid))
            await self._parts.offline.settle(document, uuid)
        except wire.WireError as error:
            _LOG.warning("the stored target is not used: %s", error)
            return None
        return etag if isinstance(etag, str) else None

    @property
    def config(self) -> DeviceConfig:
        """See bundles.Holder."""
        return self._parts.config

    @property
    def info(self) -> EngineInfo:
        """See bundles.Holder."""
        return self._parts.info

    async def follow_offline(self) -> None:
        """See bundles.Holder."""
        uuid = str(self._parts.config.uuid)
        document = await self._parts.store.get("target") or {uuid: {}}
        self._aim(read_target(await self._parts.offline.over(document, uuid), uuid))
        await self._parts.store.put("registries", sorted(self._registries))

    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What has to be run for as long as the supervisor lives, by name."""
        return {
            "reconcile": self._reconciler.run,
            "engine events": self._reconciler.follow_events,
            "poll": self._poller.run,
            "announcements": self._poller.listen,
            "report": self._reporter.run,
            "logs": lambda: self._parts.shipper.run(self._parts.cloud),
        }

    async def pause(self) -> None:
        """Read no more logs and begin no more downloads."""
        self._paused = True
        await self._followers.close()
        await self._fetcher.close()

    async def close(self) -> None:
        """Close what `open` opened."""
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._parts.cloud.close()

    def followed(self) -> frozenset[str]:
        """Ids of the containers whose log is followed."""
        return self._followers.containers()

    async def _received(self, answer: TargetAnswer) -> bool:
        """Take a new target; False when it cannot be used."""
        parts = self._parts
        try:
            uuid = str(parts.config.uuid)
            target = read_target(await parts.offline.over(answer.document, uuid), uuid)
        except wire.WireError as error:
            parts.journal.write(f"Target state not used: {error}", is_error=True)
            return False
        if not self._memory.name_at_init and target.name:
            self._memory = Memory(
                self._memory.supervisor_key, self._memory.begun_at_ns, target.name
            )
            await parts.store.put("name_at_init", target.name)
        self._aim(target)
        await parts.store.put("target", answer.document)
        await parts.offline.settle(answer.document, str(parts.config.uuid))
        await parts.store.put("target_etag", answer.etag)
        await parts.store.put("registries", sorted(self._registries))
        return True

    def _aim(self, target: TargetState) -> None:
        parts = self._parts
        known = device.facts(parts.settings, parts.config, parts.info, self._memory, target.name)
        desired = desired_state(target, known)
        for rejection in desired.rejections:
            parts.journal.write(
                f"Release {rejection.commit} cannot be run: {rejection.reason}", is_error=True
            )
        for app in desired.apps:
            self._registries |= {registry_of(each.image) for each in app.services}
        self._target = target
        if desired != self._desired:
            self._desired = desired
            self._reconciler.aim(desired)
        elif self._reconciler.idle:
            self._reconciler.aim(desired)
        self._reporter.changed()

    def _observed(self, current: CurrentState) -> None:
        if self._paused:
            return
        self._followers.sync(current.containers)
        settled = settled_commits(current, self._desired) if self._target else {}
        running = self._running | settled
        if running != self._running:
            self._running = running
            self._chore(self._parts.store.put("running", {str(k): v for k, v in running.items()}))
        self._reporter.changed()

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _fetched(self, ended: bool) -> None:
        self._reporter.changed()
        if ended:
            self._reconciler.wake()

    def _online(self) -> None:
        """The api answers again: whoever waits for it need not."""
        self._parts.shipper.hurry()
        self._reporter.hurry()
        self._fetcher.hurry()
        self._reconciler.wake()

    def _interval(self) -> float:
        """Seconds between polls: the device's variable, else config.json."""
        variables = self._target.config if self._target else {}
        return poll_interval(variables, self._parts.config.poll_seconds)

    def _credentials(self, reference: str) -> Credentials | None:
        """The device's own key, for its fleet's registry and no other."""
        config = self._parts.config
        registry = registry_of(reference)
        # Without registryEndpoint, the fleet's registry is the one beside its api.
        domain = (config.api_endpoint or "").partition("://")[2].partition(".")[2]
        if registry not in (config.registry_endpoint, f"registry.{domain}"):
            return None
        return Credentials(f"d_{config.uuid}", config.device_key or "", registry)

    def _apps(self) -> dict[str, Any]:
        return report_apps(
            self._reconciler.current,
            self._desired,
            self._fetcher.progress(),
            self._executor.doing,
            self._running,
        )

    def _state(self) -> dict[str, Any]:
        """The device's whole state, as it is reported."""
        now = time.monotonic()
        if now - self._addresses_at > _ADDRESSES_FOR:
            self._addresses = addresses()
            self._addresses_at = now
        apps = self._apps() if self._target and self._reconciler.looked else {}
        return device_state(apps, self._parts.info.operating_system, self._addresses)

    def accepts_key(self, key: str) -> bool:
        """The key that containers with the feature get."""
        return same_key(key, self._memory.supervisor_key)

    def complaints(self) -> list[str]:
        """Loops that do not turn. That the api cannot be reached is no fault of the supervisor."""
        now = time.monotonic()
        interval = self._interval()
        found = []
        busy = self._reconciler.busy_since
        if busy is not None and now - busy > max(2 * interval, _STUCK_AFTER):
            found.append(f"the reconcile loop has been at one round for {now - busy:.0f} s")
        silence = now - self._poller.last_attempt
        if silence > 2 * interval + 120.0:
            found.append(f"the poll loop has not polled for {silence:.0f} s")
        return found

    def device(self) -> dict[str, Any]:
        """The body of `GET /v1/device`."""
        apps = self._apps() if self._target else {}
        status, progress = overall(apps)
        ip_address, mac_address = addresses()
        releases = [one for app in apps.values() for one in app["releases"].values()]
        update = {str(one["update_status"]) for one in releases}
        commits = list(self._running.values())
        return {
            "api_port": self._parts.settings.listen_port or self._parts.config.listen_port,
            "ip_address": ip_address,
            "mac_address": mac_address,
            "commit": commits[0] if commits else None,
            "status": status,
            "download_progress": progress,
            "os_version": self._parts.info.operating_system,
            "supervisor_version": VERSION,
            "update_pending": bool(update - {"done", "rejected"}),
            "update_downloaded": bool(update & {"downloaded", "applying changes"}),
            "update_failed": "rejected" in update,
        }

    def update(self, _force: bool) -> None:
        """Ask for the target, and look at the engine, now."""
        self._poller.ask_now()
        self._reconciler.wake()
