"""What the device says of itself: to its fleet in reports, over HTTP to whoever asks."""

import asyncio
import time
from typing import Any

from gantry.supervisor import VERSION, exposition
from gantry.supervisor.aiming import Aiming
from gantry.supervisor.chores import Chores
from gantry.supervisor.exposition import Sample
from gantry.supervisor.holding import Holding
from gantry.supervisor.host.hosting import Hosting
from gantry.supervisor.keys import Scope
from gantry.supervisor.metrics import Metrics, addresses
from gantry.supervisor.parts import Parts
from gantry.supervisor.poll import Poller
from gantry.supervisor.state import CurrentState
from gantry.supervisor.status import device_state, overall, settled_commits
from gantry.supervisor.views import Picture

_ADDRESSES_FOR = 30.0  # seconds for which addresses are believed


class Telling:
    """Puts together what is known elsewhere; itself it knows which release each application runs.
    `open` comes first."""

    def __init__(
        self,
        parts: Parts,
        aiming: Aiming,
        held: Holding,
        hosting: Hosting,
        poller: Poller,
        chores: Chores,
    ) -> None:
        self._parts = parts
        self._aiming = aiming
        self._held = held
        self._hosting = hosting
        self._poller = poller
        self._chores = chores
        self._running: dict[int, str] = {}
        self._told: dict[str, Any] = {}
        self._addresses = ("", "")
        self._addresses_at = -_ADDRESSES_FOR
        # Not the reports': the processor's share is of the time since it was read before.
        self._scraped = Metrics(parts.settings.data_directory)

    async def open(self) -> None:
        """Take up which releases ran at the last end."""
        running = await self._parts.store.get("running")
        self._running = {int(app): str(commit) for app, commit in (running or {}).items()}

    def observed(self, current: CurrentState) -> None:
        """Note which of the fleet's releases the engine runs now."""
        aiming = self._aiming
        settled = settled_commits(current, aiming.desired) if aiming.follows_fleet else {}
        running = self._running | settled
        if running != self._running:
            self._running = running
            fact = {str(app): commit for app, commit in running.items()}
            self._chores.begin(self._parts.store.put("running", fact))

    def picture(self) -> Picture:
        """See services.Services. A service that somebody at the device stopped is as it must be."""
        aiming, held = self._aiming, self._held
        return Picture(
            aiming.target.apps if aiming.target else (),
            held.reconciler.current,
            held.interventions.in_force(aiming.desired),
            held.fetcher.progress(),
            held.fetcher.received(),
            held.executor.doing,
            self._running,
        )

    @property
    def name(self) -> str:
        """See services.Services."""
        target = self._aiming.target
        return target.name if target else self._parts.config.initial_name or ""

    def _apps(self) -> dict[str, Any]:
        return self._aiming.rollback.marked(self.picture().reported())

    def state(self) -> dict[str, Any]:
        """The device's whole state, as it is reported."""
        now = time.monotonic()
        if now - self._addresses_at > _ADDRESSES_FOR:
            self._addresses = addresses()
            self._addresses_at = now
        # What a developer tries is not the fleet's: of applications nothing new is told, as with
        # the family.
        if self._aiming.follows_fleet and self._held.reconciler.looked:
            self._told = self._apps()
        state = device_state(self._told, self._parts.info.operating_system, self._addresses)
        secret = {"api_secret": self._parts.memory.keys.everything}
        return state | secret | self._hosting.report()

    def device(self) -> dict[str, Any]:
        """The body of `GET /v1/device`."""
        apps = self._apps() if self._aiming.target else {}
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

    async def samples(self, scope: Scope) -> list[Sample]:
        """See services.Services."""
        figures = await asyncio.to_thread(self._scraped.read)
        holders = await self._held.locks.all_holders()
        answered = self._poller.last_success
        return [
            *exposition.of_process(),
            *exposition.of_polls(
                self._poller.failures, None if answered is None else time.monotonic() - answered
            ),
            *exposition.of_deltas(self._held.fetcher.delta_figures),
            *exposition.of_figures({**figures, **self._hosting.report()}),
            *exposition.of_applications(self.picture(), holders, scope),
        ]
