"""What is in the engine now, as far as it is this supervisor's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gantry.contracts.bundle import canonical_reference
from gantry.supervisor.desired import Label

_EXIT_CODE = re.compile(r"^(?:Exited|Restarting) \((\d+)\)")
_HEALTH = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)")


class ContainerState(StrEnum):
    """The engine's states of a container."""

    CREATED = "created"
    RUNNING = "running"
    RESTARTING = "restarting"
    PAUSED = "paused"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"

    @property
    def is_up(self) -> bool:
        """Whether the engine keeps it going."""
        return self in (ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.PAUSED)


class Health(StrEnum):
    """What a container's health check says."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this supervisor. `created` is in seconds since the epoch; `restart` is its
    policy, such as `on-failure:3`, `depends_on` the services that it needs, and `boot` the host's
    boot that it was made in, if it is to start after another one only: all as its labels have them.
    """

    id: str
    name: str
    app_id: int
    service: str
    commit: str
    config_hash: str
    state: ContainerState
    exit_code: int | None = None
    health: Health = Health.NONE
    image: str = ""
    service_id: int | None = None
    image_id: int | None = None
    release_id: int | None = None
    created: int = 0
    restart: str = "always"
    depends_on: tuple[str, ...] = ()
    boot: str = ""

    @property
    def can_start(self) -> bool:
        """Whether it only has to be started."""
        if self.state is ContainerState.CREATED:
            return not self.boot
        return self.state is ContainerState.EXITED


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image: every name that it is known by, and whether any container at all uses it."""

    id: str
    references: tuple[str, ...]
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class EngineNetwork:
    """A network of this supervisor."""

    id: str
    name: str
    app_id: int
    config_hash: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What the planner may remove once nothing wants it: names of images and of volumes."""

    images: frozenset[str] = field(default_factory=frozenset)
    volumes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class CurrentState:
    """All that the planner looks at. `handed_over` are ids of containers to which an older one of
    their service has handed over, or for which its time to do so is over."""

    containers: tuple[Container, ...] = ()
    images: tuple[EngineImage, ...] = ()
    networks: tuple[EngineNetwork, ...] = ()
    volumes: frozenset[str] = field(default_factory=frozenset)
    handed_over: frozenset[str] = field(default_factory=frozenset)

    def of_service(self, app_id: int, service: str) -> tuple[Container, ...]:
        """The containers of one service."""
        return tuple(
            each for each in self.containers if (each.app_id, each.service) == (app_id, service)
        )

    def references(self) -> frozenset[str]:
        """Every name of every image that is here."""
        return frozenset(name for image in self.images for name in image.references)


def read_container(document: Mapping[str, Any]) -> Container:
    """A container from the engine's list (`GET /containers/json`)."""
    labels = document.get("Labels") or {}
    names = document.get("Names") or [""]
    name = str(names[0]).lstrip("/")
    status = str(document.get("Status", ""))
    exit_code = _EXIT_CODE.match(status)
    health = _HEALTH.search(status)
    parts = name.rsplit("_", 4)
    app_id = str(labels.get(Label.APP_ID, ""))
    service_id = str(labels.get(Label.SERVICE_ID, ""))
    return Container(
        id=str(document["Id"]),
        name=name,
        app_id=int(app_id) if app_id.isdecimal() else -1,
        service=str(labels.get(Label.SERVICE_NAME, "")),
        # The name is newer than the label once a new release left the container as it was.
        commit=parts[3] if len(parts) == 5 else str(labels.get(Label.RELEASE, "")),
        config_hash=str(labels.get(Label.CONFIG_HASH, "")),
        state=ContainerState(document.get("State", "dead")),
        exit_code=int(exit_code[1]) if exit_code else None,
        health=Health(health[1]) if health else Health.NONE,
        image=canonical_reference(str(document.get("Image", ""))),
        service_id=int(service_id) if service_id.isdecimal() else None,
        image_id=int(parts[1]) if len(parts) == 5 and parts[1].isdecimal() else None,
        release_id=int(parts[2]) if len(parts) == 5 and parts[2].isdecimal() else None,
        created=int(document.get("Created") or 0),
        restart=str(labels.get(Label.RESTART) or "always"),
        depends_on=tuple(str(labels.get(Label.DEPENDS_ON) or "").split()),
        boot=str(labels.get(Label.BOOT) or ""),
    )


def read_network(document: Mapping[str, Any]) -> EngineNetwork:
    """A network from the engine's list (`GET /networks`)."""
    labels = document.get("Labels") or {}
    app_id = str(labels.get(Label.APP_ID, ""))
    return EngineNetwork(
        id=str(document["Id"]),
        name=str(document["Name"]),
        app_id=int(app_id) if app_id.isdecimal() else -1,
        config_hash=str(labels.get(Label.CONFIG_HASH, "")),
    )


def read_image(document: Mapping[str, Any], used: frozenset[str]) -> EngineImage:
    """An image from the engine's list (`GET /images/json`); `used` are ids of images in use."""
    image = str(document["Id"])
    # What came by bundle or delta has its digest in a tag.
    tags = [canonical_reference(each) for each in document.get("RepoTags") or []]
    tagged = {each.partition("@")[0] for each in tags if "@" in each}
    # containerd's store makes one more name of each tag, with the digest of what it holds.
    digests = [
        each
        for each in document.get("RepoDigests") or []
        if each.partition("@")[2] != image or each.partition("@")[0] not in tagged
    ]
    names = dict.fromkeys((*digests, *tags))
    return EngineImage(
        id=image,
        references=tuple(each for each in names if each[:6] != "<none>"),
        in_use=str(document["Id"]) in used,
    )
