"""Local mode: the device runs what a developer's machine gives it, and not its fleet's release.

It is on while the device's variable says so, on a host of a variant that allows it. The fleet's
target is kept meanwhile; at the end it is followed again, and all that local targets brought goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.journal import Journal
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.local_target import images_of, local_document, read_local
from gantry.supervisor.state import CurrentState, Owned
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetState

_VARIABLES = ("BALENA_SUPERVISOR_LOCAL_MODE", "RESIN_SUPERVISOR_LOCAL_MODE")
# Of hosts that have local mode.
VARIANTS = ("development",)


class LocalModeError(Exception):
    """A local target cannot be taken; the message is for the developer."""


@dataclass(frozen=True, slots=True)
class Made:
    """Images and volumes that local targets brought to the device, by name."""

    images: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()

    def still_here(self, current: CurrentState) -> "Made":
        """What of it has not been removed yet."""
        return Made(self.images & current.references(), self.volumes & current.volumes)


class LocalMode:
    """Whether it is on, and the local target. `variant` is the host's; `router` sends lines where
    the mode wants them."""

    def __init__(self, store: Store, journal: Journal, router: LogRouter, variant: str) -> None:
        self._store = store
        self._journal = journal
        self._router = router
        self._variant = variant
        self._target: TargetState | None = None
        self._made = Made()
        self._refused = False

    @property
    def active(self) -> bool:
        """Whether it is on."""
        return self._router.local

    async def open(self) -> None:
        """Recall the last local target, and what is to be removed."""
        made = wire.mapping(await self._store.get("local_made"), "local_made")
        self._made = Made(frozenset(made.get("images", ())), frozenset(made.get("volumes", ())))
        document = await self._store.get("local_target")
        if document is not None:
            self._target = read_local(document, ())

    def follow(self, config: Mapping[str, str]) -> None:
        """Turn it on or off, as the device's variables want it."""
        wanted = wire.flag(next((config[name] for name in _VARIABLES if name in config), None))
        allowed = self._variant in VARIANTS
        if wanted and not allowed and not self._refused:
            self._journal.write(
                f"Local mode stays off: it is for development variants, and this device is of "
                f"variant {self._variant}",
                is_error=True,
            )
        self._refused = wanted and not allowed
        # The fleet hears of both ends, so it is said while lines go there.
        if wanted and allowed and not self.active:
            self._journal.write("Local mode is on: the fleet's release is not followed")
            self._router.local = True
        elif self.active and not (wanted and allowed):
            self._router.local = False
            self._journal.write("Local mode is off: the fleet's release is followed again")

    async def forget(self) -> None:
        """Local mode has ended: its target is none any more."""
        if self._target is not None:
            self._target = None
            await self._store.put("local_target", None)

    def goal(self, fleet: TargetState) -> TargetState:
        """What the device must be: as the fleet says or, in local mode, as was given here."""
        if not self.active:
            return fleet
        apps = self._target.apps if self._target else ()
        return TargetState(fleet.name, fleet.config, apps, is_local=True)

    def read(self, document: Mapping[str, Any], fleet: TargetState | None) -> TargetState:
        """The local target in a request's body.

        Raises:
            LocalModeError: local mode is off, or it is no target.
        """
        if not self.active:
            raise LocalModeError("Target state can only set when device is in local mode")
        try:
            return read_local(document, {app.id for app in fleet.apps} if fleet else ())
        except wire.WireError as error:
            raise LocalModeError(str(error)) from error

    async def take(self, target: TargetState, new_volumes: frozenset[str]) -> None:
        """This is the local target from now on. `new_volumes` are those that come with it.

        What it brings is noted before it is made: a device that loses power still removes it.
        """
        self._made = Made(self._made.images | images_of(target), self._made.volumes | new_volumes)
        await self._save_made()
        self._target = target
        await self._store.put("local_target", local_document(target))

    def owned(self, fleet: frozenset[str]) -> Owned:
        """What the planner may remove when nothing wants it, beside `fleet`, images of fleets.

        In local mode those stay, so that the fleet's release is back at once.
        """
        if self.active:
            return Owned(self._made.images - fleet)
        return Owned(self._made.images | fleet, self._made.volumes)

    async def observed(self, current: CurrentState) -> None:
        """After local mode, forget what has been removed."""
        if self.active or self._made == Made():
            return
        left = self._made.still_here(current)
        if left != self._made:
            self._made = left
            await self._save_made()

    async def _save_made(self) -> None:
        made = {"images": sorted(self._made.images), "volumes": sorted(self._made.volumes)}
        await self._store.put("local_made", made if self._made != Made() else None)
