"""The arguments of `python -m gantry.deltas.apply`, and what it ends with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.names import Names

# Exit status: the layer cannot be rebuilt from what is given; wrong arguments; the machine failed,
# so that it may go better another time.
UNFIT, USAGE, TROUBLE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the program is told; `names` are those that a bare delta is to have."""

    path: Path
    diff_id: str
    sources: Mapping[str, Path]
    names: Names | None


def read(arguments: Sequence[str]) -> Arguments:
    """Raises ValueError: they are others than these."""
    usage = ValueError(
        "usage: python -m gantry.deltas.apply DELTA DIFFID [--source sha256:…=FOLDER]… "
        "[--config sha256:… --layer sha256:…]"
    )
    if len(arguments) < 2 or len(arguments) % 2:
        raise usage
    sources: dict[str, Path] = {}
    config = ""
    layers: list[str] = []
    for option, value in zip(arguments[2::2], arguments[3::2], strict=True):
        diff_id, equals, folder = value.partition("=")
        if option == "--source" and equals:
            sources[diff_id] = Path(folder)
        elif option == "--config":
            config = value
        elif option == "--layer":
            layers.append(value)
        else:
            raise usage
    if bool(config) != bool(layers):
        raise usage
    names = Names(config, tuple(sources), tuple(layers)) if config else None
    return Arguments(Path(arguments[0]), arguments[1], sources, names)
