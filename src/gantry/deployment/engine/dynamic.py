"""Dynamic resources of the Pulumi SDK: the provider is in the program's own code.

The calls and their arguments are those of the SDK's pulumi.dynamic.__main__, which is the plugin
that the Pulumi CLI runs: values without secret marks, numbers as float, unknowns as Unknown.
"""

import asyncio
import base64
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import dill  # type: ignore[import-untyped]
from pulumi.dynamic import Config, ConfigureRequest, ResourceProvider
from pulumi.runtime import rpc
from pulumi.runtime._serialization import _deserialize

from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import (
    UNKNOWN,
    EngineError,
    Properties,
    from_struct,
    holds_secret,
    reveal,
    secret,
    to_struct,
)

PREFIX = "pulumi-python:dynamic"
KEY = "__provider"
T = TypeVar("T")


class DynamicProvider:
    """Runs whatever class the resource carries."""

    def __init__(self, project: str, config: dict[str, str], where: Callable[..., str]) -> None:
        self._config = Config(config, project)
        self._where = where
        self._classes: dict[str, ResourceProvider] = {}
        self._lock = threading.Lock()

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        provider = self._provider(name, old if reveal(new[KEY]) == UNKNOWN else new)
        result = self._call(name, "check", lambda: provider.check(_in(old, True), _in(new, True)))
        if result.failures:
            lines = [f"{failure.property}: {failure.reason}" for failure in result.failures]
            raise EngineError(f"{name}: {'; '.join(lines)}")
        checked = self._out(result.inputs)
        marked = {k: secret(v) if holds_secret(new.get(k)) else v for k, v in checked.items()}
        return marked | {KEY: new[KEY]}

    def diff(self, old: Resource, new: Properties) -> Verdict:
        provider = self._provider(old.name, old.outputs if reveal(new[KEY]) == UNKNOWN else new)
        outputs, inputs = _in(old.outputs, True), _in(new, True)
        result = self._call(old.name, "diff", lambda: provider.diff(old.id, outputs, inputs))
        changed = reveal(old.inputs) != reveal(new) if result.changes is None else result.changes
        replaces = tuple(result.replaces or ())
        return Verdict(bool(changed or replaces), replaces, bool(result.delete_before_replace))

    def forces(self, property_: str) -> bool:
        return False

    def create(self, new: Resource, begun: float | None) -> Resource:
        provider, inputs = self._provider(new.name, new.inputs), _in(new.inputs)
        result = self._call(new.name, "create", lambda: provider.create(inputs))
        return replace(new, id=result.id, outputs=self._outputs(new, result.outs))

    def discard(self, new: Resource, begun: float) -> None:
        """The SDK has no word for it: a create that fails must leave nothing."""

    def update(self, old: Resource, new: Resource) -> Resource:
        provider = self._provider(new.name, new.inputs)
        inputs, outputs = _in(new.inputs), _in(old.outputs)
        result = self._call(new.name, "update", lambda: provider.update(old.id, outputs, inputs))
        return replace(new, id=old.id, outputs=self._outputs(new, result.outs))

    def delete(self, old: Resource) -> None:
        provider, outputs = self._provider(old.name, old.outputs), _in(old.outputs)
        self._call(old.name, "delete", lambda: provider.delete(old.id, outputs))

    def read(self, old: Resource) -> Resource | None:
        provider, outputs = self._provider(old.name, old.outputs), _in(old.outputs)
        result = self._call(old.name, "read", lambda: provider.read(old.id, outputs))
        if not result.id:
            return None
        inputs = old.inputs
        if result.inputs is not None:
            inputs = self._outputs(old, result.inputs)
        return replace(old, inputs=inputs, outputs=self._outputs(old, result.outs))

    def _outputs(self, resource: Resource, outs: dict[str, Any] | None) -> Properties:
        return self._out(outs or {}) | {KEY: resource.inputs[KEY]}

    def _out(self, outs: dict[str, Any]) -> Properties:
        loop = asyncio.new_event_loop()
        try:
            return from_struct(loop.run_until_complete(rpc.serialize_properties(outs, {})))
        finally:
            loop.close()

    def _provider(self, name: str, properties: Properties) -> ResourceProvider:
        text = reveal(properties[KEY])
        with self._lock:
            if text not in self._classes:

                def load() -> ResourceProvider:
                    provider: ResourceProvider = dill.loads(base64.b64decode(text))  # noqa: S301
                    return provider

                provider = self._call(name, "load", lambda: _deserialize(load))
                self._call(
                    name, "configure", lambda: provider.configure(ConfigureRequest(self._config))
                )
                self._classes[text] = provider
            return self._classes[text]

    def _call(self, name: str, verb: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except EngineError:
            raise
        except Exception as error:  # the program's own code may raise anything
            raise EngineError(f"{name}: {verb}: {self._where(error)}") from error


def _in(properties: Properties, keep_unknowns: bool = False) -> dict[str, Any]:
    values: dict[str, Any] = rpc.deserialize_properties(
        to_struct(reveal(properties)), keep_unknowns
    )
    return values
