"""What changed files of a tree mean for a running service. Pure.

As with the family's live push, files that the image holds as they are go into the container, and
anything else is built anew.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gantry.local.dockerfile_copies import Copy


@dataclass(frozen=True, slots=True)
class Changes:
    """Files of a context that are new or different, and files that are gone; paths with `/`."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The image must be built anew; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sync:
    """`copies` are (file of the context, place in the container), `removals` places there."""

    copies: tuple[tuple[str, str], ...]
    removals: tuple[str, ...]


def decide(
    changes: Changes,
    copies: Sequence[Copy],
    build_files: Iterable[str],
    is_folder: Callable[[str], bool],
) -> Rebuild | Sync | None:
    """What is to be done; None when the service has nothing of what changed.

    `build_files` are those that say how it is built (its Dockerfile, .dockerignore); `is_folder`
    says of a path in the container whether it is one.
    """
    touched = (*changes.changed, *changes.removed)
    told = next((path for path in touched if path in set(build_files)), None)
    if told is not None:
        return Rebuild(f"{told} changed")
    for path in touched:
        if any(not each.plain and each.place(path) is not None for each in copies):
            return Rebuild(f"{path} is used in the build")
    files = [(path, at) for path in changes.changed for at in _places(path, copies, is_folder)]
    gone = [at for path in changes.removed for at in _places(path, copies, is_folder)]
    # The later copy is what the image has, where two write to one place.
    return Sync(tuple(files), tuple(gone)) if files or gone else None


def _places(path: str, copies: Iterable[Copy], is_folder: Callable[[str], bool]) -> Iterable[str]:
    for each in copies:
        found = each.place(path)
        if found is not None:
            place, certain = found
            name = path.rpartition("/")[2]
            yield place if certain or not is_folder(place) else f"{place}/{name}"
