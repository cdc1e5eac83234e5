"""A device that is part of its fleet: its parts put together, and its loops."""

import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from gantry.supervisor.actions import Actions, Surroundings
from gantry.supervisor.aiming import Aiming
from gantry.supervisor.chores import Chores
from gantry.supervisor.clock import WallClock
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.deltas.door import Deltas
from gantry.supervisor.deltas.hopeless import Hopeless
from gantry.supervisor.deltas.own import OwnImage
from gantry.supervisor.engine import Credentials, EngineInfo
from gantry.supervisor.exposition import Sample
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.host import Host
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.hosting import Hosting
from gantry.supervisor.keys import Scope
from gantry.supervisor.local_service import LocalService
from gantry.supervisor.logfollow import LogFollowers
from gantry.supervisor.metrics import Metrics
from gantry.supervisor.observe import registry_of
from gantry.supervisor.pace import Pace
from gantry.supervisor.parts import Parts
from gantry.supervisor.poll import Poller, poll_interval
from gantry.supervisor.pulse import Pulse
from gantry.supervisor.report import Reporter
from gantry.supervisor.roomcheck import RoomCheck
from gantry.supervisor.state import CurrentState
from gantry.supervisor.succession import Hindrance, Succession
from gantry.supervisor.tags import Tags
from gantry.supervisor.telling import Telling
from gantry.supervisor.tls import ssl_context
from gantry.supervisor.views import Picture

_LOG = logging.getLogger(__name__)

_STUCK_AFTER = 1800.0  # seconds that one round of steps may take at least


class Managed:
    """The loops of a provisioned device. `open` comes first, then `loops` are run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._chores = Chores()
        self._paused = False
        self._metrics = Metrics(parts.settings.data_directory)
        self.engine = parts.engine
        self.pulse = Pulse()

    async def open(self) -> None:
        """Take up what was left at the last end: the target is followed before the api answers."""
        parts = self._parts
        self._reporter = Reporter(parts.cloud, lambda: self._telling.state(), self._metrics.read)
        await self._open_holding()
        self._hosting = Hosting(
            parts.settings,
            parts.config,
            parts.store,
            parts.journal,
            self._hold_all,
            self._reporter.changed,
        )
        self._aiming = Aiming(
            parts, self._held, self._chores, self._reporter.changed, self._follow_variables
        )
        self._succession = Succession(
            parts.store,
            Door(parts.settings.host_door),
            parts.journal,
            self._hold_all,
            self._hindrance,
            lambda: self._hosting.variables.update_retry_seconds,
            OwnImage(parts.engine, self._fetcher).bring,
        )
        etag = await self._aiming.open()
        self._poller = Poller(parts.cloud, self._interval, self._aiming.receive, self._online, etag)
        self._hosting.open(self._poller)
        self._telling = Telling(
            parts, self._aiming, self._held, self._hosting, self._poller, self._chores
        )
        await self._telling.open()
        await self._offer()
        if self._aiming.target is not None:
            self._follow_variables(self._aiming.target.config)

    async def _open_holding(self) -> None:
        parts = self._parts
        room = RoomCheck(
            parts.engine,
            self._credentials,
            lambda: ssl_context(parts.config.root_ca),
            parts.settings.data_directory,
            parts.info.architecture,
        )
        hopeless, pace = Hopeless(parts.store), Pace(parts.store)
        await hopeless.load()
        await pace.load()
        self._deltas = Deltas(
            parts.settings,
            parts.config,
            parts.engine,
            parts.info,
            self._credentials,
            lambda: ssl_context(parts.config.root_ca),
            parts.journal,
            lambda: self._reconciler.current,
            lambda: self._hosting.variables.delta,
            hopeless,
            pace,
            lambda: self._succession.image,
        )
        self._fetcher = Fetcher(
            parts.engine, self._credentials, parts.journal, self._fetched, room, self._deltas
        )
        positions = await parts.store.log_positions()
        self._followers = LogFollowers(
            parts.engine, parts.logs.add, positions, parts.memory.begun_at_ns
        )
        self._followers.room = parts.shipper.room
        self._held = Holding(
            parts.settings,
            parts.engine,
            parts.store,
            parts.journal,
            self._fetcher,
            Hearers(
                drain=self._followers.drain,
                changed=self._reporter.changed,
                observed=self._observed,
                registries=lambda: self._aiming.removable(),
            ),
        )
        await self._held.open()
        self.locks = self._held.locks
        self._reconciler = self._held.reconciler

    async def _offer(self) -> None:
        """Make what the HTTP API offers; see services.Services."""
        parts = self._parts
        self._reporter.heard = self.pulse.beat
        self.tags = Tags(parts.cloud, parts.store, self._interval)
        await self.tags.open()
        around = Surroundings(
            picture=self._telling.picture,
            variables=lambda: self._aiming.variables,
            interventions=self._held.interventions,
            update=self.update,
            rekey=self._aiming.again,
            changed=self._reporter.changed,
            returns=self._aiming.returns,
            engine=parts.engine,
            host=self.host,
            hold=self._hold_all,
            keys=parts.memory.keys,
            journal=parts.journal,
            pulse=self.pulse,
            instance=parts.settings.instance,
        )
        self.actions = Actions(around)

    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What has to be run for as long as the supervisor lives, by name."""
        return {
            "reconcile": self._reconciler.run,
            "engine events": self._reconciler.follow_events,
            "rollback": self._aiming.rollback.run,
            "clock": self._watch_clock,
            "poll": self._poller.run,
            "announcements": self._poller.listen,
            "report": self._reporter.run,
            "tags": self.tags.run,
            "logs": lambda: self._parts.shipper.run(self._parts.cloud),
            "succession": self._succession.run,
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
        await self._chores.finish()
        await self._parts.cloud.close()

    def followed(self) -> frozenset[str]:
        """Ids of the containers whose log is followed."""
        return self._followers.containers()

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

    def _observed(self, current: CurrentState) -> None:
        if self._paused:
            return
        self._followers.sync(current.containers)
        # Told first: the look is at what was held until now, and aiming may choose another release.
        self._telling.observed(current)
        self._aiming.observed(current)
        self._reporter.changed()

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

    def _follow_variables(self, variables: Mapping[str, str]) -> None:
        parts = self._parts
        self._hosting.follow(
            variables, self._poller, parts.cloud, self._metrics, self._reporter, parts.shipper
        )
        if self._aiming.target is not None:
            self._succession.follow(self._aiming.target.supervisor)

    def _hindrance(self) -> Hindrance | None:
        """What is in the way of another supervisor, beside locks."""
        if self._aiming.local.active:
            return Hindrance("local mode is on", is_firm=True)
        if self._parts.offline.is_loading:
            return Hindrance("a bundle is being loaded", is_firm=True)
        if not self._reconciler.at_rest:
            return Hindrance("an update is being applied", is_firm=False)
        if self._aiming.rollback.is_trying:
            return Hindrance("a release is on trial", is_firm=False)
        return None

    def _interval(self) -> float:
        """Seconds between polls: the device's variable, else config.json."""
        return poll_interval(self._aiming.variables, self._parts.config.poll_seconds)

    def _hold_all(self, force: bool) -> AbstractAsyncContextManager[object]:
        """The update locks of every application that is here or is to be."""
        here = {each.app_id for each in self._reconciler.current.containers}
        return self.locks.hold(here | {each.id for each in self._aiming.desired.apps}, force)

    def _credentials(self, reference: str) -> Credentials | None:
        """The device's own key, for its fleet's registry and no other."""
        config = self._parts.config
        registry = registry_of(reference)
        # Without registryEndpoint, the fleet's registry is the one beside its api.
        domain = (config.api_endpoint or "").partition("://")[2].partition(".")[2]
        if registry not in (config.registry_endpoint, f"registry.{domain}"):
            return None
        return Credentials(f"d_{config.uuid}", config.device_key or "", registry)

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
        await self._aiming.follow_offline()

    @property
    def host(self) -> Host:
        """The doorway to the host."""
        return self._hosting.host

    @property
    def name(self) -> str:
        """See services.Services."""
        return self._telling.name

    def picture(self) -> Picture:
        """See services.Services."""
        return self._telling.picture()

    def device(self) -> dict[str, Any]:
        """See services.Services."""
        return self._telling.device()

    async def samples(self, scope: Scope) -> list[Sample]:
        """See services.Services."""
        return await self._telling.samples(scope)

    def succession(self) -> dict[str, Any]:
        """See services.Services."""
        return self._succession.view()

    def local(self) -> LocalService:
        """See services.Services."""
        return self._aiming.local_service()

    def asks_no_key(self) -> bool:
        """See web.Supervisor."""
        return self._aiming.local.active

    def update(self, force: bool, cancel: bool = False) -> None:
        """Ask for the target, and look at the engine, now; with `force` locks do not count, with
        `cancel` downloads under way end, and those that are still wanted begin again."""
        if force:
            self._held.exclusion.force()
        if cancel:
            self._chores.begin(self._fetcher.close())
        self._poller.ask_now()
        self._reconciler.wake()
