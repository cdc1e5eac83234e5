"""`gantry push`: build, run, follow and live-sync, until it is told to end."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gantry.builder.plan import BuildPlan, RejectedError, ServiceBuild, Target
from gantry.builder.resolve import COMPOSE_NAMES, resolve
from gantry.builder.tree import Tree
from gantry.client.log_line import LogLine
from gantry.contracts.device_types import DeviceType
from gantry.local.device_api import DeviceApi
from gantry.local.dockerfile_copies import Copy, copies
from gantry.local.engine import LocalEngine, Running
from gantry.local.errors import DeviceUnreachableError, LocalError
from gantry.local.images import BuiltService, Images
from gantry.local.livesync import Changes, Rebuild, Sync, decide
from gantry.local.target import environment_of, local_state
from gantry.local.watch import IGNORE_FILE, Snapshot, difference, snapshot

Say = Callable[[str], None]
# In seconds: between two looks at the tree; how long a device may take to start what was built.
_LOOK_EVERY = 0.5
_START_WITHIN = 600.0
_LOG_RETRY = 2.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was typed. `services` are those whose lines are shown, all without any."""

    source: Path
    environment: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    system: bool = False


@dataclass(slots=True)
class _Watched:
    """A service that is built, and its tree as it was when that was done."""

    build: ServiceBuild
    context: Path
    copies: tuple[Copy, ...]
    before: Snapshot
    files: frozenset[str] = field(default_factory=frozenset)


class Push:
    """One push to one device. `say` hears what is done, `show` the lines of the device's log."""

    def __init__(
        self,
        api: DeviceApi,
        engine: LocalEngine,
        images: Images,
        device: DeviceType,
        wishes: Wishes,
        say: Say,
        show: Callable[[LogLine], None],
    ) -> None:
        self._api = api
        self._engine = engine
        self._images = images
        self._device = device
        self._wishes = wishes
        self._say = say
        self._show = show
        self._ended = threading.Event()
        self._built: dict[str, BuiltService] = {}
        self._watched: dict[str, _Watched] = {}

    def run(self) -> None:
        """Build everything, and have the device run it.

        Raises:
            LocalError: the tree cannot be built, or the device refuses it.
        """
        tree, plan = self._resolved()
        self._images.have_bases(plan.bases, self._say)
        self._before = self._looked(tree, plan)
        for build in plan.builds:
            self._build(tree, build)
        for image in plan.images:
            self._built[image.service] = self._images.take(image, self._say)
        self._plan = plan
        self._tree = tree
        self._give()

    def follow_logs(self) -> threading.Thread:
        """Show the device's log from now on; the thread ends with `end`, or with the process."""
        connected = threading.Event()
        thread = threading.Thread(target=self._logs, args=(connected,), daemon=True, name="logs")
        thread.start()
        connected.wait(15.0)
        return thread

    def end(self) -> None:
        """Follow and sync no more."""
        self._ended.set()

    def wait_until_running(self) -> None:
        """Until the device has a container of each service, started with what was built.

        Raises:
            LocalError: it has not within ten minutes.
        """
        end = time.monotonic() + _START_WITHIN
        while missing := sorted(set(self._built) - set(self._running())):
            if time.monotonic() > end:
                raise LocalError(f"the device has not started {', '.join(missing)}: see its log")
            self._ended.wait(_LOOK_EVERY)
        self._say(f"running: {', '.join(sorted(self._built))}")

    def live(self) -> None:
        """Bring changed files to the device, until `end`."""
        self._say("watching for changed files; Ctrl-C ends")
        while not self._ended.wait(_LOOK_EVERY):
            try:
                self._look()
            except (LocalError, DeviceUnreachableError, RejectedError) as error:
                self._say(f"{error}; the next change is tried again")

    def _resolved(self) -> tuple[Tree, BuildPlan]:
        tree = Tree(self._wishes.source)
        target = Target(self._device, 1, "localapp", "local", self._device.architecture)
        try:
            plan = resolve(tree, target, "")
        except RejectedError as error:
            raise LocalError(str(error)) from error
        for warning in plan.warnings:
            self._say(f"warning: {warning}")
        return tree, plan

    def _looked(self, tree: Tree, plan: BuildPlan) -> dict[str, Snapshot]:
        """Each context before it is built: what changes meanwhile is seen afterwards."""
        self._compositions = _times(tree.root)
        return {each.service: snapshot(tree.root / each.context) for each in plan.builds}

    def _build(self, tree: Tree, build: ServiceBuild) -> None:
        self._say(f"building {build.service} from {build.origin}")
        built = self._images.build(build, tree, lambda line: self._say(f"[{build.service}] {line}"))
        self._built[build.service] = built
        context = tree.root / build.context
        origin = (tree.root / build.origin).resolve()
        files = {IGNORE_FILE}
        if origin.is_relative_to(context.resolve()):
            files.add(origin.relative_to(context.resolve()).as_posix())
        self._watched[build.service] = _Watched(
            build,
            context,
            copies(build.content, build.target, built.working_dir),
            self._before[build.service],
            frozenset(files),
        )

    def _give(self) -> None:
        images = {service: each.image for service, each in self._built.items()}
        environment = environment_of(self._wishes.environment, images)
        state = local_state(self._api.target_state(), self._plan, images, environment)
        self._api.set_target_state(state)
        self._say("the device has its new target")

    def _running(self) -> dict[str, Running]:
        found = self._engine.services(each.image for each in self._built.values())
        return {name: each for name, each in found.items() if each.status != "created"}

    def _look(self) -> None:
        if _times(self._tree.root) != self._compositions:
            self._say("docker-compose.yml changed: building anew")
            self._watched.clear()
            self._built.clear()
            self.run()
            self.wait_until_running()
            return
        for service, watched in self._watched.items():
            now = snapshot(watched.context)
            changes = difference(watched.before, now)
            if not changes:
                continue
            if snapshot(watched.context) != now:
                return  # somebody is writing: the next look has it all
            watched.before = now
            self._bring(service, watched, changes)

    def _bring(self, service: str, watched: _Watched, changes: Changes) -> None:
        container = self._running().get(service)
        decision: Rebuild | Sync | None = Rebuild("its container is gone")
        if container is not None:
            decision = decide(
                changes,
                watched.copies,
                watched.files,
                lambda path: self._engine.is_folder(container.id, path),
            )
        if isinstance(decision, Sync) and container is not None:
            decision = self._sync(service, watched, container, decision)
        if isinstance(decision, Rebuild):
            self._say(f"{service}: {decision.reason}: building anew")
            self._rebuild(service)

    def _sync(
        self, service: str, watched: _Watched, container: Running, sync: Sync
    ) -> Rebuild | None:
        """Bring files into the container; what to do instead where that cannot be."""
        names = [path for path, _ in sync.copies]
        try:
            if sync.removals and not self._engine.remove(container.id, sync.removals):
                return Rebuild("files cannot be removed in its container")
            if sync.copies:
                self._engine.put(container.id, watched.context, sync.copies)
            self._engine.restart(container.id)
        except LocalError as error:
            return Rebuild(str(error))
        self._say(f"{service}: {_counted(names, sync.removals)}; restarted")
        return None

    def _rebuild(self, service: str) -> None:
        tree, plan = self._resolved()
        build = next((each for each in plan.builds if each.service == service), None)
        if build is None:
            raise LocalError(f"{service} is not built from this tree any more")
        self._images.have_bases(plan.bases, self._say)
        self._before[service] = snapshot(tree.root / build.context)
        self._build(tree, build)
        self._give()
        self.wait_until_running()

    def _logs(self, connected: threading.Event) -> None:
        said = False
        while not self._ended.is_set():
            try:
                for line in self._api.logs():
                    said = False
                    connected.set()
                    if self._ended.is_set():
                        return
                    if self._is_wanted(line):
                        self._show(line)
            except DeviceUnreachableError as error:
                if not said:
                    self._say(f"{error}; the log is followed again once it answers")
                said = True
            self._ended.wait(_LOG_RETRY)

    def _is_wanted(self, line: LogLine) -> bool:
        if line.is_system or not line.service:
            return self._wishes.system or not self._wishes.services
        return not self._wishes.services or line.service in self._wishes.services


def _times(root: Path) -> dict[str, int]:
    """When each file that says what the services are was written."""
    found = {}
    for name in COMPOSE_NAMES:
        if (root / name).is_file():
            found[name] = (root / name).stat().st_mtime_ns
    return found


def _counted(changed: Iterable[str], removed: Iterable[str]) -> str:
    names, gone = list(changed), list(removed)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    parts = [f"{shown} copied"] if names else []
    if gone:
        parts.append(f"{len(gone)} removed")
    return ", ".join(parts)
