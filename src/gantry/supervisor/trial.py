"""Whether a new release is kept, or the device goes back to the last good one. Pure.

A release is on trial from its first container until all of its services have been well for a time
on end; then it is the good one. If that does not come about in time it is rejected, and the last
good release is followed in its place until the api's target for the application changes. All times
are sums of looks at the engine, so neither the wall clock nor a stopped engine counts.

What is not undone: a change of variables alone (the release is the same, and its user's wish), the
first release (there is nothing to go back to), and one that was good once and fails later. What a
release leaves as it was with the good one is no fault of it, however it does.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.desired import DesiredApp
from gantry.supervisor.standing import Standing, has_begun, is_old, standing, unchanged
from gantry.supervisor.state import CurrentState
from gantry.supervisor.target import TargetApp, TargetState, read_target

_VARIABLE = "_SUPERVISOR_ROLLBACK"
_STRATEGY_LABELS = ("io.balena.update.strategy", "io.resin.update.strategy")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a trial is judged by. `timeout` and `settle` are in seconds: how long a release may
    take to be well, and how long it must be well on end. `crashes` is how often one service may
    end with a status other than 0, or the device start anew, before the time is over."""

    enabled: bool = True
    timeout: float = 180.0
    settle: float = 60.0
    crashes: int = 10


def rules(variables: Mapping[str, str]) -> Rules:
    """From the configuration variables `BALENA_SUPERVISOR_ROLLBACK` (0 or 1), `…_TIMEOUT`,
    `…_SETTLE` (milliseconds) and `…_CRASHES`; those that are no numbers do not count."""
    otherwise = Rules()

    def number(name: str) -> int | None:
        for prefix in ("BALENA", "RESIN"):
            try:
                return max(0, wire.number(variables[f"{prefix}{_VARIABLE}_{name}"], name))
            except (KeyError, wire.WireError):
                continue
        return None

    switch = variables.get(f"BALENA{_VARIABLE}", variables.get(f"RESIN{_VARIABLE}"))
    timeout, settle, crashes = number("TIMEOUT"), number("SETTLE"), number("CRASHES")
    return Rules(
        enabled=wire.flag(switch, default=otherwise.enabled),
        timeout=otherwise.timeout if timeout is None else timeout / 1000,
        settle=otherwise.settle if settle is None else settle / 1000,
        crashes=max(1, otherwise.crashes if crashes is None else crashes),
    )


@dataclass(frozen=True, slots=True)
class End:
    """A container's process ended by itself or was ended, with this exit status."""

    app_id: int
    service: str
    config_hash: str
    status: int


@dataclass(frozen=True, slots=True)
class Trial:
    """How far the target with this fingerprint has come. `lives` are lives of the supervisor since
    something of the release began, 0 before: a release may take the whole device down."""

    fingerprint: str
    lives: int = 0
    crashes: Mapping[str, int] = field(default_factory=dict)
    elapsed: float = 0.0
    well_for: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A release that was given up, in the target with this fingerprint."""

    commit: str
    fingerprint: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of an application. Without a trial, its target is the good one or the
    rejected one."""

    good: TargetApp | None = None
    trial: Trial | None = None
    rejected: Rejected | None = None


def document(app: TargetApp) -> dict[str, Any]:
    """The application in the form of a target state, as `read_target` reads it."""
    found = asdict(app)
    del found["uuid"]
    release = found.pop("release")
    if release is not None:
        release["services"] = {each.pop("name"): each for each in release["services"]}
        found["releases"] = {release.pop("commit"): release}
    return found


def fingerprint(app: TargetApp) -> str:
    """The same for the same release with the same variables."""
    return hashlib.sha256(wire.canonical(document(app)).encode()).hexdigest()[:32]


def aimed(record: Record, app: TargetApp, by: Rules) -> Record:
    """The record once the api wants this of the application."""
    if app.release is None:
        return Record(record.good)
    mark = fingerprint(app)
    if by.enabled and record.rejected is not None and record.rejected.fingerprint == mark:
        return Record(record.good, rejected=record.rejected)
    if record.good is not None and fingerprint(record.good) == mark:
        return Record(record.good)
    if record.trial is not None and record.trial.fingerprint == mark:
        return Record(record.good, record.trial)
    return Record(record.good, Trial(mark))


def followed(target: TargetState, records: Mapping[str, Record]) -> TargetState:
    """The target with the last good release in place of each that was rejected. The records are of
    this target (`aimed`)."""
    apps = []
    for app in target.apps:
        record = records.get(app.uuid, Record())
        apps.append(record.good if record.rejected and record.good else app)
    return replace(target, apps=tuple(apps))


def kept_images(target: TargetState, records: Mapping[str, Record], by: Rules) -> frozenset[str]:
    """Images of good releases, which a clean-up must leave while another is on trial. Where the
    new release says delete-then-download there is no room for both."""
    if not by.enabled:
        return frozenset()
    kept: set[str] = set()
    for app in target.apps:
        good = records.get(app.uuid, Record()).good
        new = {each.name: each.labels for each in app.release.services} if app.release else {}
        for service in good.release.services if good and good.release else ():
            labels = new.get(service.name, {})
            strategy = next((labels[each] for each in _STRATEGY_LABELS if each in labels), "")
            if strategy != "delete-then-download":
                kept.add(service.image)
    return frozenset(kept)


def marked(
    apps: Mapping[str, Any], target: TargetState, records: Mapping[str, Record]
) -> dict[str, Any]:
    """The `apps` of a report, with each rejected release in it."""
    found = dict(apps)
    for app in target.apps:
        rejected = records.get(app.uuid, Record()).rejected
        if rejected is None or app.uuid not in found:
            continue
        releases = dict(found[app.uuid]["releases"])
        release = releases.get(rejected.commit, {"services": {}})
        releases[rejected.commit] = {**release, "update_status": "rejected"}
        found[app.uuid] = {**found[app.uuid], "releases": releases}
    return found


def advance(
    record: Record,
    target: TargetApp,
    app: DesiredApp,
    current: CurrentState,
    ends: Iterable[End],
    seconds: float,
    by: Rules,
    good: DesiredApp | None = None,
) -> Record:
    """The record after another look at the engine, `seconds` after the last one: with a trial that
    goes on, or that ended in a good or in a rejected release.

    `target` is what the api wants, `app` the same as it must be in the engine, `good` the good
    release as it would have to be there, `ends` what ended since the last look.
    """
    trial = record.trial
    if trial is None or target.release is None:
        return record
    same = unchanged(app, good)
    judged = [each for each in app.services if each.running and each.service not in same]
    hashes = {each.service: each.config_hash for each in judged if not is_old(each, current)}
    crashes = [
        each for each in ends if each.status and hashes.get(each.service) == each.config_hash
    ]
    counts = dict(trial.crashes)
    for each in crashes:
        counts[each.service] = counts.get(each.service, 0) + 1
    standings = [
        (each.service, *standing(each, app, current, counts, each.service in same))
        for each in app.services
    ]
    bad = [each for each in standings if each[1] in (Standing.UNWELL, Standing.LOST)]
    well = all(each[1] is Standing.WELL for each in standings) and not crashes
    since = trial.well_for
    trial = replace(
        trial,
        lives=trial.lives or int(any(has_begun(each, current) for each in judged)),
        crashes=counts,
        elapsed=trial.elapsed + (seconds if bad or crashes or well else 0.0),
        well_for=None if not well else 0.0 if since is None else since + seconds,
    )
    returns = (
        by.enabled
        and record.good is not None
        and record.good.release is not None
        and record.good.release.commit != target.release.commit
    )
    if returns and (reason := _fault(trial, bad, crashes, by)):
        rejected = Rejected(target.release.commit, trial.fingerprint, reason)
        return Record(record.good, rejected=rejected)
    if trial.well_for is not None and trial.well_for >= by.settle:
        return Record(target)
    return Record(record.good, trial)


def _fault(
    trial: Trial, bad: list[tuple[str, Standing, str]], crashes: list[End], by: Rules
) -> str | None:
    """Why the release is not to be kept; None while it still may."""
    for service, count in trial.crashes.items():
        if count >= by.crashes:
            last = next((each.status for each in crashes if each.service == service), None)
            status = f", last with status {last}" if last else ""
            return f"service '{service}' ended {count} times{status}"
    lost = [each for each in bad if each[1] is Standing.LOST]
    if lost:
        return f"service '{lost[0][0]}' {lost[0][2]}"
    if trial.lives > by.crashes:
        return f"the device or its supervisor started {trial.lives} times before it was well"
    if trial.elapsed <= by.timeout:
        return None
    if bad:
        return f"service '{bad[0][0]}' {bad[0][2]}, {by.timeout:.0f} s after it was to be well"
    if crashes:
        return f"service '{crashes[0].service}' still ends with status {crashes[0].status}"
    return None


def written(records: Mapping[str, Record]) -> dict[str, Any]:
    """The records as JSON, for `read_records`."""
    return {
        uuid: {
            "good": document(each.good) if each.good else None,
            "trial": {
                "fingerprint": each.trial.fingerprint,
                "lives": each.trial.lives,
                "crashes": dict(each.trial.crashes),
            }
            if each.trial
            else None,
            "rejected": asdict(each.rejected) if each.rejected else None,
        }
        for uuid, each in records.items()
    }


def read_records(stored: object) -> dict[str, Record]:
    """Records as they were written, at a new start of the supervisor.

    Raises:
        wire.WireError: they are not of that form.
    """
    found = {}
    for uuid, value in wire.mapping(stored, "releases").items():
        entry = wire.mapping(value, uuid)
        good, trial, rejected = (entry.get(key) for key in ("good", "trial", "rejected"))
        try:
            found[uuid] = Record(
                good=read_target({"": {"apps": {uuid: good}}}, "").apps[0] if good else None,
                trial=_taken_up(trial) if trial else None,
                rejected=Rejected(**rejected) if rejected else None,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise wire.WireError(f"releases: {uuid}: {error!r}") from error
    return found


def _taken_up(stored: Mapping[str, Any]) -> Trial:
    """A trial in another life of the supervisor, which counts if anything of the release had
    begun before. It counts at once: the device may be down again before the first look."""
    lives = int(stored["lives"])
    return Trial(stored["fingerprint"], lives + 1 if lives else 0, stored["crashes"])
