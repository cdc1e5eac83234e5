"""What the host tells the supervisor by environment; all else is in config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """A variable of the process has a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are on this host.

    `instance` marks what this supervisor made in the engine (label `io.gantry.instance`), so that
    it never touches what others made there. `data_mount` is the data partition, where people put
    apps.json and bundles; `data_directory` is the supervisor's own. `runtime_directory` and
    `host_docker_socket` are paths of the host, not of the supervisor's container: applications get
    them mounted. `runtime_path` is where the supervisor sees the former. `host_door` is the socket
    on which the host answers, `engine_storage` where the engine's own folders are mounted,
    `variant` the host's: what belongs to development is refused on others.
    """

    config_path: Path
    data_directory: Path
    data_mount: Path
    docker_socket: str
    host_docker_socket: str
    listen_address: str
    listen_port: int | None
    instance: str
    runtime_directory: str
    runtime_path: Path
    host_door: Path
    engine_storage: Path = Path("/mnt/engine")
    variant: str = "production"

    @property
    def database_path(self) -> Path:
        """The supervisor's SQLite database."""
        return self.data_directory / "database.sqlite"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in these variables of a process.

    Raises:
        SettingsError: LISTEN_PORT is not a port.
    """
    mount_point = Path(environment.get("CONFIG_MOUNT_POINT", "/mnt/boot"))
    # The family has had both the directory and the file under this name.
    config_path = mount_point if mount_point.suffix == ".json" else mount_point / "config.json"
    runtime = environment.get("HOST_RUNTIME_DIRECTORY", "/tmp/balena-supervisor")  # noqa: S108
    port = environment.get("LISTEN_PORT")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError(f"LISTEN_PORT is {port!r}: give a port between 1 and 65535")
    return Settings(
        config_path=config_path,
        data_directory=Path(environment.get("DATA_DIRECTORY", "/data")),
        data_mount=Path(environment.get("DATA_MOUNT_POINT", "/mnt/data")),
        docker_socket=environment.get("DOCKER_SOCKET", "/var/run/docker.sock"),
        host_docker_socket=environment.get("HOST_DOCKER_SOCKET", "/var/run/docker.sock"),
        listen_address=environment.get("LISTEN_ADDRESS", "0.0.0.0"),  # noqa: S104 (keys guard it)
        listen_port=int(port) if port else None,
        instance=environment.get("GANTRY_INSTANCE", "device"),
        runtime_directory=runtime,
        runtime_path=Path(environment.get("RUNTIME_DIRECTORY", runtime)),
        host_door=Path(environment.get("HOST_DOOR", "/run/gantry/host/door.sock")),
        engine_storage=Path(environment.get("ENGINE_STORAGE", "/mnt/engine")),
        variant=environment.get("HOST_VARIANT", "production"),
    )
