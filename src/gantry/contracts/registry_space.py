"""What the registry holds, why it stays, and what goes: between the api, the collector and people.

Sizes are in bytes, times ISO 8601 in UTC. docs/decisions/0023-registry-space.md says how it works.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from gantry.contracts.delta_space import DeltaSpace

# A release with this tag keeps its images.
KEEP_TAG = "keep"


class RunKind(StrEnum):
    """What a run does: look, look and remove, or free what an earlier one has removed."""

    SURVEY = "survey"
    COLLECT = "collect"
    FREE = "free"


class RunStatus(StrEnum):
    """How far a run is. The first two go on, the others are its end."""

    ORDERED = "ordered"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Nothing more comes of it."""
        return self in (RunStatus.DONE, RunStatus.FAILED)


class Reason(StrEnum):
    """Why an image stays."""

    BUILDING = "a build that runs pushes to its repository"
    TARGET = "a fleet should be running it"
    PINNED = "a device is pinned on it"
    RUNNING = "a device runs it"
    INSTALLED = "a device has it, or downloads it"
    MANAGES = "it manages or operates a device"
    TAGGED = "its release has the tag `keep`"
    LATEST = "it is one of the application's last releases"
    YOUNG = "it is young"
    PLATFORM = "it is the platform's own"
    UNKNOWN = "the api does not know it"
    PART = "it belongs to an image that stays"
    LINGERS = "it belongs to an image that is being removed"


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that the api knows, and why it stays: without reasons it goes.

    `label` names it for people: fleet, service and commits.
    """

    repository: str
    digest: str
    label: str
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "KnownImage":
        reasons = tuple(Reason(each) for each in row["reasons"])
        return cls(str(row["repository"]), str(row["digest"]), str(row["label"]), reasons)


@dataclass(frozen=True, slots=True)
class Order:
    """What a collector is to do. `grace`: how old a blob must be, `linger`: how long those of a
    removed image stay, so that pulls that have begun end; both in seconds."""

    run: int
    kind: RunKind
    grace: int
    linger: int
    # The api's clock when the run began: pushes are told from then on.
    moment: str

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Order":
        return cls(
            int(row["run"]),
            RunKind(row["kind"]),
            int(row["grace"]),
            int(row["linger"]),
            str(row["moment"]),
        )


@dataclass(frozen=True, slots=True)
class ImageSpace:
    """An image in the registry. `size` is of all that it is made of, shared or not."""

    digest: str
    label: str
    size: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositorySpace:
    """A repository: what its images take, and what removing those that go frees of it.

    What two repositories share is counted in both, and freed when the last of them lets it go.
    """

    name: str
    label: str
    size: int
    goes: int
    images: tuple[ImageSpace, ...]

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "RepositorySpace":
        images = tuple(
            ImageSpace(each["digest"], each["label"], each["size"], tuple(each["reasons"]))
            for each in row["images"]
        )
        return cls(row["name"], row["label"], row["size"], row["goes"], images)


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """What a run found, and what it did. Images without reasons go, or have gone.

    `size`: all blobs; `uploads`: unfinished ones, which the registry purges. `images`: those that
    go. `frees`: what can be freed now; `waits`: what is freed later, when pulls of removed images
    have ended. `young`: of no image, but too young to be told from a push. `broken`: manifests
    whose content is missing. `missing`: images that are needed, and not there. After a collection
    `removed` images and `freed` bytes say what it did. All that is without the `deltas`, which are
    None in reports from before they were told of.
    """

    size: int = 0
    uploads: int = 0
    images: int = 0
    frees: int = 0
    waits: int = 0
    young: int = 0
    broken: int = 0
    missing: int = 0
    removed: int = 0
    freed: int = 0
    freed_blobs: int = 0
    # Repositories to which something was pushed meanwhile: they are left for the next run.
    skipped: int = 0
    repositories: tuple[RepositorySpace, ...] = field(default=())
    deltas: DeltaSpace | None = None

    @property
    def going(self) -> list[tuple[str, str]]:
        """Repository and digest of each image that goes."""
        return [
            (repository.name, image.digest)
            for repository in self.repositories
            for image in repository.images
            if not image.reasons
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "SpaceReport":
        """Raises ValueError: it is none. `repositories` may be left out: the short form."""
        figures = {name: int(row[name]) for name in row if name not in ("repositories", "deltas")}
        found = tuple(RepositorySpace.from_json(each) for each in row.get("repositories", ()))
        deltas = row.get("deltas")
        told = None if deltas is None else DeltaSpace.from_json(deltas)
        return cls(**figures, repositories=found, deltas=told)
