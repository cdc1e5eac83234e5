"""Hand-over: when a new container has taken over from the old one that runs beside it.

The new one says so by creating a file in its service's runtime directory
(`/tmp/balena/handover-complete` in the container); without, the time that the service's label gives
is waited for. https://docs.balena.io/learn/deploy/release-strategy/update-strategies/#hand-over
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from gantry.supervisor.desired import DesiredService, DesiredState
from gantry.supervisor.matching import best
from gantry.supervisor.state import Container, ContainerState, CurrentState, Health
from gantry.supervisor.strategy import Strategy

# The second is the family's older name.
MARKERS = ("handover-complete", "resin-kill-me")
_LOOK_EVERY = 0.2  # seconds


class HandOvers:
    """The hand-overs under way. `directory` is the runtime directory as this process sees it."""

    def __init__(self, directory: Path) -> None:
        self._services = directory / "services"
        # By the id of the new container: since when it has been up without a break.
        self._since: dict[str, float] = {}
        self._markers: list[Path] = []

    async def look(
        self, current: CurrentState, desired: DesiredState
    ) -> tuple[frozenset[str], float | None]:
        """Ids of containers that have taken over, and the seconds until the next one's time is
        over, if any is waited for."""
        now = time.monotonic()
        pending = list(_pending(current, desired))
        running = {keep.id for _, keep in pending if keep.state is ContainerState.RUNNING}
        self._since = {each: self._since.get(each, now) for each in running}
        markers = {keep.id: self._paths(service) for service, keep in pending}
        found = await asyncio.to_thread(_existing, [p for each in markers.values() for p in each])
        complete, waits = set(), []
        self._markers = []
        for service, keep in pending:
            # While it is down, or says that it is ill, the old one is needed whatever the time.
            is_fit = keep.id in running and keep.health is not Health.UNHEALTHY
            left = self._since.get(keep.id, now) + service.handover_seconds - now
            if is_fit and (found & set(markers[keep.id]) or left <= 0):
                complete.add(keep.id)
            elif is_fit:
                waits.append(left)
                self._markers += markers[keep.id]
        return frozenset(complete), min(waits, default=None)

    def fell(self, container: str) -> None:
        """This one ended: should it be started again, its time begins anew. Between two looks
        nobody would see it."""
        self._since.pop(container, None)

    async def marked(self) -> None:
        """Return when one of those that are waited for says that it has taken over."""
        while not await asyncio.to_thread(_existing, self._markers):  # noqa: ASYNC110 (files)
            await asyncio.sleep(_LOOK_EVERY)

    @property
    def is_waiting(self) -> bool:
        """Whether anybody may say something."""
        return bool(self._markers)

    def clear(self, app_id: int, service: str) -> None:
        """Forget what an earlier container said."""
        for marker in MARKERS:
            path = self._services / str(app_id) / service / marker
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # something else of that name: it is no file, and says nothing

    def _paths(self, service: DesiredService) -> list[Path]:
        directory = self._services / str(service.app_id) / service.service
        return [directory / marker for marker in MARKERS]


def _pending(
    current: CurrentState, desired: DesiredState
) -> Iterator[tuple[DesiredService, Container]]:
    """Services of which an old and a new container are up, each with the new one."""
    for app in desired.apps:
        for service in app.services:
            if service.strategy is not Strategy.HAND_OVER:
                continue
            mine = current.of_service(app.id, service.service)
            keep = best(mine, service)
            if keep is not None and any(e.state.is_up for e in mine if e is not keep):
                yield service, keep


def _existing(paths: list[Path]) -> frozenset[Path]:
    found = set()
    for each in paths:
        try:
            if each.is_file():
                found.add(each)
        except OSError:
            continue
    return frozenset(found)
