"""Which fleets one is logged in to: `~/.config/gantry/<fleet>/session.json`, mode 0600."""

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gantry.client.errors import ClientError, NotAuthorisedError
from gantry.deployment.paths import config_home, fleet_home

DEFAULT_FLEET = "devbots"
_FILE = "session.json"


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `url` is the api's; `logs_url` and `builder_url` are where logs and builds are read
    if not at their public names (a fleet without its proxy). `tunnel`: `host:port` of the way to
    devices. `proxy`: URL of the HTTP proxy of one's own site, where not HTTPS_PROXY's.
    """

    url: str
    username: str
    token: str
    logs_url: str | None = None
    builder_url: str | None = None
    tunnel: str | None = None
    proxy: str | None = None


def ca_path(fleet: str) -> Path:
    """The certificate of the fleet's own authority; it may not exist. Makes no folder."""
    return config_home() / fleet / "ca.crt"


def logged_in() -> list[str]:
    """The fleets with a session, by name."""
    return sorted(path.parent.name for path in config_home().glob(f"*/{_FILE}"))


def choose_fleet(wanted: str | None) -> str:
    """The fleet that is meant: as asked for, else GANTRY_FLEET, else the only one that one is
    logged in to, else `devbots`.
    """
    named = wanted or os.environ.get("GANTRY_FLEET")
    if named:
        return named
    known = logged_in()
    return known[0] if len(known) == 1 else DEFAULT_FLEET


def load(fleet: str) -> Session:
    """The session of a fleet.

    Raises:
        NotAuthorisedError: nobody is logged in.
        ClientError: the file is damaged.
    """
    path = config_home() / fleet / _FILE
    try:
        fields = json.loads(path.read_text())
        names = Session.__dataclass_fields__
        return Session(**{name: fields[name] for name in names if name in fields})
    except FileNotFoundError:
        raise NotAuthorisedError(
            f"not logged in to {fleet}: `gantry login --fleet {fleet}`"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ClientError(
            f"{path} cannot be read ({error}): log in again with `gantry login --fleet {fleet}`"
        ) from error


def age(fleet: str) -> float:
    """Seconds since the session was saved."""
    return time.time() - (config_home() / fleet / _FILE).stat().st_mtime


def save(fleet: str, session: Session) -> None:
    """Keep a login."""
    kept = {name: value for name, value in asdict(session).items() if value is not None}
    write_private(fleet_home(fleet) / _FILE, json.dumps(kept, indent=2) + "\n")


def forget(fleet: str) -> bool:
    """Drop a login; False: there was none."""
    try:
        (config_home() / fleet / _FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Puts a file in place at once, readable by its owner only.

    Raises:
        ClientError: it cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:  # mkstemp makes it with mode 0600
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error
