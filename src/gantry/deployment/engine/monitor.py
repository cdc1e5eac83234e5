"""The resource monitor that the Pulumi SDK talks to, in its own process.

Method names and messages are those of the ResourceMonitor service
(https://github.com/pulumi/pulumi/blob/master/proto/pulumi/resource.proto). The SDK calls them from
worker threads and goes on with the program meanwhile: so each call may take as long as its step.
"""

import threading
from dataclasses import replace
from typing import Any, NoReturn

from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import engine_pb2, resource_pb2

from gantry.deployment.engine.executor import Executor, Reporter
from gantry.deployment.engine.plan import Op, Step, Verdict, describe, plan, removal
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import (
    EngineError,
    Properties,
    from_struct,
    to_struct,
    with_secrets_of,
)

STACK_TYPE = "pulumi:pulumi:Stack"
Request = resource_pb2.RegisterResourceRequest
# What a registration may hold: the options that are honoured, and what the SDK tells of itself.
# Any other option would be passed over without a word.
OPTIONS = (
    {"additionalSecretOutputs", "aliasURNs", "custom", "deleteBeforeReplace", "dependencies"}
    | {"deleteBeforeReplaceDefined", "name", "object", "parent", "propertyDependencies", "protect"}
    | {"retainOnDelete", "type", "acceptResources", "acceptSecrets", "sourcePosition", "stackTrace"}
    | {"supportsPartialValues", "supportsResultReporting", "version"}
)


class StoppedError(EngineError):
    """The operator wants no further step."""


class Monitor:
    """Plans each resource as the program registers it, and applies it unless this is a preview."""

    def __init__(self, stack: str, project: str, executor: Executor, preview: bool) -> None:
        self._prefix = f"urn:pulumi:{stack}::{project}::"
        self._executor = executor
        self._state = executor.state
        self._preview = preview
        self._lock = threading.Lock()
        self.seen: set[str] = set()
        self._cleared: set[str] = set()
        self.steps: list[Step] = []
        self.outputs: Properties = {}
        self.failures: list[str] = []
        self.stopping = False
        """No further step is begun."""
        self.interrupted = False
        """The running ones are not waited for longer than they must."""

    def GetDeploymentInfo(self, _request: empty_pb2.Empty) -> resource_pb2.DeploymentInfo:  # noqa: N802
        secrets = resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS
        return resource_pb2.DeploymentInfo(dryRun=self._preview, supportedFeatures=[secrets])

    def SignalAndWaitForShutdown(self, _request: empty_pb2.Empty) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()

    def RegisterResource(self, request: Request) -> resource_pb2.RegisterResourceResponse:  # noqa: N802
        try:
            resource = self._register(request)
        except StoppedError:
            raise
        except EngineError as error:
            with self._lock:
                self.failures.append(str(error))
            raise
        return resource_pb2.RegisterResourceResponse(
            urn=resource.urn, id=resource.id, object=to_struct(resource.outputs)
        )

    def RegisterResourceOutputs(  # noqa: N802
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> empty_pb2.Empty:
        outputs = from_struct(request.outputs)
        if request.urn.split("::")[2] == STACK_TYPE:
            self.outputs = outputs
        if not self._preview:
            self._state.put(replace(self._state.resources[request.urn], outputs=outputs))
        return empty_pb2.Empty()

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> NoReturn:  # noqa: N802
        what = "a stack reference" if request.type.endswith("StackReference") else "reading"
        self._refuse(f"{request.type} {request.name}: {what}")

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> NoReturn:  # noqa: N802
        self._refuse(f"function {request.tok}")

    def __getattr__(self, name: str) -> Any:
        if not name[0].isupper():
            raise AttributeError(name)
        return lambda _request: self._refuse(f"the request {name}")

    def _refuse(self, what: str) -> NoReturn:
        message = f"{what} is not supported by the built-in engine: deploy with the Pulumi CLI"
        with self._lock:
            self.failures.append(message)
        raise EngineError(message)

    def _urn(self, request: Request) -> str:
        parent = request.parent.split("::")[2] if request.parent else STACK_TYPE
        qualified = request.type if parent == STACK_TYPE else f"{parent}${request.type}"
        return f"{self._prefix}{qualified}::{request.name}"

    def _register(self, request: Request) -> Resource:
        if self.stopping:
            raise StoppedError("stopped before it was begun")
        # The SDK sends some messages empty, whose text is empty then.
        given = {field.name for field, value in request.ListFields() if str(value)}
        if wrong := sorted(given - OPTIONS):
            raise EngineError(
                f"{request.type} {request.name}: option {', '.join(wrong)} is not supported by the "
                "built-in engine: leave it out, or deploy with the Pulumi CLI"
            )
        new = self._resource(request)
        with self._lock:
            if new.urn in self.seen:
                raise EngineError(f"{describe(new)} is registered twice: give each its own name")
            self.seen.add(new.urn)
        old = self._find(new, list(request.aliasURNs))
        if not request.custom:
            return self._component(new, old)
        provider = self._executor.providers.of(request.type)
        checked = provider.check(request.name, old.inputs if old else {}, new.inputs)
        new = replace(new, inputs=checked)
        if old and self._was(new.urn, "deleting") and provider.read(old) is None:
            old = replace(old, pending_replacement=True)
        stays = old and not old.pending_replacement
        verdict = provider.diff(old, checked) if old and stays else Verdict(changed=True)
        first = request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None
        step = plan(old, new, verdict, first)
        if step.op is Op.SAME and self._was(new.urn, "updating"):
            step = replace(step, op=Op.UPDATE, reason="an update of it was interrupted")
        self._note(step)
        if self._preview:
            if step.op is Op.REPLACE and step.delete_first and old:
                self._cleared |= {r.urn for r in self._executor.hang_on(old)}
            return _foreseen(step, old, new)
        return self._executor.apply(step, old, new, provider)

    def _resource(self, request: Request) -> Resource:
        return Resource(
            urn=self._urn(request),
            type=request.type,
            custom=request.custom,
            inputs=from_struct(request.object),
            parent=request.parent,
            dependencies=tuple(sorted(request.dependencies)),
            property_dependencies={
                key: sorted(value.urns)
                for key, value in sorted(request.propertyDependencies.items())
                if value.urns
            },
            protect=request.protect,
            retain_on_delete=request.retainOnDelete,
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
        )

    def _find(self, new: Resource, aliases: list[str]) -> Resource | None:
        """The resource in the state, under its URN or one that it had before."""
        for urn in [new.urn, *aliases]:
            if old := self._state.resources.get(urn):
                with self._lock:
                    self.seen.add(urn)
                gone = old.pending_replacement or urn in self._cleared
                old_named = replace(old, urn=new.urn, pending_replacement=gone)
                if urn != new.urn and not self._preview:
                    self._state.rename(urn, old_named)
                return old_named
        return None

    def _component(self, new: Resource, old: Resource | None) -> Resource:
        self._note(Step(Op.SAME if old else Op.CREATE, new.urn, new.type))
        kept = replace(new, inputs={}, outputs=old.outputs if old else {})
        if not self._preview:
            self._state.put(kept)
        return replace(new, outputs={})

    def _was(self, urn: str, kind: str) -> bool:
        """Whether a step of this kind was interrupted."""
        pending = self._executor.begun.get(urn)
        return pending is not None and pending.type == kind

    def _note(self, step: Step) -> None:
        with self._lock:
            self.steps.append(step)

    def leftovers(self) -> list[Resource]:
        """What the program did not register any more, and what was replaced: to be deleted.

        Raises:
            EngineError: one of them is protected.
        """
        left = [r for r in self._state.everything() if r.delete or r.urn not in self.seen]
        self.steps += [removal(resource) for resource in left if not resource.delete]
        return left


class EngineLog:
    """The part of the Engine service that a program uses: its messages."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.errors = 0

    def Log(self, request: engine_pb2.LogRequest) -> empty_pb2.Empty:  # noqa: N802
        severity = engine_pb2.LogSeverity.Name(request.severity).lower()
        if severity != "debug":
            self._reporter.message(severity, request.message.strip())
        self.errors += severity == "error"
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, _request: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()


def _foreseen(step: Step, old: Resource | None, new: Resource) -> Resource:
    """What a preview can tell of a resource; the SDK takes what is missing as unknown."""
    outputs = dict(new.inputs)
    if old and (step.op is Op.SAME or (step.op is Op.UPDATE and new.type.startswith("docker:"))):
        outputs = old.outputs | (outputs if step.op is Op.UPDATE else {})
    outputs = with_secrets_of(outputs, new.inputs, new.additional_secret_outputs)
    known = old is not None and step.op in (Op.SAME, Op.UPDATE)
    return replace(new, id=old.id if old and known else "", outputs=outputs)
