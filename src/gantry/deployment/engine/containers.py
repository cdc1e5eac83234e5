"""Containers as the pulumi-docker provider makes, changes, finds and removes them."""

import time
from typing import Any
from urllib.parse import quote, urlencode

from docker.errors import APIError, NotFound

from gantry.deployment.engine.container import RUNTIME_ONLY, UPDATABLE, Spec, specify
from gantry.deployment.engine.docker import POLL_SECONDS, DockerProvider
from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.provider import Made, Seen
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import EngineError, Properties, holds_unknown, reveal

UPDATE_KEYS = ("RestartPolicy", "CpuShares", "CpusetCpus", "Memory", "MemoryReservation")
HEALTHCHECK = {"interval": "0s", "retries": 0, "startInterval": "0s"} | {
    "startPeriod": "0s",
    "timeout": "0s",
}


class ContainerProvider(DockerProvider):
    allowed = Spec.allowed
    defaults = Spec.defaults
    updatable = UPDATABLE | RUNTIME_ONLY
    always_delete_first = True

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        checked = super().check(name, old, new)
        if not holds_unknown(checked):
            specify(reveal(checked), name)
        return checked

    def diff(self, old: Resource, new: Properties) -> Verdict:
        verdict = super().diff(old, new)
        stopped = reveal(new).get("mustRun") is True and old.outputs.get("mustRun") is False
        return Verdict(verdict.changed or stopped, verdict.replaces, verdict.delete_first)

    def create(self, new: Resource, begun: float | None) -> Made:
        wanted = reveal(new.inputs)
        name, platform = wanted["name"], wanted.get("platform")
        spec = specify(wanted, name)
        if begun is not None:
            self.discard(new, begun)
        query = urlencode({k: v for k, v in (("name", name), ("platform", platform)) if v})
        try:
            identity = self.client.tell(f"/containers/create?{query}", spec.body)["Id"]
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
        return self._run(identity, new)

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

    def _run(self, identity: str, new: Resource) -> Made:
        """Start it where it should run, and wait for its health where that is wanted."""
        wanted = reveal(new.inputs)
        errors: tuple[str, ...] = ()
        try:
            if wanted["start"]:
                self.client.start(identity)
                if wanted["wait"]:
                    self._await_health(identity, wanted, new.custom_timeouts)
        except APIError as error:
            errors = (f"container {wanted['name']} does not start: {error.explanation}",)
        except EngineError as error:
            errors = (str(error),)
        outputs = self._outputs(new.inputs, self.client.inspect_container(identity))
        return Made(identity, outputs, errors)

    def _await_health(self, identity: str, wanted: Properties, limits: dict[str, float]) -> None:
        name = wanted["name"]
        seconds = min(wanted["waitTimeout"], limits.get("create", wanted["waitTimeout"]))
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

    def update(self, old: Resource, new: Resource) -> Made:
        wanted, before = reveal(new.inputs), reveal(old.inputs)
        if any(wanted.get(key) != before.get(key) for key in UPDATABLE):
            host = specify(wanted, new.name).body["HostConfig"]
            body = {key: host.get(key, 0) for key in UPDATE_KEYS}
            body |= {"CpusetCpus": host.get("CpusetCpus", "")}
            if "Memory" in host:
                # Twice the memory is what a new container gets when nothing is said.
                body |= {"MemorySwap": host.get("MemorySwap", 2 * host["Memory"])}
            try:
                self.client.tell(f"/containers/{old.id}/update", body)
            except APIError as error:
                raise EngineError(f"container {wanted['name']}: {error.explanation}") from error
        if wanted["mustRun"]:
            return self._run(old.id, new)
        return Made(old.id, self._outputs(new.inputs, self.client.inspect_container(old.id)))

    def delete(self, old: Resource) -> None:
        settings = reveal(old.inputs)
        try:
            if not settings.get("attach"):
                self.client.stop(old.id, timeout=settings.get("destroyGraceSeconds", 0))
            self.client.remove_container(old.id, v=settings.get("removeVolumes", True), force=True)
        except NotFound:
            return
        except APIError as error:
            if "is already in progress" not in str(error.explanation):
                raise EngineError(
                    f"container {settings['name']} cannot be removed: {error.explanation}"
                ) from error

    def read(self, old: Resource) -> Seen | None:
        try:
            found = self.client.inspect_container(old.id)
        except NotFound:
            return None
        host, inputs = found["HostConfig"], dict(old.inputs)
        now = {
            "restart": host["RestartPolicy"]["Name"] or "no",
            "memory": host["Memory"] // 2**20,
            "cpuShares": host["CpuShares"],
            "cpuSet": host["CpusetCpus"],
        }
        for key, value in now.items():
            if reveal(inputs.get(key)) != value and (key in inputs or value):
                inputs[key] = value
        return Seen(inputs, self._outputs(inputs, found))

    def _outputs(self, inputs: Properties, found: dict[str, Any]) -> Properties:
        networks = [
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
            for name, end in found["NetworkSettings"]["Networks"].items()
        ]
        state, config, host = found["State"], found["Config"], found["HostConfig"]
        filled = {
            "containerReadRefreshTimeoutMilliseconds": 15000,
            "hostname": config["Hostname"],
            "command": config["Cmd"] or [],
            "entrypoints": config["Entrypoint"] or [],
            "envs": [],
            "labels": [],
            "logDriver": host["LogConfig"]["Type"],
            "memoryReservation": host["MemoryReservation"] // 2**20,
            "runtime": host["Runtime"],
            "ipcMode": host["IpcMode"],
            "securityOpts": host["SecurityOpt"] or [],
            "shmSize": host["ShmSize"] // 2**20,
        }
        outputs = filled | inputs
        if health := reveal(inputs).get("healthcheck"):
            outputs["healthcheck"] = HEALTHCHECK | health
        if found["NetworkSettings"]["Ports"] and "ports" in inputs:
            outputs["ports"] = _ports(found["NetworkSettings"]["Ports"])
        return outputs | {
            "bridge": found["NetworkSettings"].get("Bridge", ""),
            "networkDatas": networks,
            "mustRun": reveal(inputs)["mustRun"] and (state["Running"] or state["Restarting"]),
            "exitCode": state["ExitCode"],
        }


def _ports(bound: dict[str, Any]) -> list[Properties]:
    """Ports as they really are: one that Docker chose has its number."""
    found: list[Properties] = []
    for key in sorted(bound, key=lambda port: int(port.split("/")[0])):
        internal, protocol = key.split("/")
        for binding in bound[key] or []:
            outside = {"external": int(binding["HostPort"] or 0), "ip": binding["HostIp"]}
            found.append({"internal": int(internal), "protocol": protocol} | outside)
    return found
