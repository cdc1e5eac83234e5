"""The doorway to Docker, and networks and volumes as the pulumi-docker provider makes them.

Property names are those of the pulumi_docker schema; what they become is the Docker Engine API's
(https://docs.docker.com/engine/api/v1.41/). Defaults are the provider's, so that `docker inspect`
shows the same whichever engine deployed.
"""

import json
import re
import secrets
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.provider import Made, Seen
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import (
    UNKNOWN,
    EngineError,
    Properties,
    reveal,
)

POLL_SECONDS = 0.25
IN_USE_SECONDS = 30.0
CLOCK_SLACK_SECONDS = 2.0


class DockerAPI(APIClient):
    """docker-py, and what it has no words for."""

    def tell(self, path: str, body: dict[str, Any]) -> Any:
        """POST a body as it is: docker-py's own calls add defaults that `docker inspect` shows.

        Raises:
            APIError: the engine refused.
        """
        answer = self._post_json(f"{self.base_url}/v{self._version}{path}", body)  # type: ignore[attr-defined]
        self._raise_for_status(answer)  # type: ignore[attr-defined]
        return answer.json() if answer.content else None


def connect(host: str | None) -> DockerAPI:
    """A client of the engine at `host` (a DOCKER_HOST value; None: the default socket).

    Raises:
        EngineError: no engine answers there.
    """
    try:
        return DockerAPI(base_url=host, version="auto", timeout=180)
    except DockerException as error:
        raise EngineError(
            f"no Docker engine at {host or 'its default socket'} ({error}): run `make setup`"
        ) from error


class DockerProvider:
    """What the three types have in common."""

    allowed: frozenset[str]
    defaults: ClassVar[Properties] = {}
    updatable: frozenset[str] = frozenset()
    always_delete_first = False

    def __init__(self, client: DockerAPI, stopping: Callable[[], bool]) -> None:
        self.client = client
        self.stopping = stopping

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        unknown = sorted(set(new) - self.allowed)
        if unknown:
            raise EngineError(
                f"{name}: property {', '.join(unknown)} is not supported by the built-in engine: "
                "leave it out, or deploy with the Pulumi CLI"
            )
        if "name" not in new:
            new = {"name": old.get("name") or f"{name}-{secrets.token_hex(4)[:7]}", **new}
        return self.defaults | new

    def forces(self, property_: str) -> bool:
        return property_ not in self.updatable

    def diff(self, old: Resource, new: Properties) -> Verdict:
        before, after = canonical(reveal(old.inputs)), canonical(reveal(new))
        keys = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        replaces = tuple(sorted(filter(self.forces, keys)))
        named = not str(new["name"]).startswith(f"{old.name}-")
        return Verdict(bool(keys), replaces, self.always_delete_first or named)

    def begun(self, inspected: dict[str, Any], since: float) -> bool:
        """Whether this thing was made by the create of ours that began then."""
        text = re.sub(r"(\.\d{6})\d*", r"\1", inspected["Created"]).replace("Z", "+00:00")
        return datetime.fromisoformat(text).timestamp() >= since - CLOCK_SLACK_SECONDS

    def discard(self, new: Resource, begun: float) -> None:
        """A volume is made whole or not at all, and may hold data: it stays."""

    def update(self, old: Resource, new: Resource) -> Made:
        raise EngineError(f"{old.name}: {old.type} has nothing that can be updated in place")

    def until_free(self, what: str, phrase: str, remove: Callable[[], None]) -> None:
        """Remove something that may still be in use for a moment (`phrase` is the API's)."""
        deadline = time.monotonic() + IN_USE_SECONDS
        while True:
            try:
                return remove()
            except NotFound:
                return None
            except APIError as error:
                if phrase not in str(error.explanation) or time.monotonic() > deadline:
                    raise EngineError(f"{what} cannot be removed: {error.explanation}") from error
            time.sleep(POLL_SECONDS)


class NetworkProvider(DockerProvider):
    allowed = frozenset(
        {"attachable", "driver", "ingress", "internal", "ipamConfigs", "ipamDriver", "ipamOptions"}
        | {"ipv6", "labels", "name", "options"}
    )
    defaults: ClassVar[Properties] = {"ipamDriver": "default"}

    def create(self, new: Resource, begun: float | None) -> Made:
        wanted = reveal(new.inputs)
        if begun is not None:
            self.discard(new, begun)
        try:
            identity = self.client.tell("/networks/create", _network(wanted))["Id"]
        except APIError as error:
            hint = ""
            if error.status_code == 409:
                hint = f": remove it (`docker network rm {wanted['name']}`) or choose another name"
            raise EngineError(f"network {wanted['name']}: {error.explanation}{hint}") from error
        return Made(identity, self._outputs(new.inputs, self.client.inspect_network(identity)))

    def discard(self, new: Resource, begun: float) -> None:
        name = reveal(new.inputs)["name"]
        for left in self.client.networks(names=[name]):
            if left["Name"] == name and self.begun(left, begun):
                self.client.remove_network(left["Id"])

    def delete(self, old: Resource) -> None:
        def remove() -> None:
            self.client.remove_network(old.id)

        self.until_free(f"network {old.outputs.get('name')}", "has active endpoints", remove)

    def read(self, old: Resource) -> Seen | None:
        try:
            return Seen(old.inputs, self._outputs(old.inputs, self.client.inspect_network(old.id)))
        except NotFound:
            return None

    def _outputs(self, inputs: Properties, found: dict[str, Any]) -> Properties:
        pools = [
            {
                "subnet": pool.get("Subnet", ""),
                "ipRange": pool.get("IPRange", ""),
                "gateway": pool.get("Gateway", ""),
                "auxAddress": pool.get("AuxiliaryAddresses") or {},
            }
            for pool in found["IPAM"]["Config"] or []
        ]
        return inputs | {
            "driver": found["Driver"],
            "internal": found["Internal"],
            "options": found["Options"] or {},
            "scope": found["Scope"],
            "ipamConfigs": pools,
        }


def _network(wanted: Properties) -> dict[str, Any]:
    pools = [
        {
            "Subnet": pool.get("subnet", ""),
            "IPRange": pool.get("ipRange", ""),
            "Gateway": pool.get("gateway", ""),
            "AuxiliaryAddresses": pool.get("auxAddress", {}),
        }
        for pool in wanted.get("ipamConfigs", [])
    ]
    ipam = {"Driver": wanted["ipamDriver"], "Options": wanted.get("ipamOptions"), "Config": pools}
    return {
        "Name": wanted["name"],
        "CheckDuplicate": True,
        "Driver": wanted.get("driver", ""),
        "Labels": labels(wanted),
        "Options": wanted.get("options"),
        "Internal": wanted.get("internal", False),
        "Attachable": wanted.get("attachable", False),
        "Ingress": wanted.get("ingress", False),
        "EnableIPv6": wanted.get("ipv6", False),
        "IPAM": ipam,
    }


class VolumeProvider(DockerProvider):
    allowed = frozenset({"driver", "driverOpts", "labels", "name"})

    def create(self, new: Resource, begun: float | None) -> Made:
        wanted = reveal(new.inputs)
        body = {
            "Name": wanted["name"],
            "Driver": wanted.get("driver"),
            "DriverOpts": wanted.get("driverOpts"),
            "Labels": labels(wanted),
        }
        found = self.client.tell("/volumes/create", {k: v for k, v in body.items() if v})
        return Made(found["Name"], self._outputs(new.inputs, found))

    def delete(self, old: Resource) -> None:
        def remove() -> None:
            self.client.remove_volume(old.id, force=True)

        self.until_free(f"volume {old.id}", "volume is in use", remove)

    def read(self, old: Resource) -> Seen | None:
        try:
            return Seen(old.inputs, self._outputs(old.inputs, self.client.inspect_volume(old.id)))
        except NotFound:
            return None

    def _outputs(self, inputs: Properties, found: dict[str, Any]) -> Properties:
        return inputs | {"driver": found["Driver"], "mountpoint": found["Mountpoint"]}


class EndpointProvider:
    """An explicit `pulumi_docker.Provider`: where the Docker engine is."""

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        if wrong := sorted(set(new) - {"host", "version"}):
            raise EngineError(
                f"provider {name}: property {', '.join(wrong)} is not supported by the built-in "
                "engine: set host alone, or deploy with the Pulumi CLI"
            )
        return new

    def diff(self, old: Resource, new: Properties) -> Verdict:
        return Verdict(reveal(old.inputs) != reveal(new))

    def forces(self, property_: str) -> bool:
        return False

    def create(self, new: Resource, begun: float | None) -> Made:
        return Made(str(uuid.uuid4()), new.inputs)

    def discard(self, new: Resource, begun: float) -> None:
        """There is nothing to discard."""

    def update(self, old: Resource, new: Resource) -> Made:
        return Made(old.id, new.inputs)

    def delete(self, old: Resource) -> None:
        """There is nothing to delete."""

    def read(self, old: Resource) -> Seen | None:
        return Seen(old.inputs, old.outputs)


def labels(inputs: Properties) -> dict[str, str] | None:
    """Labels as the API takes them; none is not the same as an empty set."""
    return {entry["label"]: entry["value"] for entry in inputs.get("labels", [])} or None


ORDERED = frozenset({"command", "entrypoints", "tests", "ports"})


def canonical(value: Any, key: str = "") -> Any:
    """The value with lists sorted whose order means nothing, and empty ones left out."""
    if isinstance(value, dict):
        inner = {k: canonical(v, k) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v not in ([], {}, None)}
    if isinstance(value, list):
        items = [canonical(item) for item in value]
        return items if key in ORDERED or UNKNOWN in value else sorted(items, key=_order)
    return value


def _order(value: Any) -> str:
    """The same for equal mappings, whatever order their keys arrived in."""
    return json.dumps(value, sort_keys=True, default=repr)
