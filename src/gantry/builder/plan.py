"""What a pushed tree is resolved to: the typed plan of a build."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gantry.contracts.device_types import Architecture, DeviceType


class RejectedError(Exception):
    """The tree cannot be built as it is; the message is for the person who pushed."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is built for: the application and its device type; `native` is the builder's own."""

    device: DeviceType
    application_id: int
    application: str
    commit: str
    native: Architecture = Architecture.AMD64

    @property
    def architecture(self) -> Architecture:
        return self.device.architecture


@dataclass(frozen=True, slots=True, order=True)
class BaseName:
    """A base image of ours: `gantry/<architecture>-<name>:<tag>`."""

    architecture: Architecture
    name: str

    @property
    def tag(self) -> str:
        return BASE_TAGS[self.name]

    @property
    def reference(self) -> str:
        return f"gantry/{self.architecture}-{self.name}:{self.tag}"


# The bases and their only tags: the versions are Debian 12's.
BASE_TAGS: Mapping[str, str] = {
    "raspios": "bookworm",
    "python": "3.11",
    "node": "18",
    "golang": "1.19",
}


@dataclass(frozen=True, slots=True)
class ServiceBuild:
    """A service that is built.

    `context` is a folder relative to the tree (`.` for the tree itself). `dockerfile` is the path
    of the Dockerfile from the tree's root, or None where `content` holds the whole text (a filled
    template, or a Dockerfile of ours for a language). `contract` is what contract.yml says.
    """

    service: str
    context: str
    dockerfile: str | None
    content: str
    origin: str
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    contract: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ServiceImage:
    """A service whose image is in the fleet's registry already: one of our bases."""

    service: str
    base: BaseName


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All that a push asks for, before anything is done.

    `composition` is normalised: `{"services": …, "volumes": …, "networks": …}` without `build`
    and `image`. `bases` are those that must be there before the first build.
    """

    builds: Sequence[ServiceBuild]
    images: Sequence[ServiceImage]
    bases: Sequence[BaseName]
    composition: Mapping[str, Any]
    warnings: Sequence[str] = ()

    @property
    def services(self) -> list[str]:
        return [each.service for each in self.builds] + [each.service for each in self.images]
