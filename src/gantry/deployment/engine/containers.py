"""Containers as the pulumi-docker provider makes, changes, finds and removes them."""

import time
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote

from docker.errors import APIError, NotFound

from gantry.deployment.engine.container import CONFIG, HOST, MEBIBYTE, SIZES, Spec, specify
from gantry.deployment.engine.docker import LABELS, PLAIN, POLL_SECONDS, DockerProvider
from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import EngineError, Properties, holds_unknown, reveal

RUNTIME_ONLY = frozenset({"destroyGraceSeconds", "mustRun", "wait", "waitTimeout"})
"""What only the engine looks at."""
UPDATABLE = frozenset({"memory", "memorySwap", "restart"})
"""Changed in a running container by `POST /containers/{id}/update`."""
BLOCKS = {
    "capabilities": frozenset({"adds", "drops"}),
    "devices": frozenset({"containerPath", "hostPath", "permissions"}),
    "healthcheck": frozenset({"interval", "retries", "startPeriod", "tests", "timeout"}),
    "networksAdvanced": frozenset({"aliases", "name"}),
    "ports": frozenset({"external", "internal", "ip", "protocol"}),
    "uploads": frozenset({"content", "file", "permissions"}),
    "volumes": frozenset({"containerPath", "hostPath", "volumeName"}),
}


class ContainerProvider(DockerProvider):
    inputs = (
        dict.fromkeys({*CONFIG, *HOST, *SIZES, *RUNTIME_ONLY, *UPDATABLE}, PLAIN)
        | dict.fromkeys(("logDriver", "logOpts", "name"), PLAIN)
        | BLOCKS
        | LABELS
    )
    defaults: ClassVar[Properties] = {
        "mustRun": True,
        "networkMode": "bridge",
        "removeVolumes": True,
        "restart": "no",
        "start": True,
        "wait": False,
        "waitTimeout": 60,
    }
    updatable = UPDATABLE | RUNTIME_ONLY

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        checked = super().check(name, old, new)
        if not holds_unknown(checked):
            specify(reveal(checked), name)
        return checked

    def diff(self, old: Resource, new: Properties) -> Verdict:
        verdict = super().diff(old, new)
        stopped = reveal(new)["mustRun"] and old.outputs.get("mustRun") is False
        return replace(verdict, changed=verdict.changed or stopped)

    def create(self, new: Resource, begun: float | None) -> Resource:
        wanted = reveal(new.inputs)
        name = wanted["name"]
        spec = specify(wanted, name)
        if begun is not None:
            self.discard(new, begun)
        try:
            path = f"/containers/create?name={quote(name)}"
            identity = self.client.tell(path, spec.body)["Id"]
        except APIError as error:
            other = f"remove it (`docker rm -f {name}`) or choose another name"
            hints = {404: ": build or pull it first", 409: f": it is not of this stack: {other}"}
            hint = hints.get(error.status_code or 0, "")
            raise EngineError(f"container {name}: {error.explanation}{hint}") from error
        try:
            self._prepare(identity, spec)
        except APIError as error:
            # Nothing of it has run: better none than half of one.
            self.client.remove_container(identity, v=True, force=True)
            raise EngineError(f"container {name}: {error.explanation}") from error
        return self._run(replace(new, id=identity))

    def discard(self, new: Resource, begun: float) -> None:
        try:
            left = self.client.inspect_container(reveal(new.inputs)["name"])
        except NotFound:
            return
        if self.begun(left, begun):
            self.client.remove_container(left["Id"], v=True, force=True)

    def _prepare(self, identity: str, spec: Spec) -> None:
        if spec.networks:
            try:
                self.client.disconnect_container_from_network(identity, "bridge")
            except APIError as error:
                if "is not connected to" not in str(error.explanation):
                    raise
        for network, endpoint in spec.networks:
            body = {"Container": identity, "EndpointConfig": endpoint}
            self.client.tell(f"/networks/{quote(network, safe='')}/connect", body)
        if spec.files:
            self.client.put_archive(identity, "/", spec.files)

    def _run(self, resource: Resource) -> Resource:
        """Start it, and wait for its health where that is wanted."""
        wanted = reveal(resource.inputs)
        errors: tuple[str, ...] = ()
        try:
            self.client.start(resource.id)
            if wanted["wait"]:
                self._await_health(resource.id, wanted["name"], wanted["waitTimeout"])
        except APIError as error:
            errors = (f"container {wanted['name']} does not start: {error.explanation}",)
        except EngineError as error:
            errors = (str(error),)
        return replace(self.found(resource), init_errors=errors)

    def _await_health(self, identity: str, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            state = self.client.inspect_container(identity)["State"]
            health = state.get("Health")
            if not health:
                raise EngineError(
                    f"container {name} is to be waited for but has no health check: "
                    "give it one, or take `wait` away"
                )
            if health["Status"] == "healthy":
                return
            if time.monotonic() > deadline or self.stopping():
                waited = seconds - max(0.0, deadline - time.monotonic())
                said = "".join(e["Output"].strip() for e in (health.get("Log") or [])[-1:])
                raise EngineError(
                    f"container {name} is {health['Status']} and {state['Status']} after "
                    f"{waited:.0f} s{': ' if said else ''}{said[-300:]}; see `docker logs {name}`"
                )
            time.sleep(POLL_SECONDS)

    def update(self, old: Resource, new: Resource) -> Resource:
        wanted, before = reveal(new.inputs), reveal(old.inputs)
        resource = replace(new, id=old.id)
        if any(wanted.get(key) != before.get(key) for key in UPDATABLE):
            host = specify(wanted, new.name).body["HostConfig"]
            body = {key: host[key] for key in ("RestartPolicy", *SIZES.values()) if key in host}
            try:
                self.client.tell(f"/containers/{old.id}/update", body)
            except APIError as error:
                raise EngineError(f"container {wanted['name']}: {error.explanation}") from error
        return self._run(resource) if wanted["mustRun"] else self.found(resource)

    def delete(self, old: Resource) -> None:
        settings = reveal(old.inputs)
        try:
            self.client.stop(old.id, timeout=settings.get("destroyGraceSeconds", 0))
            self.client.remove_container(old.id, v=True, force=True)
        except NotFound:
            return
        except APIError as error:
            if "is already in progress" not in str(error.explanation):
                raise EngineError(
                    f"container {settings['name']} cannot be removed: {error.explanation}"
                ) from error

    def read(self, old: Resource) -> Resource | None:
        now = super().read(old)
        if now is None:
            return None
        # Not memorySwap: a kernel that does not count swap never has what was asked for.
        drifted = {
            key: now.outputs[key]
            for key in ("memory", "restart")
            if key in old.inputs and now.outputs[key] != reveal(old.inputs[key])
        }
        return replace(now, inputs=old.inputs | drifted)

    def found(self, resource: Resource) -> Resource:
        found = self.client.inspect_container(resource.id)
        state, config, host = found["State"], found["Config"], found["HostConfig"]
        wanted = reveal(resource.inputs)
        seen = {
            "containerReadRefreshTimeoutMilliseconds": 15000,
            "command": config["Cmd"] or [],
            "entrypoints": config["Entrypoint"] or [],
            "envs": [],
            "memory": host["Memory"] // MEBIBYTE,
            "mustRun": wanted["mustRun"] and (state["Running"] or state["Restarting"]),
            "networkDatas": _networks(found["NetworkSettings"]["Networks"]),
            "restart": host["RestartPolicy"]["Name"] or "no",
        }
        if health := wanted.get("healthcheck"):
            seen["healthcheck"] = {"startInterval": "0s"} | health
        return replace(resource, outputs=resource.inputs | seen)


def _networks(ends: dict[str, Any]) -> list[Properties]:
    return [
        {
            "networkName": name,
            "ipAddress": end["IPAddress"],
            "ipPrefixLength": end["IPPrefixLen"],
            "gateway": end["Gateway"],
            "globalIpv6Address": end["GlobalIPv6Address"],
            "globalIpv6PrefixLength": end["GlobalIPv6PrefixLen"],
            "ipv6Gateway": end["IPv6Gateway"],
            "macAddress": end["MacAddress"],
        }
        for name, end in ends.items()
    ]
