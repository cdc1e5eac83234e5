"""What the supervisor's container is made from, and which image it is.

Three files: the role's settings, config.json, and supervisor.json on the boot partition, which says
the image where it is not the role's. A factory reset keeps the boot partition.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gantry_supervisor import files

BOOT = Path(os.environ.get("GANTRY_BOOT", "/mnt/boot"))
DATA = Path(os.environ.get("GANTRY_DATA", "/mnt/data"))
RUN = Path(os.environ.get("GANTRY_RUN", "/run/gantry"))
ROLE_SETTINGS = Path(os.environ.get("GANTRY_SUPERVISOR_SETTINGS", "/etc/gantry/supervisor.json"))
CONFIG = BOOT / "config.json"
CHOICE = BOOT / "supervisor.json"
PRELOAD = DATA / "preload"
# The folder that is /data in the container, and its copy while an update is tried.
STORE = DATA / "supervisor"
STORE_BEFORE = DATA / "supervisor.before-update"
# Where the socket is on which the host answers the supervisor, here and in its container.
DOOR = RUN / "host"
# The runtime directories of applications, at the same place on the host and in the container.
RUNTIME = Path("/tmp/balena-supervisor")  # noqa: S108 - the family's
CONTAINER = "gantry_supervisor"
DEFAULT_PORT = 48484
# A change of any of these has the supervisor started anew. Not of what it writes itself.
WATCHED = (
    "apiEndpoint",
    "appUpdatePollInterval",
    "applicationId",
    "balenaRootCA",
    "deltaEndpoint",
    "deviceType",
    "listenPort",
    "logsEndpoint",
    "registryEndpoint",
    "vpnEndpoint",
)


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """What the role wrote down. Sizes are bytes, times seconds."""

    version: str = ""
    architecture: str = ""
    memory: int = 0
    oom_score_adj: int = 0
    instance: str = "device"
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    start_seconds: float = 300.0
    update_seconds: float = 180.0
    settle_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Choice:
    """supervisor.json. `obsolete` are images that are to go; `document` holds every key; `problem`
    says why it is not read, where it is broken: the fleet's image runs then."""

    document: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def image(self) -> str:
        return str(self.document.get("image") or "")

    @property
    def source(self) -> str:
        """A folder that is mounted over the image's package, in development."""
        return str(self.document.get("source") or "")

    @property
    def environment(self) -> dict[str, str]:
        found = self.document.get("environment")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    @property
    def obsolete(self) -> tuple[str, ...]:
        found = self.document.get("obsolete")
        return tuple(str(each) for each in found) if isinstance(found, list) else ()

    def changed(self, **changes: object) -> "Choice":
        """With these keys; an empty one goes."""
        document = {**self.document, **changes}
        return Choice({key: value for key, value in document.items() if value not in ([], "")})


def role_settings(path: Path = ROLE_SETTINGS) -> RoleSettings:
    """The role's settings; defaults where there are none.

    Raises:
        FileError: the file is broken.
    """
    document = files.read_object(path) or {}
    known = {key: document[key] for key in RoleSettings.__slots__ if key in document}
    if "volumes" in known:
        known["volumes"] = tuple(known["volumes"])
    return RoleSettings(**known)


def choice() -> Choice:
    """What supervisor.json says. A broken one keeps no device from having a supervisor."""
    try:
        return Choice(files.read_kept(CHOICE) or {})
    except files.FileError as error:
        return Choice(problem=str(error))


def write_choice(chosen: Choice) -> None:
    """Write supervisor.json.

    Raises:
        FileError: the boot partition cannot be written.
    """
    files.write_object(CHOICE, dict(chosen.document))


def config() -> dict[str, Any]:
    """config.json; {} while there is none.

    Raises:
        FileError: the file is broken.
    """
    return files.read_kept(CONFIG) or {}


def fingerprint(document: Mapping[str, Any]) -> str:
    """Equal for settings with which the supervisor need not be started anew."""
    watched = {key: document.get(key) for key in WATCHED}
    return hashlib.sha256(json.dumps(watched, sort_keys=True).encode()).hexdigest()


def port(document: Mapping[str, Any]) -> int:
    """Where the supervisor listens."""
    value = str(document.get("listenPort") or DEFAULT_PORT)
    return int(value) if value.isdecimal() else DEFAULT_PORT


def registry_of(document: Mapping[str, Any]) -> str:
    """Host and port of the fleet's registry: named, else beside the api; '' without a fleet."""
    named = str(document.get("registryEndpoint") or "")
    if named:
        return named.removeprefix("https://").rstrip("/")
    api = urlsplit(str(document.get("apiEndpoint") or "")).netloc
    return f"registry.{api.removeprefix('api.')}" if api else ""


def repository(role: RoleSettings, document: Mapping[str, Any]) -> str:
    """Where the fleet's registry has this device's supervisors; '' without a fleet."""
    registry = registry_of(document)
    if not (registry and role.architecture):
        return ""
    return f"{registry}/gantry/{role.architecture}-supervisor"


def fleet_image(role: RoleSettings, document: Mapping[str, Any], version: str = "") -> str:
    """The fleet's image of the supervisor; '' without a fleet, or without a version."""
    name, version = repository(role, document), version or role.version
    return f"{name}:{version}" if name and version else ""


def current_image(chosen: Choice, role: RoleSettings, document: Mapping[str, Any]) -> str:
    """The image that is to run; '' while nobody has named one."""
    return chosen.image or fleet_image(role, document)


def login(document: Mapping[str, Any], image: str) -> tuple[str, str] | None:
    """User and key for the image's registry; None where that is not the fleet's."""
    if image.partition("/")[0] != registry_of(document):
        return None
    own, given = document.get("deviceApiKey"), document.get("apiKey")
    # Its own key is worth nothing before it has registered; then the given one is gone.
    if own and (document.get("deviceId") or not given):
        return f"d_{document.get('uuid')}", str(own)
    return ("provisioning", str(given)) if given else None
