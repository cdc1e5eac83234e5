"""The folder that bundles are brought to, and the file in it that says how one fares."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from gantry.contracts.bundle import SUFFIX

# An upload that nobody has gone on with for so long is given up, in seconds.
_ABANDONED_AFTER = 3600.0
PARTIAL = ".part"
# Of the repositories that bundles are pulled from.
KIND = "gantry-bundle"
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


class Folder:
    """Looks for bundles. While nothing comes, a look costs no more than asking for the folder's
    time: the supervisor idles for months."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        # How often it was empty since its time changed.
        self._empty = 0

    def is_still_empty(self) -> bool:
        """Whether it is as it was when it was empty. A file that comes in the moment in which it
        is looked at need not change its time: it is read twice before that is believed."""
        before, self._stamp = self._stamp, None
        with suppress(OSError):
            found = self.path.stat()
            self._stamp = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if self._stamp != before:
            self._empty = 0
        return self._empty > 1

    def first(self) -> Path | None:
        """The first bundle, by name; uploads that were given up are removed."""
        try:
            found = sorted(self.path.iterdir())
        except FileNotFoundError:
            found = []
        except OSError:  # what could not be read is not known to be empty
            return None
        self._empty = 0 if found else self._empty + 1
        for each in found:
            if each.name.endswith(PARTIAL):
                with suppress(OSError):
                    if time.time() - each.stat().st_mtime > _ABANDONED_AFTER:
                        each.unlink()
        return next((each for each in found if _is_bundle(each)), None)


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


class Progress:
    """How the bundle fares that is being applied, or was last; None before the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.status: BundleStatus | None = None

    async def begin(self, name: str) -> None:
        """Another one is being read."""
        self.status = BundleStatus(name, Stage.CHECKING)
        await self.tell(Stage.CHECKING, "being read")

    def percent(self, percent: int) -> None:
        """It is so far."""
        if self.status is not None and percent != self.status.percent:
            self.status = replace(self.status, percent=percent)

    def commit(self, commit: str) -> None:
        """It brings this release."""
        if self.status is not None:
            self.status = replace(self.status, commit=commit)

    async def tell(
        self, stage: Stage, message: str, percent: int | None = None, commit: str | None = None
    ) -> None:
        """Say where it stands, also to those who have no key: in a file beside it."""
        if self.status is None:
            return
        self.status = replace(
            self.status,
            stage=stage,
            message=message,
            percent=self.status.percent if percent is None else percent,
            commit=commit or self.status.commit,
        )
        await asyncio.to_thread(_write, self._folder, self.status)


def _write(folder: Path, status: BundleStatus) -> None:
    """Where it cannot be written, the bundle goes on."""
    content = json.dumps(asdict(status), indent=2) + "\n"
    path = folder / "status.json"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + PARTIAL)
        temporary.write_text(content)
        temporary.replace(path)
