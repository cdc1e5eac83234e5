"""What the engine asks of whatever makes resources."""

from dataclasses import dataclass
from typing import Protocol

from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import Properties


@dataclass(frozen=True)
class Made:
    """A resource as it came out. `errors` tell what is still wrong with it."""

    id: str
    outputs: Properties
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A resource as it was found. `inputs` are those that would have made it so."""

    inputs: Properties
    outputs: Properties


class Provider(Protocol):
    """Values that are passed bear secret marks. Failures are EngineErrors."""

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """The new inputs, with defaults, or an error that names the wrong one."""

    def diff(self, old: Resource, new: Properties) -> Verdict: ...

    def forces(self, property_: str) -> bool:
        """Whether a change of this property always replaces the resource."""

    def create(self, new: Resource, begun: float | None) -> Made:
        """Make it. `begun`: a create that was interrupted had started then (Unix time)."""

    def discard(self, new: Resource, begun: float) -> None:
        """Remove what an interrupted create left behind, if anything."""

    def update(self, old: Resource, new: Resource) -> Made: ...

    def delete(self, old: Resource) -> None:
        """Remove it; no error if it is gone already."""

    def read(self, old: Resource) -> Seen | None:
        """What it is now, or None if it is gone."""
