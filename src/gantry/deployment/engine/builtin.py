"""The built-in engine: what `gantry up` and its siblings do where there is no Pulumi CLI."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantry.deployment import paths
from gantry.deployment.engine import project as projects
from gantry.deployment.engine.dynamic import DynamicProvider
from gantry.deployment.engine.executor import Executor, Providers, Reporter
from gantry.deployment.engine.exporting import deployment
from gantry.deployment.engine.monitor import STACK_TYPE, EngineLog, Monitor
from gantry.deployment.engine.plan import Change, Op, Step, removal
from gantry.deployment.engine.state import State, exclusive
from gantry.deployment.engine.values import (
    EngineError,
    Properties,
    UnknownStackError,
    mask,
    reveal,
)


@dataclass(frozen=True)
class Result:
    """What an operation did, or would do. Secrets in steps and outputs bear Pulumi's mark."""

    steps: tuple[Step, ...]
    outputs: Properties
    seconds: float

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.op is not Op.SAME)


@dataclass
class _Session:
    project: projects.Project
    state: State
    executor: Executor


class Engine:
    """One stack of the project in `root`, deployed without the Pulumi CLI."""

    name = "builtin"

    def __init__(
        self,
        stack: str,
        root: Path | None = None,
        config_home: Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.stack = stack
        self.root = (root or paths.project_root()).resolve()
        self.home = config_home or paths.config_home()
        self.reporter = reporter or Reporter()
        self.state_file = state_file(self.home, stack)
        self._monitor: Monitor | None = None
        self.passphrase_file = self.home / "pulumi-passphrase"

    def preview(self) -> Result:
        """What `up` would do. Changes nothing."""
        with self._session() as session:
            started = time.monotonic()
            monitor = self._run(session, preview=True)
            return self._result(monitor.steps, monitor.outputs, started)

    def up(self, refresh: bool = False) -> Result:
        """Make the world as the program says, after a preview that finds what cannot work.

        Raises:
            EngineError: what failed, and why. What was made is in the state.
        """
        with self._session() as session:
            started = time.monotonic()
            for pending in session.state.pending.values():
                self.reporter.message(
                    "warning", f"{pending.type} {pending.resource.name} was interrupted: going on"
                )
            if refresh:
                self._refresh(session)
            self._run(session, preview=True)
            monitor = self._run(session, preview=False)
            return self._result(monitor.steps, monitor.outputs, started)

    def refresh(self) -> Result:
        """Look at every resource and correct the state. Changes nothing in the world."""
        with self._session() as session:
            started = time.monotonic()
            return self._result(self._refresh(session), {}, started)

    def destroy(self) -> Result:
        """Delete everything, but what is to be retained."""
        with self._session() as session:
            started = time.monotonic()
            resources = session.state.everything()
            steps = [removal(resource) for resource in resources]
            with projects.importable(session.project):
                session.executor.abandon(set())
                session.executor.remove_all(resources)
            return self._result(steps, {}, started)

    def outputs(self, show_secrets: bool = False) -> Properties:
        """What the program exported at the last `up`; secrets masked unless asked for."""
        for resource in self._state().resources.values():
            if resource.type == STACK_TYPE:
                shown: Properties = (reveal if show_secrets else mask)(resource.outputs)
                return shown
        raise UnknownStackError(f"stack {self.stack} is not deployed: run `gantry up {self.stack}`")

    def export(self, show_secrets: bool = False) -> dict[str, Any]:
        """A deployment that `pulumi stack import` takes: secrets under the same passphrase.

        Raises:
            EngineError: nothing is deployed, or a step was interrupted.
        """
        return deployment(self._state(), self.stack, self.passphrase_file, show_secrets)

    def _state(self) -> State:
        return State(self.state_file, self.stack, self.passphrase_file)

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        project = projects.load(self.root, self.stack)
        refuse_other_owner(self.home, project.name, self.stack)
        self.state_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(self.state_file.with_suffix(".lock"), self.stack):
            state = self._state()
            host = project.config.get("docker:host") or os.environ.get("DOCKER_HOST")
            dynamic = DynamicProvider(project.name, project.config, project.where)
            providers = Providers(dynamic, host, self._interrupted)
            executor = Executor(state, providers, self.reporter)
            try:
                yield _Session(project, state, executor)
            finally:
                providers.close()

    def _run(self, session: _Session, preview: bool) -> Monitor:
        project, executor = session.project, session.executor
        monitor = self._monitor = Monitor(self.stack, project.name, executor, preview)
        with projects.importable(project):
            projects.run(project, monitor, EngineLog(self.reporter), preview)
            left = monitor.leftovers()
            if not preview:
                executor.abandon(monitor.seen)
                executor.remove_all(left)
        return monitor

    def _interrupted(self) -> bool:
        return self._monitor is not None and self._monitor.interrupted

    def _refresh(self, session: _Session) -> list[Step]:
        state, steps = session.state, []
        with projects.importable(session.project):
            for resource in list(state.resources.values()):
                if not resource.custom or resource.pending_replacement:
                    continue
                found = session.executor.providers.of(resource.type).read(resource)
                if found is None:
                    state.drop(resource)
                    reason = "it is gone"
                    steps.append(Step(Op.DELETE, resource.urn, resource.type, reason=reason))
                    continue
                found = session.executor.marked(found)
                changed = [
                    Change(key, resource.outputs.get(key), value)
                    for key, value in found.outputs.items()
                    if resource.outputs.get(key) != value
                ]
                op = Op.UPDATE if changed or found.inputs != resource.inputs else Op.SAME
                state.put(found)
                steps.append(Step(op, found.urn, found.type, tuple(changed)))
        return steps

    def _result(self, steps: list[Step], outputs: Properties, started: float) -> Result:
        return Result(tuple(steps), outputs, time.monotonic() - started)


def state_file(home: Path, stack: str) -> Path:
    """Where the built-in engine keeps a stack."""
    return home / "engine" / f"{stack}.json"


def refuse_other_owner(home: Path, project: str, stack: str) -> None:
    """
    Raises:
        EngineError: the Pulumi CLI's backend holds resources of this stack.
    """
    folder = home / "state" / ".pulumi" / "stacks"
    for path in (folder / project / f"{stack}.json", folder / f"{stack}.json"):
        if not path.is_file():
            continue
        latest = json.loads(path.read_text()).get("checkpoint", {}).get("latest") or {}
        if any(resource.get("custom") for resource in latest.get("resources") or []):
            raise EngineError(
                f"stack {stack} is deployed with the Pulumi CLI ({path}): go on with it, or remove "
                f"the stack with `gantry destroy {stack} --engine pulumi` first (data volumes stay)"
            )
