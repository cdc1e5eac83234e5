"""What the device is to run: the fleet's target, and all that may stand in for it.

A release by bundle lies over the api's target; local mode puts a developer's in its place; a
release that is rejected gives way to the last good one. What is left is what the engine is held to.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from gantry.supervisor import device, wire
from gantry.supervisor.actions import ActionError
from gantry.supervisor.chores import Chores
from gantry.supervisor.cloud import TargetAnswer
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.holding import Holding
from gantry.supervisor.local import LocalMode
from gantry.supervisor.local_service import LocalService
from gantry.supervisor.locks import is_overridden
from gantry.supervisor.observe import registry_of
from gantry.supervisor.parts import Parts
from gantry.supervisor.rollback import Rollback
from gantry.supervisor.state import CurrentState
from gantry.supervisor.target import TargetState, read_target

_LOG = logging.getLogger(__name__)


class Aiming:
    """Aims the reconciler. `target` is the fleet's, `desired` what the engine is held to.

    `held` is open. `changed` hears of each aim, `follow_variables` gets the variables of each
    target that the api gave.
    """

    def __init__(
        self,
        parts: Parts,
        held: Holding,
        chores: Chores,
        changed: Callable[[], None],
        follow_variables: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._parts = parts
        self._held = held
        self._chores = chores
        self._changed = changed
        self._follow_variables = follow_variables
        self._memory = parts.memory
        self._registries: set[str] = set()
        # Who aims at a target has it in the store before another one reads what is there.
        self._taking = asyncio.Lock()
        self.target: TargetState | None = None
        self.desired = DesiredState()
        self.local = LocalMode(parts.store, parts.journal, parts.logs, parts.settings.variant)
        self.rollback = Rollback(
            parts.store,
            parts.journal,
            self.again,
            held.reconciler.wake,
            chores.begin,
            self.desired_of,
        )

    async def open(self) -> str | None:
        """Take up what was left at the last end; the ETag of the target that is followed."""
        parts, reconciler = self._parts, self._held.reconciler
        await self.local.open()
        await self.rollback.load()
        reconciler.owned = self.local.owned
        reconciler.heard = self.rollback.heard
        reconciler.kept_images = self.rollback.kept_images
        self._registries = set(await parts.store.get("registries") or ())
        if parts.config.registry_endpoint:
            self._registries.add(parts.config.registry_endpoint)
        return await self._last_target()

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

    async def receive(self, answer: TargetAnswer) -> bool:
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
        self._follow_variables(target.config)
        await parts.store.put("target", answer.document)
        await parts.offline.settle(answer.document, str(parts.config.uuid))
        await parts.store.put("target_etag", answer.etag)
        await parts.store.put("registries", sorted(self._registries))
        return True

    async def follow_offline(self) -> None:
        """See bundles.Holder."""
        parts = self._parts
        uuid = str(parts.config.uuid)
        async with self._taking:
            document = await parts.store.get("target") or {uuid: {}}
            self._aim(read_target(await parts.offline.over(document, uuid), uuid))
            await parts.store.put("registries", sorted(self._registries))

    def again(self) -> None:
        """Another state is to be held, though the api's target is the same."""
        if self.target is not None:
            self._aim(self.target)

    def _follow_local(self, force: bool) -> None:
        if force:
            self._held.exclusion.force()
        if self.target is not None:
            self._aim(self.target)
            self._held.reconciler.wake()

    def _aim(self, target: TargetState) -> None:
        """Aim at what the fleet says or, in local mode, at what was given here."""
        parts, reconciler = self._parts, self._held.reconciler
        self.local.follow(target.config)
        if not self.local.active:
            self._chores.begin(self.local.forget())
        # A release is on trial only while the device follows its fleet.
        goal = self.local.goal(self.rollback.aim(target))
        if self._memory.keys.provide(app.id for app in (*target.apps, *goal.apps)):
            self._chores.begin(self._memory.keys.save())
        desired = self.desired_of(goal)
        for rejection in desired.rejections:
            parts.journal.write(
                f"Release {rejection.commit} cannot be run: {rejection.reason}", is_error=True
            )
        for app in desired.apps if not self.local.active else ():
            self._registries |= {registry_of(each.image) for each in app.services}
        self.target = target
        self._held.locks.override = is_overridden(target.config)
        if desired != self.desired:
            self._say(desired)
            self.desired = desired
            reconciler.aim(desired)
        elif reconciler.idle:
            reconciler.aim(desired)
        self._changed()

    def _say(self, desired: DesiredState) -> None:
        """What of a new release is left out."""
        before = {each for app in self.desired.apps for each in app.notices}
        for app in desired.apps:
            for notice in app.notices:
                if notice not in before:
                    self._parts.journal.write(f"Release {app.commit}: {notice}", is_error=True)

    def observed(self, current: CurrentState) -> None:
        """What a look at the engine says of local mode's end and of releases on trial."""
        self._chores.begin(self.local.observed(current))
        self.rollback.observed(current, self._held.interventions.in_force(self.desired))

    @property
    def follows_fleet(self) -> bool:
        """Whether the fleet's target is what is held."""
        return self.target is not None and not self.local.active

    @property
    def variables(self) -> Mapping[str, str]:
        """The device's, of its target."""
        return self.target.config if self.target else {}

    def removable(self) -> Collection[str] | None:
        """Registries whose images may be removed when nothing wants them; see the reconciler."""
        return self._parts.offline.removable(self._registries)

    def desired_of(self, target: TargetState) -> DesiredState:
        """What the engine must hold for a target."""
        parts = self._parts
        known = device.facts(parts.settings, parts.config, parts.info, self._memory, target.name)
        return desired_state(target, known)

    def returns(self) -> tuple[DesiredState, ...]:
        """What the fleet wants, whatever a developer tries, and the way back from it."""
        if self.target is None:
            raise ActionError(503, "there is no target yet: nobody knows what it names")
        return self.desired_of(self.target), self.desired_of(self.rollback.ways_back())

    def local_service(self) -> LocalService:
        """Local mode, for the HTTP API."""
        parts = self._parts
        kind = parts.config.device_type
        return LocalService(
            mode=self.local,
            router=parts.logs,
            info={"arch": device.architecture(parts.config, parts.info), "deviceType": kind},
            fleet=lambda: self.target,
            desired=self.desired_of,
            current=lambda: self._held.reconciler.current,
            follow=self._follow_local,
        )
