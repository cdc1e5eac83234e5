"""An update that is under way: asked for by `update`, carried out by `run`.

The file is on a tmpfs: who loses power in a trial comes back with the supervisor that was there
before. A trial is begun once; one that is found begun has failed.
"""

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gantry_supervisor import files, settings

TRIAL = settings.RUN / "supervisor-trial.json"
OUTCOME = settings.RUN / "supervisor-outcome.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """The image to try: it has `seconds` to be healthy for `settle` seconds on end."""

    image: str
    seconds: float
    settle: float
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended; `reason` says why it was not kept."""

    image: str
    kept: bool
    reason: str = ""


def pending() -> Trial | None:
    """The trial that was asked for.

    Raises:
        FileError: the file is broken.
    """
    document = files.read_object(TRIAL)
    return Trial(**document) if document is not None else None


def ask(trial: Trial) -> None:
    """Have `run` try an image at its next start."""
    files.remove(OUTCOME)
    files.write_object(TRIAL, asdict(trial))


def begin(trial: Trial) -> Trial:
    """Note that it is tried now, and keep the supervisor's data as the old one knows it.

    Raises:
        FileError, OSError: there is no room for that.
    """
    begun = replace(trial, begun=True)
    files.write_object(TRIAL, asdict(begun))
    copy = settings.STORE_BEFORE.with_name(settings.STORE_BEFORE.name + ".new")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(settings.STORE, copy, symlinks=True)
    copy.rename(settings.STORE_BEFORE)
    return begun


def keep(trial: Trial, chosen: settings.Choice, old: str) -> settings.Choice:
    """The new image is the device's from now on, over all losses of power; the old one may go."""
    obsolete = [each for each in (*chosen.obsolete, old) if each and each != trial.image]
    kept = chosen.changed(image=trial.image, obsolete=list(dict.fromkeys(obsolete)))
    settings.write_choice(kept)
    shutil.rmtree(settings.STORE_BEFORE, ignore_errors=True)
    _end(Outcome(trial.image, kept=True))
    return kept


def give_up(trial: Trial, chosen: settings.Choice, current: str, reason: str) -> settings.Choice:
    """The old image goes on with its data; the new one may go."""
    restore()
    if trial.image != current and trial.image not in chosen.obsolete:
        chosen = chosen.changed(obsolete=[*chosen.obsolete, trial.image])
        settings.write_choice(chosen)
    _end(Outcome(trial.image, kept=False, reason=reason))
    return chosen


def restore() -> None:
    """Put back the data as it was before a trial, if a trial left its copy."""
    if not settings.STORE_BEFORE.is_dir():
        return
    failed = settings.STORE.with_name(settings.STORE.name + ".failed")
    shutil.rmtree(failed, ignore_errors=True)
    if settings.STORE.is_dir():
        settings.STORE.rename(failed)
    settings.STORE_BEFORE.rename(settings.STORE)
    shutil.rmtree(failed, ignore_errors=True)


def outcome() -> Outcome | None:
    """How the last trial ended; None while it goes on."""
    document = files.read_object(OUTCOME)
    return Outcome(**document) if document is not None else None


def _end(result: Outcome) -> None:
    files.write_object(OUTCOME, asdict(result))
    files.remove(Path(TRIAL))
