"""The pre-receive hook: a push to main or master becomes a build, and stands or falls with it."""

import os
import sys
import time
from pathlib import Path

from gantry.contracts.build import BuildMessage, BuildResult, KeepAlive, Phase, ReleaseStatus
from gantry.git import pushlock, repository
from gantry.git.building import BuilderError, BuildOrder, build
from gantry.git.events import record
from gantry.git.push import VARIABLE, Push
from gantry.git.refs import PushRefusedError, RefUpdate, parse_updates, plan_push
from gantry.git.screen import Screen, format_seconds, format_size, format_summary
from gantry.git.settings import Settings, SettingsError, load_settings

OPTIONS = ("nocache",)
NOTHING_CHANGED = "The branch is as it was, and no device got anything."


class RejectedError(Exception):
    """The push is refused. The message is a sentence for the pusher."""


def push_options(environment: dict[str, str]) -> tuple[str, ...]:
    """The options of `git push -o`.

    Raises:
        RejectedError: one of them is not known.
    """
    count = int(environment.get("GIT_PUSH_OPTION_COUNT", "0"))
    options = tuple(environment[f"GIT_PUSH_OPTION_{number}"] for number in range(count))
    for option in options:
        if option not in OPTIONS:
            raise RejectedError(
                f"unknown push option {option[:80]!r}: there is {', '.join(OPTIONS)}."
            )
    return options


class PreReceive:
    """One run of the hook."""

    def __init__(self, push: Push, settings: Settings, screen: Screen, lock: int) -> None:
        self._push = push
        self._settings = settings
        self._screen = screen
        self._lock = lock
        self._path = Path.cwd()

    def run(self, updates: list[RefUpdate], options: tuple[str, ...]) -> None:
        """Returns when git may store the refs.

        Raises:
            PushRefusedError, RejectedError, BuilderError, RepositoryError: it must not.
        """
        plan = plan_push(updates, repository.built_branches(self._path))
        for note in plan.notes:
            self._screen.line(note)
        if plan.build is None:
            return
        self._wait_for_turn(plan.build)
        result = self._build(plan.build, nocache="nocache" in options)
        if result.status is not ReleaseStatus.SUCCESS:
            reason = result.error or f"the build ended as {result.status}, without a reason"
            raise RejectedError(reason)
        total = time.monotonic() - self._push.started
        for line in format_summary(result, self._push.slug, plan.build.short, total):
            self._screen.line(line)

    def _wait_for_turn(self, update: RefUpdate) -> None:
        def waiting(holder: str, spent: float) -> None:
            text = f"waiting for {holder or 'another push'} to {self._push.slug} to be built"
            since = f" ({format_seconds(spent)} so far)" if spent >= 1 else ""
            self._screen.show(BuildMessage(text + since, Phase.QUEUE))

        pushlock.acquire(self._lock, f"{self._push.username}'s push of {update.new[:7]}", waiting)
        now = repository.resolve(self._path, update.ref)
        if now != (None if update.is_create else update.old):
            raise RejectedError(
                f"{update.short} has moved while this push waited: fetch it, then push again."
            )

    def _build(self, update: RefUpdate, nocache: bool) -> BuildResult:
        push = self._push
        self._screen.line(
            f"Gantry: {push.slug}, {update.short} at {update.new[:7]}, for {push.device_type}"
        )
        for path in repository.submodules(self._path, update.new)[:5]:
            self._screen.line(f"warning: {path!r} is a submodule: the build finds it empty.")
        order = BuildOrder(
            application_id=push.application_id,
            application_uuid=push.application_uuid,
            slug=push.slug,
            device_type=push.device_type,
            user_id=push.user_id,
            username=push.username,
            commit=update.new,
            nocache=nocache,
        )
        tree = repository.archive(self._path, update.new)
        settings = self._settings
        for event in build(
            settings.builder_url, settings.service_key, order, tree, self._report_sent
        ):
            match event:
                case BuildMessage():
                    self._screen.show(event)
                case BuildResult():
                    return event
                case KeepAlive():
                    continue
        raise BuilderError("the builder ended without a result.")

    def _report_sent(self, count: int, is_all: bool) -> None:
        text = f"{format_size(count)} of source {'sent' if is_all else 'so far'}"
        self._screen.show(BuildMessage(text, Phase.RECEIVE))


def main() -> int:
    """Runs as git's pre-receive, in the repository, with the updates on standard input."""
    screen = Screen(sys.stderr)
    push = Push.loads(os.environ[VARIABLE])
    outcome = "stored"
    updates: list[RefUpdate] = []
    try:
        updates = parse_updates(sys.stdin)
        hook = PreReceive(push, load_settings(), screen, int(os.environ[pushlock.VARIABLE]))
        hook.run(updates, push_options(dict(os.environ)))
    except (PushRefusedError, RejectedError) as error:
        outcome = f"rejected: {error}"
    except (BuilderError, repository.RepositoryError, SettingsError, OSError) as error:
        outcome = f"failed: {error}"
    if outcome != "stored":
        screen.line()
        screen.error(outcome.split(": ", 1)[1])
        screen.line(NOTHING_CHANGED)
        screen.line()
    what = " ".join(f"{update.ref}@{update.new[:12]}" for update in updates[:10])
    record(f"push by {push.username} to {push.slug}: {what}: {outcome}")
    return 0 if outcome == "stored" else 1
