"""The doorway to Docker, and networks and volumes as the pulumi-docker provider makes them.

Property names are those of the pulumi_docker schema; what they become is the Docker Engine API's
(https://docs.docker.com/engine/api/v1.41/). Defaults are the provider's, so that `docker inspect`
shows the same whichever engine deployed.
"""

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import UNKNOWN, EngineError, Properties, reveal

Inputs = Mapping[str, frozenset[str]]
"""The supported properties; of one that holds blocks, the keys of a block."""
PLAIN: frozenset[str] = frozenset()
LABELS = {"labels": frozenset({"label", "value"})}

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


class DockerProvider(ABC):
    """What the three types have in common. Every object is named by the program."""

    inputs: ClassVar[Inputs]
    defaults: ClassVar[Properties] = {}
    updatable: frozenset[str] = frozenset()

    def __init__(self, client: DockerAPI, stopping: Callable[[], bool]) -> None:
        self.client = client
        self.stopping = stopping

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        if wrong := sorted(set(self._unsupported(reveal(new)))):
            raise EngineError(
                f"{name}: property {', '.join(wrong)} is not supported by the built-in engine: "
                "leave it out, or deploy with the Pulumi CLI"
            )
        if "name" not in new:
            raise EngineError(f"{name}: give it a name: the built-in engine makes up none")
        return self.defaults | new

    def _unsupported(self, given: Properties) -> Iterator[str]:
        for key, value in given.items():
            if key not in self.inputs:
                yield key
            elif keys := self.inputs[key]:
                blocks = value if isinstance(value, list) else [value]
                inner = {each for block in blocks if isinstance(block, dict) for each in block}
                yield from (f"{key}.{each}" for each in inner - keys)

    def forces(self, property_: str) -> bool:
        return property_ not in self.updatable

    def diff(self, old: Resource, new: Properties) -> Verdict:
        before, after = canonical(reveal(old.inputs)), canonical(reveal(new))
        keys = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        # Names are fixed, so the old one has to go before the new one can be made.
        return Verdict(bool(keys), tuple(sorted(filter(self.forces, keys))), delete_first=True)

    def begun(self, inspected: dict[str, Any], since: float) -> bool:
        """Whether this thing was made by the create of ours that began then."""
        text = re.sub(r"(\.\d{6})\d*", r"\1", inspected["Created"]).replace("Z", "+00:00")
        return datetime.fromisoformat(text).timestamp() >= since - CLOCK_SLACK_SECONDS

    def update(self, old: Resource, new: Resource) -> Resource:
        raise EngineError(f"{old.name}: {old.type} has nothing that can be updated in place")

    def read(self, old: Resource) -> Resource | None:
        try:
            return self.found(old)
        except NotFound:
            return None

    @abstractmethod
    def found(self, resource: Resource) -> Resource:
        """The resource with its outputs: with fewer, a stack that is moved to the Pulumi CLI
        would be replaced there.

        Raises:
            NotFound: it is gone.
        """

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
    inputs = dict.fromkeys(("driver", "internal", "name"), PLAIN) | LABELS
    defaults: ClassVar[Properties] = {"ipamDriver": "default"}

    def create(self, new: Resource, begun: float | None) -> Resource:
        wanted = reveal(new.inputs)
        if begun is not None:
            self.discard(new, begun)
        body = {
            "Name": wanted["name"],
            "CheckDuplicate": True,
            "Driver": wanted.get("driver", ""),
            "Labels": labels(wanted),
            "Internal": wanted.get("internal", False),
            "IPAM": {"Driver": wanted["ipamDriver"]},
        }
        try:
            identity = self.client.tell("/networks/create", body)["Id"]
        except APIError as error:
            hint = ""
            if error.status_code == 409:
                hint = f": remove it (`docker network rm {wanted['name']}`) or choose another name"
            raise EngineError(f"network {wanted['name']}: {error.explanation}{hint}") from error
        return self.found(replace(new, id=identity))

    def discard(self, new: Resource, begun: float) -> None:
        name = reveal(new.inputs)["name"]
        for left in self.client.networks(names=[name]):
            if left["Name"] == name and self.begun(left, begun):
                self.client.remove_network(left["Id"])

    def delete(self, old: Resource) -> None:
        remove = partial(self.client.remove_network, old.id)
        self.until_free(f"network {old.outputs.get('name')}", "has active endpoints", remove)

    def found(self, resource: Resource) -> Resource:
        found = self.client.inspect_network(resource.id)
        seen = {
            "driver": found["Driver"],
            "internal": found["Internal"],
            "options": found["Options"] or {},
        }
        return replace(resource, outputs=resource.inputs | seen)


class VolumeProvider(DockerProvider):
    inputs: ClassVar[Inputs] = {"name": PLAIN} | LABELS

    def create(self, new: Resource, begun: float | None) -> Resource:
        wanted = reveal(new.inputs)
        body = {"Name": wanted["name"], "Labels": labels(wanted)}
        self.client.tell("/volumes/create", body)
        return self.found(replace(new, id=wanted["name"]))

    def discard(self, new: Resource, begun: float) -> None:
        """A volume is made whole or not at all, and may hold data: it stays."""

    def delete(self, old: Resource) -> None:
        remove = partial(self.client.remove_volume, old.id, force=True)
        self.until_free(f"volume {old.id}", "volume is in use", remove)

    def found(self, resource: Resource) -> Resource:
        self.client.inspect_volume(resource.id)
        return replace(resource, outputs=resource.inputs)


def labels(inputs: Properties) -> dict[str, str] | None:
    """Labels as the API takes them; none is not the same as an empty set."""
    return {entry["label"]: entry["value"] for entry in inputs.get("labels", [])} or None


ORDERED = frozenset({"tests", "ports"})


def canonical(value: Any, key: str = "") -> Any:
    """The value with lists sorted whose order means nothing, and what is empty or false left out.

    To the provider, that is the same as not set.
    """
    if isinstance(value, dict):
        inner = {k: canonical(v, k) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v not in ([], {}, None, False)}
    if isinstance(value, list):
        items = [canonical(item) for item in value]
        return items if key in ORDERED or UNKNOWN in value else sorted(items, key=_order)
    return value


def _order(value: Any) -> str:
    """The same for equal mappings, whatever order their keys arrived in."""
    return json.dumps(value, sort_keys=True, default=repr)
