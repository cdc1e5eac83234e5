"""Stands between the api's target and the planner, and remembers which releases were good.

What is decided is in `trial.py`; here it gets its looks, its clock and its memory.
"""

import logging
import time
from asyncio import Event, sleep
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from gantry.supervisor import trial, wire
from gantry.supervisor.desired import DesiredApp, DesiredState, Label
from gantry.supervisor.journal import Journal
from gantry.supervisor.state import CurrentState
from gantry.supervisor.store import Store
from gantry.supervisor.target import TargetState
from gantry.supervisor.trial import End, Record, Rules

_LOG = logging.getLogger(__name__)
_FACT = "releases"
# While a release is being judged the engine is looked at so often; less often while it waits, or
# fails with nothing to go back to. A longer time between two looks (a suspended machine, an engine
# that did not answer) does not count. In seconds.
_LOOK_EVERY = 5.0
_LOOK_AT_TIMES = 60.0
_COUNTS_AT_MOST = 10.0


def read_end(event: Mapping[str, Any]) -> End | None:
    """The end of a container in an event of the engine (`GET /events`); None for other events."""
    attributes = (event.get("Actor") or {}).get("Attributes") or {}
    if event.get("Action") != "die":
        return None
    try:
        return End(
            app_id=int(attributes[Label.APP_ID]),
            service=str(attributes[Label.SERVICE_NAME]),
            config_hash=str(attributes[Label.CONFIG_HASH]),
            status=int(attributes["exitCode"]),
        )
    except (KeyError, ValueError):
        return None


class Rollback:
    """`decided` is called when another release is to be followed than before, `look` when the
    engine is to be looked at; `chore` carries on what nobody waits for; `desired_of` says what the
    engine must hold for a target."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        decided: Callable[[], None],
        look: Callable[[], None],
        chore: Callable[[Coroutine[Any, Any, None]], None],
        desired_of: Callable[[TargetState], DesiredState],
    ) -> None:
        self._store = store
        self._journal = journal
        self._decided = decided
        self._look = look
        self._chore = chore
        self._desired_of = desired_of
        self._records: dict[str, Record] = {}
        self._target = TargetState("", {}, ())
        self._rules = Rules()
        self._ends: list[End] = []
        self._looked_at = time.monotonic()
        self._is_judging = False
        self._begun = Event()

    async def load(self) -> None:
        """Take up what was remembered, before the first `aim`."""
        try:
            self._records = trial.read_records(await self._store.get(_FACT))
        except wire.WireError as error:
            _LOG.warning("which releases were good is forgotten: %s", error)
        if any(each.trial and each.trial.lives for each in self._records.values()):
            self._save()  # another life of the supervisor, which counts

    def aim(self, target: TargetState) -> TargetState:
        """What to follow when the api wants this."""
        self._target = target
        self._rules = trial.rules(target.config)
        before = self._records
        self._records = {
            app.uuid: trial.aimed(before.get(app.uuid, Record()), app, self._rules)
            for app in target.apps
        }
        if self._records != before:
            self._save()
        if self.is_trying:
            self._begun.set()
        return trial.followed(target, self._records)

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take note of an event of the engine."""
        end = read_end(event)
        if end is not None and self.is_trying:
            self._ends.append(end)

    def observed(self, current: CurrentState, desired: DesiredState) -> None:
        """Judge by another look at the engine, at what it is held to."""
        now = time.monotonic()
        seconds = min(now - self._looked_at, _COUNTS_AT_MOST)
        self._looked_at = now
        ends, self._ends = self._ends, []
        apps = {each.uuid: each for each in desired.apps}
        goods = self._goods()
        is_rejected = self._is_judging = False
        for target in self._target.apps:
            app, before = apps.get(target.uuid), self._records.get(target.uuid, Record())
            commit = target.release.commit if target.release else None
            if app is None or app.commit != commit or before.trial is None:
                continue
            mine = [each for each in ends if each.app_id == app.id]
            good = goods.get(target.uuid)
            after = trial.advance(before, target, app, current, mine, seconds, self._rules, good)
            self._records[target.uuid] = after
            if after.trial is None or (after.trial.lives, after.trial.crashes) != (
                before.trial.lives,
                before.trial.crashes,
            ):
                self._save()
            self._is_judging |= self._has_moved(before, after)
            is_rejected |= self._tell(after)
        if is_rejected:
            self._decided()

    def _goods(self) -> dict[str, DesiredApp]:
        """Good releases of applications on trial, as they would have to be in the engine now."""
        records = self._records.values()
        goods = tuple(each.good for each in records if each.trial and each.good)
        if not goods:
            return {}
        desired = self._desired_of(replace(self._target, apps=goods))
        return {each.uuid: each for each in desired.apps}

    def _has_moved(self, before: Record, after: Record) -> bool:
        """Whether the trial's time runs, and its end is near."""
        if before.trial is None or after.trial is None:
            return False
        by = self._rules
        runs = after.trial.elapsed > before.trial.elapsed
        return runs and after.trial.elapsed < 2 * by.timeout + by.settle

    def _tell(self, record: Record) -> bool:
        rejected, good = record.rejected, record.good
        if rejected is None or good is None or good.release is None:
            return False
        self._journal.write(
            f"Release {rejected.commit} is rejected: {rejected.reason}; "
            f"going back to {good.release.commit}",
            is_error=True,
        )
        return True

    def marked(self, apps: Mapping[str, Any]) -> dict[str, Any]:
        """The `apps` of a report, with rejected releases in it."""
        return trial.marked(apps, self._target, self._records)

    def ways_back(self) -> TargetState:
        """The good releases that there are, of applications of the target."""
        good = tuple(each.good for each in self._records.values() if each.good)
        return replace(self._target, apps=good)

    @property
    def is_trying(self) -> bool:
        """Whether a release is on trial."""
        return any(each.trial for each in self._records.values())

    def kept_images(self) -> frozenset[str]:
        """Images that no clean-up may take."""
        return trial.kept_images(self._target, self._records, self._rules)

    async def run(self) -> None:
        """Have the engine looked at while a release is on trial, for ever."""
        while True:
            if not self.is_trying:
                self._begun.clear()
                await self._begun.wait()
            await sleep(_LOOK_EVERY)
            since = time.monotonic() - self._looked_at
            if self._is_judging or (since > _LOOK_AT_TIMES and self.is_trying):
                self._look()

    def _save(self) -> None:
        self._chore(self._store.put(_FACT, trial.written(self._records)))
