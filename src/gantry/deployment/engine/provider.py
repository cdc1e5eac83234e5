"""What the engine asks of whatever makes resources."""

from typing import Protocol

from gantry.deployment.engine.plan import Verdict
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import Properties


class Provider(Protocol):
    """Values that are passed bear secret marks. Failures are EngineErrors.

    What is made, changed or found comes back as the resource with its id and outputs, and with
    init_errors when it exists but is not as it should be.
    """

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """The new inputs, with defaults, or an error that names the wrong one."""

    def diff(self, old: Resource, new: Properties) -> Verdict: ...

    def forces(self, property_: str) -> bool:
        """Whether a change of this property always replaces the resource."""

    def create(self, new: Resource, begun: float | None) -> Resource:
        """Make it. `begun`: a create that was interrupted had started then (Unix time)."""

    def discard(self, new: Resource, begun: float) -> None:
        """Remove what an interrupted create left behind, if anything."""

    def update(self, old: Resource, new: Resource) -> Resource: ...

    def delete(self, old: Resource) -> None:
        """Remove it; no error if it is gone already."""

    def read(self, old: Resource) -> Resource | None:
        """What it is now, with the inputs that would have made it so, or None if it is gone."""
