"""Versions of releases: drafts become final, get their revisions, and are tracked by fleets."""

from sqlalchemy.orm import Session

from gantry.api.errors import ConflictError
from gantry.api.models import Application, Release
from gantry.api.queries import records, releases


def number(session: Session, application: Application, release: Release) -> None:
    """Give a final success its revision: how many of its version there were before it."""
    last = releases.last_revision(session, application.id, release.semver)
    release.revision = 0 if last is None else last + 1
    session.flush()


def rename(session: Session, application: Application, release: Release, semver: str) -> None:
    """Give a release another version; one that has a revision gets its revision there."""
    if semver == release.semver:
        return
    release.semver = semver
    if release.revision is not None:
        release.revision = None
        session.flush()
        number(session, application, release)


def finalize(session: Session, application: Application, release: Release) -> None:
    """Make a draft final: a success gets its revision, and fleets may track it.

    Raises:
        ConflictError: its build failed, or was cancelled.
    """
    if release.is_final:
        return
    if release.status in ("failed", "cancelled"):
        raise ConflictError(f"release {release.id} is {release.status}: it cannot become final")
    release.is_final = True
    if release.status == "success":
        succeed(session, application, release)


def succeed(session: Session, application: Application, release: Release) -> None:
    """What follows when a release is a success, and final."""
    release.is_finalized_at__date = records.now(session)
    number(session, application, release)
    _track(session, application, release)


def set_invalidated(
    session: Session, application: Application, release: Release, *, is_invalidated: bool
) -> None:
    """Say that a release is bad, or is not: fleets that track the latest leave it, or take it.

    Those that are set to run this one are refused by the rule.
    """
    is_target = application.should_be_running__release == release.id
    if is_invalidated and is_target and application.should_track_latest_release:
        other = releases.newest_success(session, application.id, but=release.id)
        application.should_be_running__release = other
        # The target first: the rule is about what is there after each statement.
        session.flush()
    release.is_invalidated = is_invalidated
    session.flush()
    if not is_invalidated and release.status == "success" and release.is_final:
        _track(session, application, release)


def _track(session: Session, application: Application, release: Release) -> None:
    """Run this release if the latest is tracked and it is that.

    A slow build must not undo a push that came after it.
    """
    target = application.should_be_running__release
    is_newer = target is None or target < release.id
    is_fit = not release.is_invalidated and release.images_removed_timestamp is None
    if application.should_track_latest_release and is_newer and is_fit:
        application.should_be_running__release = release.id
        session.flush()
