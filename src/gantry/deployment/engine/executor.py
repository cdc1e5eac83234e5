"""Carries out steps, keeps the state, tells the reporter. Decides nothing: plan.py does."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace

from docker.errors import APIError, DockerException

from gantry.deployment.engine.containers import ContainerProvider
from gantry.deployment.engine.docker import DockerAPI, NetworkProvider, VolumeProvider, connect
from gantry.deployment.engine.dynamic import PREFIX, DynamicProvider
from gantry.deployment.engine.plan import Op, Step, dependents, describe, removal
from gantry.deployment.engine.provider import Provider
from gantry.deployment.engine.state import Resource, State
from gantry.deployment.engine.values import EngineError, with_secrets_of

DELETIONS_AT_ONCE = 8

DOCKER: dict[str, type[NetworkProvider | VolumeProvider | ContainerProvider]] = {
    "docker:index/network:Network": NetworkProvider,
    "docker:index/volume:Volume": VolumeProvider,
    "docker:index/container:Container": ContainerProvider,
}


class Reporter:
    """Hears what happens, from several threads. This one says nothing."""

    def begin(self, step: Step) -> None: ...

    def end(self, step: Step, seconds: float, error: str | None) -> None: ...

    def message(self, severity: str, text: str) -> None: ...


class Providers:
    """Finds what makes a resource of a type; refuses every other type by name."""

    def __init__(
        self, dynamic: DynamicProvider, host: str | None, stopping: Callable[[], bool]
    ) -> None:
        self._dynamic = dynamic
        self._host = host
        self._stopping = stopping
        self._client: DockerAPI | None = None
        self._lock = threading.Lock()

    def of(self, type_: str) -> Provider:
        """
        Raises:
            EngineError: the built-in engine does not know the type.
        """
        if type_.startswith(PREFIX):
            return self._dynamic
        if type_ not in DOCKER:
            known = ", ".join(name.rsplit(":", 1)[1] for name in DOCKER)
            raise EngineError(
                f"resource type {type_} is not supported by the built-in engine (it knows docker "
                f"{known} and dynamic resources): deploy with the Pulumi CLI, or leave it out"
            )
        with self._lock:
            self._client = self._client or connect(self._host)
        return DOCKER[type_](self._client, self._stopping)

    def close(self) -> None:
        if self._client:
            self._client.close()


class Executor:
    """Applies steps to the world and to the state."""

    def __init__(self, state: State, providers: Providers, reporter: Reporter) -> None:
        self.state = state
        self.providers = providers
        self.reporter = reporter
        self.begun = dict(state.pending)
        self._clearing = threading.Lock()

    def apply(
        self, step: Step, old: Resource | None, new: Resource, provider: Provider
    ) -> Resource:
        """Carry out a step for a registered resource; answers what it is now.

        Raises:
            EngineError: it failed. What was made is in the state.
        """
        if step.op is Op.SAME and old:
            new = self.marked(replace(new, id=old.id, outputs=old.outputs))
            self.state.put(new)
            return new
        with self._reported(step):
            if step.op is Op.UPDATE and old:
                with self.state.step(new, "updating"):
                    return self._keep(provider.update(old, new))
            if step.op is Op.REPLACE and step.delete_first and old and not old.pending_replacement:
                self._clear_way(old, provider)
            began = self.begun.get(new.urn)
            with self.state.step(new, "creating"):
                made = provider.create(new, began.since if began else None)
                if step.op is Op.REPLACE and old and not step.delete_first:
                    self.state.doom(old)
                return self._keep(made)

    def marked(self, resource: Resource) -> Resource:
        """The resource with its secret outputs marked as such."""
        also = resource.additional_secret_outputs
        return replace(resource, outputs=with_secrets_of(resource.outputs, resource.inputs, also))

    def _keep(self, made: Resource) -> Resource:
        made = self.marked(made)
        self.state.put(made)
        if made.init_errors:
            raise EngineError(made.init_errors[0])
        return made

    def _clear_way(self, old: Resource, provider: Provider) -> None:
        """Delete a resource ahead of its replacement, and before it those that hang on it."""
        with self._clearing:
            for resource in self.hang_on(old):
                reason = f"{old.name} is replaced"
                step = Step(Op.DELETE, resource.urn, resource.type, reason=reason)
                owner = self.providers.of(resource.type)
                with self._reported(step), self.state.step(resource, "deleting"):
                    self._delete(resource, owner)
            with self.state.step(old, "deleting"):
                self._delete(old, provider)

    def hang_on(self, old: Resource) -> list[Resource]:
        """Those that must be deleted before this one is, and made anew after it.

        Raises:
            EngineError: one of them is protected.
        """

        def forces(resource: Resource, property_: str) -> bool:
            return self.providers.of(resource.type).forces(property_)

        alive = [r for r in self.state.resources.values() if not r.pending_replacement]
        found = dependents(old.urn, alive, forces)
        for resource in found:
            removal(resource)
        return found

    def _delete(self, resource: Resource, provider: Provider) -> None:
        if not resource.retain_on_delete:
            provider.delete(resource)
        self.state.put(replace(resource, pending_replacement=True))

    def abandon(self, wanted: set[str]) -> None:
        """Discard what interrupted creates left behind and nobody wants any more."""
        for urn, pending in self.begun.items():
            if urn in self.state.pending and urn not in wanted:
                if pending.type == "creating":
                    resource = pending.resource
                    provider = self.providers.of(resource.type)
                    provider.discard(resource, pending.since)
                self.state.settle(urn)

    def remove_all(self, resources: Iterable[Resource]) -> None:
        """Delete resources, each after all that need it; independent ones side by side.

        Raises:
            EngineError: at least one could not be deleted; the others that could be, are.
        """
        remaining = list(resources)
        running: dict[Future[None], Resource] = {}
        errors: list[str] = []
        with ThreadPoolExecutor(DELETIONS_AT_ONCE) as pool:
            while remaining or running:
                left = [*remaining, *running.values()]
                free = [
                    r
                    for r in remaining
                    if not any(r.urn in other.needs for other in left if other is not r)
                ]
                if not errors:
                    for resource in free:
                        running[pool.submit(self._remove, resource)] = resource
                    remaining = [r for r in remaining if not any(r is done for done in free)]
                if not running:
                    break
                # On Ctrl-C the wait is left, and the pool's end waits for what runs.
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    running.pop(future)
                    if error := future.exception():
                        errors.append(str(error))
        if errors:
            raise EngineError("\n".join(errors))

    def _remove(self, resource: Resource) -> None:
        step = removal(resource)
        with self._reported(step):
            if step.op is Op.DELETE and resource.custom:
                provider = self.providers.of(resource.type)
                provider.delete(resource)
            self.state.drop(resource)

    @contextmanager
    def _reported(self, step: Step) -> Iterator[None]:
        started = time.monotonic()
        self.reporter.begin(step)
        try:
            yield
        except (EngineError, APIError, DockerException, OSError) as error:
            self.reporter.end(step, time.monotonic() - started, str(error))
            raise EngineError(f"{describe(step)}: {error}") from error
        self.reporter.end(step, time.monotonic() - started, None)
