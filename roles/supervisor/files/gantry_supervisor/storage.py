"""Where the engine keeps the files of layers: the supervisor takes from them what a delta needs not
bring. It gets them read-only, and nothing else of the engine's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# In the supervisor's container.
TARGET = "/mnt/engine"
SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
CONTENT = "io.containerd.content.v1.content"


def folders(info: Mapping[str, Any]) -> dict[str, str]:
    """Folders of this host by their places in the container; `info` is what the engine says of
    itself (`GET /info`). None where its storage is of another kind: images are pulled whole then.
    """
    root = Path(str(info.get("DockerRootDir") or "/var/lib/docker"))
    if info.get("Driver") == "overlay2":
        return _there(root, ("image", "overlay2"))
    if info.get("Driver") == "overlayfs":
        for place in _containerd(root):
            if found := _there(place, (SNAPSHOTTER, CONTENT)):
                return found
    return {}


def _containerd(root: Path) -> Iterator[Path]:
    """Where containerd may have its data: of its own by Docker, by the role container_engine, by
    Debian."""
    yield root / "containerd" / "daemon"
    yield root.parent / "containerd"
    yield Path("/var/lib/containerd")


def _there(place: Path, names: tuple[str, ...]) -> dict[str, str]:
    found = {f"{TARGET}/{name}": str(place / name) for name in names if (place / name).is_dir()}
    return found if len(found) == len(names) else {}
