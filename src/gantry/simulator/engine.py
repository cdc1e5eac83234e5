"""An engine that only remembers: what the planner's steps make of it. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from gantry.supervisor.state import (
    Container,
    ContainerState,
    CurrentState,
    EngineImage,
    EngineNetwork,
)
from gantry.supervisor.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FetchImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RenameContainer,
    StartContainer,
    Step,
    StopContainer,
)

# What the supervisor says while it is at such a step.
DOING: dict[type[Step], str] = {
    CreateContainer: "Installing",
    StartContainer: "Starting",
    StopContainer: "Stopping",
}
# Seconds that steps take on a board, from the least to the most; all others take none.
_SECONDS: dict[type[Step], tuple[float, float]] = {
    FetchImage: (10.0, 60.0),
    CreateContainer: (0.2, 1.0),
    StartContainer: (0.2, 1.0),
    StopContainer: (0.2, 10.0),
    RemoveContainer: (0.1, 0.3),
}


def seconds(step: Step, chance: Random) -> float:
    """How long a step takes on one of these devices."""
    least, most = _SECONDS.get(type(step), (0.0, 0.0))
    return chance.uniform(least, most)


def after(current: CurrentState, step: Step) -> CurrentState:
    """What is in the engine once a step has succeeded."""
    match step:
        case FetchImage():
            image = EngineImage(step.reference, (step.reference,))
            return replace(current, images=(*current.images, image))
        case RemoveImage():
            left = (each for each in current.images if step.reference not in each.references)
            return replace(current, images=tuple(left))
        case CreateNetwork():
            made = step.network
            network = EngineNetwork(made.name, made.name, made.app_id, made.config_hash)
            return replace(current, networks=(*current.networks, network))
        case RemoveNetwork():
            kept = (each for each in current.networks if each != step.network)
            return replace(current, networks=tuple(kept))
        case CreateVolume():
            return replace(current, volumes=current.volumes | {step.volume.name})
        case _:
            return _with(current, _containers(current.containers, step))


def _with(current: CurrentState, containers: Iterable[Container]) -> CurrentState:
    """With these containers, and the images that they use in use."""
    here = tuple(containers)
    used = {each.image for each in here}
    images = (replace(each, in_use=not used.isdisjoint(each.references)) for each in current.images)
    return replace(current, containers=here, images=tuple(images))


def _containers(here: tuple[Container, ...], step: Step) -> Iterable[Container]:
    match step:
        case CreateContainer():
            made = step.service
            container = Container(
                id=made.container_name,
                name=made.container_name,
                app_id=made.app_id,
                service=made.service,
                commit=made.commit,
                config_hash=made.config_hash,
                state=ContainerState.CREATED,
                image=made.image,
                service_id=made.service_id,
            )
            return (*here, container)
        case StartContainer():
            name = step.service.container_name
            return (
                replace(each, state=ContainerState.RUNNING) if each.name == name else each
                for each in here
            )
        case RenameContainer():
            new = step.service
            renamed = replace(step.container, name=new.container_name, commit=new.commit)
            return (renamed if each == step.container else each for each in here)
        case StopContainer():
            stopped = replace(step.container, state=ContainerState.EXITED, exit_code=0)
            return (stopped if each == step.container else each for each in here)
        case RemoveContainer():
            return (each for each in here if each.id != step.container.id)
        case _:
            return here
