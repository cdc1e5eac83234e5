"""The supervisor's container, as the body of the engine's `POST /containers/create`. Pure."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gantry_supervisor.settings import BOOT, DATA, DOOR, RUNTIME, STORE, Choice, RoleSettings

# Where the image keeps the package that `source` replaces.
PACKAGE = "/opt/gantry/src/gantry"
CAP_SYS_RESOURCE = 24


def body(
    image: str,
    role: RoleSettings,
    chosen: Choice,
    capabilities: int,
    engine_root: str = "",
    storage: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The body. `capabilities` is the bounding set of this host's root, as /proc gives it,
    `engine_root` where the engine has its data, `storage` its folders of layers: see storage.py."""
    # Its own disk the engine gives only so that what it unmounts there is unmounted here too; that
    # needs a shared mount, which a systemd makes and others may not.
    is_engines = Path(engine_root).is_relative_to(DATA)
    binds = [f"{BOOT}:{BOOT}", "/var/run/docker.sock:/var/run/docker.sock", f"{STORE}:/data"]
    # Where applications put their locks, and say that they have taken over.
    binds.append(f"{RUNTIME}:{RUNTIME}")
    # The folder, for a socket that is made anew would not be seen in its place.
    binds.append(f"{DOOR}:/run/gantry/host:ro")
    binds += role.volumes
    if chosen.source:
        binds.append(f"{chosen.source}:{PACKAGE}:ro")
    environment = {**role.environment, **chosen.environment}
    host: dict[str, Any] = {
        "NetworkMode": "host",
        "Binds": binds,
        # With apps.json and bundles, but without what the engine has mounted below it.
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(DATA),
                "Target": "/mnt/data",
                "BindOptions": {
                    "NonRecursive": True,
                    "Propagation": "rslave" if is_engines else "rprivate",
                },
            },
            *(_read_only(source, target) for target, source in sorted(storage.items())),
        ],
        # Its lines go to the unit's journal by way of this program.
        "LogConfig": {"Type": "none"},
        "Memory": role.memory,
    }
    # Where root may not raise anybody over others (in a container), the engine would refuse.
    if role.oom_score_adj >= 0 or capabilities >> CAP_SYS_RESOURCE & 1:
        host["OomScoreAdj"] = role.oom_score_adj
    return {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        # Asked from here, without a process in the container each minute.
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }


def _read_only(source: str, target: str) -> dict[str, Any]:
    """A folder of the engine's, without what is mounted below it. How mounts are passed on is not
    said: for its own folders the engine chooses, so that what it unmounts is unmounted here too."""
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": True,
        "BindOptions": {"NonRecursive": True},
    }


def bounding_set(status: Path = Path("/proc/self/status")) -> int:
    """The capabilities that root may have here, as a bit set."""
    for line in status.read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
