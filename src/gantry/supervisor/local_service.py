"""What the HTTP API may ask of local mode."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.desired import DesiredState
from gantry.supervisor.local import LocalMode, LocalModeError
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.local_target import local_document
from gantry.supervisor.state import CurrentState
from gantry.supervisor.target import TargetState


@dataclass(frozen=True, slots=True)
class LocalService:
    """`fleet` gives the fleet's target, `desired` what a target means here, `current` what is in
    the engine; `follow` hears that there is another local target, and whether locks do not count.
    `info` is that of `GET /v2/local/device-info`."""

    mode: LocalMode
    router: LogRouter
    info: Mapping[str, str]
    fleet: Callable[[], TargetState | None]
    desired: Callable[[TargetState], DesiredState]
    current: Callable[[], CurrentState]
    follow: Callable[[bool], None]

    def target(self, shows: Callable[[int], bool]) -> dict[str, Any]:
        """The target that the device follows, of the applications (ids) that may be shown."""
        goal = self.mode.goal(self.fleet() or TargetState("", {}, ()))
        return local_document(replace(goal, apps=tuple(a for a in goal.apps if shows(a.id))))

    async def take(self, document: Mapping[str, Any]) -> None:
        """Follow this local target from now on.

        Raises:
            LocalModeError: local mode is off, or the target cannot be run here.
        """
        target = self.mode.read(document, self.fleet())
        desired = self.desired(target)
        if desired.rejections:
            raise LocalModeError(desired.rejections[0].reason)
        volumes = frozenset(each.name for app in desired.apps for each in app.volumes)
        await self.mode.take(target, volumes - self.current().volumes)
        self.follow(wire.flag(document.get("force")))

    def logs(self) -> AsyncGenerator[bytes, None]:
        """Lines of JSON from now on, for ever."""
        return self.router.listen()
