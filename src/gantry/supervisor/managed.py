"""A device that is part of its fleet: all loops, and what they tell each other."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from gantry.supervisor import VERSION, device, exposition, wire
from gantry.supervisor.actions import ActionError, Actions, Surroundings
from gantry.supervisor.clock import WallClock
from gantry.supervisor.cloud import Cloud, TargetAnswer
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.device import Memory
from gantry.supervisor.engine import Credentials, Engine, EngineInfo
from gantry.supervisor.exposition import Sample
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.host import Host
from gantry.supervisor.host.hosting import Hosting
from gantry.supervisor.journal import Journal
from gantry.supervisor.keys import Scope
from gantry.supervisor.local import LocalMode
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.local_service import LocalService
from gantry.supervisor.locks import is_overridden
from gantry.supervisor.logfollow import LogFollowers
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.metrics import Metrics, addresses
from gantry.supervisor.observe import registry_of
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.poll import Poller, poll_interval
from gantry.supervisor.pulse import Pulse
from gantry.supervisor.report import Reporter
from gantry.supervisor.rollback import Rollback
from gantry.supervisor.roomcheck import RoomCheck
from gantry.supervisor.settings import Settings
from gantry.supervisor.state import CurrentState
from gantry.supervisor.status import device_state, overall, settled_commits
from gantry.supervisor.store import Store
from gantry.supervisor.tags import Tags
from gantry.supervisor.target import TargetState, read_target
from gantry.supervisor.tls import ssl_context
from gantry.supervisor.views import Picture

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
    logs: LogRouter
    offline: OfflineReleases


class Managed:
    """The loops of a provisioned device. `open` comes first, then `loops` are run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._memory = parts.memory
        self._local = LocalMode(parts.store, parts.journal, parts.logs, parts.settings.variant)
        self._told: dict[str, Any] = {}
        self._target: TargetState | None = None
        self._desired = DesiredState()
        self._running: dict[int, str] = {}
        self._registries: set[str] = set()
        self._addresses = ("", "")
        self._addresses_at = -_ADDRESSES_FOR
        self._chores: set[asyncio.Task[None]] = set()
        self._paused = False
        # Who aims at a target has it in the store before another one reads what is there.
        self._taking = asyncio.Lock()
        self._metrics = Metrics(parts.settings.data_directory)
        self.engine = parts.engine
        self.pulse = Pulse()

    async def open(self) -> None:
        """Take up what was left at the last end: the target is followed before the api answers."""
        parts = self._parts
        store = parts.store
        room = RoomCheck(
            parts.engine,
            self._credentials,
            lambda: ssl_context(parts.config.root_ca),
            parts.settings.data_directory,
            parts.info.architecture,
        )
        self._fetcher = Fetcher(parts.engine, self._credentials, parts.journal, self._fetched, room)
        positions = await store.log_positions()
        self._followers = LogFollowers(
            parts.engine, parts.logs.add, positions, self._memory.begun_at_ns
        )
        self._followers.room = parts.shipper.room
        self._reporter = Reporter(parts.cloud, self._state, self._metrics.read)
        self._held = Holding(
            parts.settings,
            parts.engine,
            store,
            parts.journal,
            self._fetcher,
            Hearers(
                drain=self._followers.drain,
                changed=self._reporter.changed,
                observed=self._observed,
                registries=lambda: parts.offline.removable(self._registries),
            ),
        )
        await self._held.open()
        self.locks = self._held.locks
        self._reconciler = self._held.reconciler
        self._hosting = Hosting(
            parts.settings,
            parts.config,
            store,
            parts.journal,
            self._hold_all,
            self._reporter.changed,
        )
        self._reconciler.owned = self._local.owned
        await self._local.open()
        self._rollback = Rollback(
            store,
            parts.journal,
            self._aim_again,
            self._reconciler.wake,
            self._chore,
            self._desired_of,
        )
        await self._rollback.load()
        self._reconciler.heard = self._rollback.heard
        self._reconciler.kept_images = self._rollback.kept_images
        running = await store.get("running")
        self._running = {int(app): str(commit) for app, commit in (running or {}).items()}
        self._registries = set(await store.get("registries") or ())
        if parts.config.registry_endpoint:
            self._registries.add(parts.config.registry_endpoint)
        self._poller = Poller(
            parts.cloud, self._interval, self._received, self._online, await self._last_target()
        )
        self._hosting.open(self._poller)
        await self._offer()
        self._follow_variables()

    async def _offer(self) -> None:
        """Make what the HTTP API offers; see services.Services."""
        parts = self._parts
        self._reporter.heard = self.pulse.beat
        self.tags = Tags(parts.cloud, parts.store, self._interval)
        await self.tags.open()
        self._scraped = Metrics(parts.settings.data_directory)
        around = Surroundings(
            picture=self.picture,
            variables=lambda: self._target.config if self._target else {},
            interventions=self._held.interventions,
            update=self.update,
            rekey=self._rekey,
            returns=self._returns,
            engine=parts.engine,
            host=self.host,
            hold=self._hold_all,
            keys=self._memory.keys,
            journal=parts.journal,
            pulse=self.pulse,
            instance=parts.settings.instance,
        )
        self.actions = Actions(around)

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
        parts = self._parts
        uuid = str(parts.config.uuid)
        async with self._taking:
            document = await parts.store.get("target") or {uuid: {}}
            self._aim(read_target(await parts.offline.over(document, uuid), uuid))
            await parts.store.put("registries", sorted(self._registries))

    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What has to be run for as long as the supervisor lives, by name."""
        return {
            "reconcile": self._reconciler.run,
            "engine events": self._reconciler.follow_events,
            "rollback": self._rollback.run,
            "clock": self._watch_clock,
            "poll": self._poller.run,
            "announcements": self._poller.listen,
            "report": self._reporter.run,
            "tags": self.tags.run,
            "logs": lambda: self._parts.shipper.run(self._parts.cloud),
            **self._hosting.loops(),
        }

    async def pause(self) -> None:
        """Read no more logs and begin no more downloads."""
        self._paused = True
        await self._followers.close()
        await self._fetcher.close()

    async def close(self) -> None:
        """Close what `open` opened."""
        await self.actions.close()
        self._hosting.close()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._parts.cloud.close()

    def followed(self) -> frozenset[str]:
        """Ids of the containers whose log is followed."""
        return self._followers.containers()

    async def _received(self, answer: TargetAnswer) -> bool:
        """Take a new target; False when it cannot be used."""
        async with self._taking:
            return await self._take(answer)

    async def _take(self, answer: TargetAnswer) -> bool:
        parts = self._parts
        try:
            uuid = str(parts.config.uuid)
            target = read_target(await parts.offline.over(answer.document, uuid), uuid)
        except wire.WireError as error:
            parts.journal.write(f"Target state not used: {error}", is_error=True)
            return False
        if not self._memory.name_at_init and target.name:
            self._memory = replace(self._memory, name_at_init=target.name)
            await parts.store.put("name_at_init", target.name)
        self._aim(target)
        self._follow_variables()
        await parts.store.put("target", answer.document)
        await parts.offline.settle(answer.document, str(parts.config.uuid))
        await parts.store.put("target_etag", answer.etag)
        await parts.store.put("registries", sorted(self._registries))
        return True

    def _aim(self, target: TargetState) -> None:
        """Aim at what the fleet says or, in local mode, at what was given here."""
        parts = self._parts
        self._local.follow(target.config)
        if not self._local.active:
            self._chore(self._local.forget())
        # A release is on trial only while the device follows its fleet.
        goal = self._local.goal(self._rollback.aim(target))
        if self._memory.keys.provide(app.id for app in (*target.apps, *goal.apps)):
            self._chore(self._memory.keys.save())
        desired = self._desired_of(goal)
        for rejection in desired.rejections:
            parts.journal.write(
                f"Release {rejection.commit} cannot be run: {rejection.reason}", is_error=True
            )
        for app in desired.apps if not self._local.active else ():
            self._registries |= {registry_of(each.image) for each in app.services}
        self._target = target
        self.locks.override = is_overridden(target.config)
        if desired != self._desired:
            self._say(desired)
            self._desired = desired
            self._reconciler.aim(desired)
        elif self._reconciler.idle:
            self._reconciler.aim(desired)
        self._reporter.changed()

    def _say(self, desired: DesiredState) -> None:
        """What of a new release is left out."""
        before = {each for app in self._desired.apps for each in app.notices}
        for app in desired.apps:
            for notice in app.notices:
                if notice not in before:
                    self._parts.journal.write(f"Release {app.commit}: {notice}", is_error=True)

    def _aim_again(self) -> None:
        """Another release is to be followed, though the api's target is the same."""
        if self._target is not None:
            self._aim(self._target)

    def _observed(self, current: CurrentState) -> None:
        if self._paused:
            return
        self._followers.sync(current.containers)
        self._chore(self._local.observed(current))
        follows = self._target is not None and not self._local.active
        settled = settled_commits(current, self._desired) if follows else {}
        running = self._running | settled
        if running != self._running:
            self._running = running
            self._chore(self._parts.store.put("running", {str(k): v for k, v in running.items()}))
        self._rollback.observed(current, self._held.interventions.in_force(self._desired))
        self._reporter.changed()

    def _desired_of(self, target: TargetState) -> DesiredState:
        parts = self._parts
        known = device.facts(parts.settings, parts.config, parts.info, self._memory, target.name)
        return desired_state(target, known)

    def _follow_variables(self) -> None:
        if self._target is not None:
            parts = self._parts
            self._hosting.follow(
                self._target.config,
                self._poller,
                parts.cloud,
                self._metrics,
                self._reporter,
                parts.shipper,
            )

    def _hold_all(self, force: bool) -> AbstractAsyncContextManager[object]:
        """The update locks of every application that is here or is to be."""
        here = {each.app_id for each in self._reconciler.current.containers}
        return self.locks.hold(here | {each.id for each in self._desired.apps}, force)

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

    async def _watch_clock(self) -> None:
        """What failed for the time's sake is tried again; a log's lines may be in its past now."""
        wall_clock = WallClock()
        while True:
            difference = await wall_clock.wait_for_jump()
            _LOG.warning("the clock jumped by %.0f s", difference)
            if difference < 0:
                self._followers.read_again()
            self._online()
            self._poller.ask_now()

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
        return self._rollback.marked(self.picture().reported())

    def picture(self) -> Picture:
        """See Services. A service that somebody at the device stopped is as it must be."""
        return Picture(
            self._target.apps if self._target else (),
            self._reconciler.current,
            self._held.interventions.in_force(self._desired),
            self._fetcher.progress(),
            self._held.executor.doing,
            self._running,
        )

    @property
    def name(self) -> str:
        """See Services."""
        return self._target.name if self._target else self._parts.config.initial_name or ""

    async def samples(self, scope: Scope) -> list[Sample]:
        """See Services."""
        figures = await asyncio.to_thread(self._scraped.read)
        holders = await self.locks.all_holders()
        answered = self._poller.last_success
        return [
            *exposition.of_process(),
            *exposition.of_polls(
                self._poller.failures, None if answered is None else time.monotonic() - answered
            ),
            *exposition.of_figures({**figures, **self._hosting.report()}),
            *exposition.of_applications(self.picture(), holders, scope),
        ]

    def _returns(self) -> tuple[DesiredState, ...]:
        """What the fleet wants, whatever a developer tries, and the way back from it."""
        if self._target is None:
            raise ActionError(503, "there is no target yet: nobody knows what it names")
        return self._desired_of(self._target), self._desired_of(self._rollback.ways_back())

    def _rekey(self) -> None:
        if self._target is not None:
            self._aim(self._target)

    def _state(self) -> dict[str, Any]:
        """The device's whole state, as it is reported."""
        now = time.monotonic()
        if now - self._addresses_at > _ADDRESSES_FOR:
            self._addresses = addresses()
            self._addresses_at = now
        # What a developer tries is not the fleet's: of applications nothing new is told, as with
        # the family.
        if self._target is not None and self._reconciler.looked and not self._local.active:
            self._told = self._apps()
        state = device_state(self._told, self._parts.info.operating_system, self._addresses)
        return state | self._hosting.report()

    @property
    def host(self) -> Host:
        """The doorway to the host."""
        return self._hosting.host

    def complaints(self) -> list[str]:
        """Loops that do not turn. That the api cannot be reached is no fault of the supervisor."""
        now = time.monotonic()
        interval = self._interval()
        found = []
        busy = self._reconciler.busy_since
        if busy is not None and now - busy > max(2 * interval, _STUCK_AFTER):
            found.append(f"the reconcile loop has been at one round for {now - busy:.0f} s")
        promises = (self._poller.promise, self._reporter.promise)
        return found + [each for each in (one.complaint() for one in promises) if each]

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
            "update_failed": "rejected" in update or bool(self._held.exclusion.holders),
        }

    def update(self, force: bool, cancel: bool = False) -> None:
        """Ask for the target, and look at the engine, now; with `force` locks do not count, with
        `cancel` downloads under way end, and those that are still wanted begin again."""
        if force:
            self._held.exclusion.force()
        if cancel:
            self._chore(self._fetcher.close())
        self._poller.ask_now()
        self._reconciler.wake()

    def local(self) -> LocalService:
        """See services.Services."""
        parts = self._parts
        kind = parts.config.device_type
        return LocalService(
            mode=self._local,
            router=parts.logs,
            info={"arch": device.architecture(parts.config, parts.info), "deviceType": kind},
            fleet=lambda: self._target,
            desired=self._desired_of,
            current=lambda: self._reconciler.current,
            follow=self._follow_local,
        )

    def _follow_local(self, force: bool) -> None:
        if force:
            self._held.exclusion.force()
        if self._target is not None:
            self._aim(self._target)
            self._reconciler.wake()

    def asks_no_key(self) -> bool:
        """See web.Supervisor."""
        return self._local.active
