"""The folder that bundles are brought to, and the file in it that says how one fares."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from gantry.contracts.bundle import SUFFIX

# An upload that nobody has gone on with for so long is given up, in seconds.
_ABANDONED_AFTER = 3600.0
PARTIAL = ".part"
REFUSED = ".refused"


class Stage(StrEnum):
    """Where a bundle stands."""

    CHECKING = "checking"
    LOADING = "loading"
    WAITING = "waiting"
    APPLIED = "applied"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """The bundle that is being applied, or was last: the body of `GET /v2/bundle`."""

    name: str
    stage: Stage
    message: str = ""
    percent: int = 0
    commit: str | None = None


def first(folder: Path) -> Path | None:
    """The first bundle in the folder, by name; uploads that were given up are removed."""
    with suppress(OSError):
        found = sorted(folder.iterdir())
        for each in found:
            if each.name.endswith(PARTIAL):
                with suppress(OSError):
                    if time.time() - each.stat().st_mtime > _ABANDONED_AFTER:
                        each.unlink()
        return next((each for each in found if _is_bundle(each)), None)
    return None


def _is_bundle(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and not path.name.startswith(".") and path.is_file()


def set_aside(path: Path) -> None:
    """Have this bundle tried no more; one that was set aside before goes."""
    with suppress(OSError):
        for before in path.parent.glob(f"*{SUFFIX}{REFUSED}"):
            before.unlink(missing_ok=True)
        path.replace(path.with_name(path.name + REFUSED))
        return
    # A disk that cannot even do that is told of in the log, and the bundle not tried in a circle.
    with suppress(OSError):
        path.unlink()


def tell(folder: Path, status: BundleStatus) -> None:
    """Say where a bundle stands, also to those who have no key; where that cannot be written, the
    bundle goes on."""
    content = json.dumps(asdict(status), indent=2) + "\n"
    path = folder / "status.json"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + PARTIAL)
        temporary.write_text(content)
        temporary.replace(path)
