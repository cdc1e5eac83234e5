"""Another supervisor in this one's place: what is to be done about it. Pure.

The host carries an update out, with a way back (roles/supervisor, `gantry-supervisor-update`); here
is when it is asked for it, and what is made of how that ended.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.target import TargetSupervisor

# How often the host is asked how far it is, in seconds: a process there each time.
LOOK_EVERY = 30.0
# What was not the release's fault is tried again after so long, and then after twice as long each
# time, in seconds.
FIRST_RETRY = 600.0
# Clocks jump: nothing is waited for longer than this without another look, in seconds.
_LONGEST_REST = 3600.0


class End(StrEnum):
    """How an update ended that is not in force."""

    RETURNED = "returned"  # it was tried, and the old one came back
    FAILED = "failed"  # it was not tried: its image is not to be had, say
    REFUSED = "refused"  # the host would not begin it
    LOST = "lost"  # nobody knows: the host has started anew meanwhile


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that the host was asked for `image`, at `at` (seconds since the epoch), after
    so many tries in all. `end` is None until it is known."""

    image: str
    tries: int
    at: float
    end: End | None = None
    message: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HostState:
    """What the host says: `images` are the names of what runs, `result` is how the last update
    since its start ended, as `(image, state, message)`. `takes_tags`: it finds an image that was
    brought by delta."""

    images: frozenset[str]
    is_updating: bool
    result: tuple[str, str, str] | None
    takes_tags: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do for so many seconds; None: until another one is wanted."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Note:
    """This is to be remembered of the last attempt, and to be told; then it goes on."""

    attempt: Attempt | None
    sentence: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """The host is to be asked, at a safe moment."""

    attempt: Attempt


def plan(
    wanted: TargetSupervisor, host: HostState, last: Attempt | None, now: float, retry: float
) -> Rest | Note | Begin:
    """The next thing to do. `now` is in seconds since the epoch; one that did not do is tried again
    after `retry` seconds, or at once when the target names another."""
    if host.is_updating:
        return Rest(LOOK_EVERY)
    if wanted.image in host.images:
        if last is None:
            return Rest(None)
        came = last.image == wanted.image
        return Note(None, f"Supervisor {wanted.version} runs now" if came else "")
    if last is None or last.image != wanted.image:
        return Begin(Attempt(wanted.image, 1, now))
    if last.end is None:
        ended = ended_as(last, host, now)
        return Note(ended, told(wanted, ended, retry), is_error=True)
    if now < last.at:
        return Note(replace(last, at=now))
    left = last.at + pause(last, retry) - now
    if left > 0:
        return Rest(min(left, _LONGEST_REST))
    return Begin(Attempt(wanted.image, last.tries + 1, now))


def ended_as(attempt: Attempt, host: HostState, now: float) -> Attempt:
    """How an attempt ended that is neither under way nor in force."""
    image, state, message = host.result or ("", "", "")
    if image != attempt.image or state not in (End.RETURNED, End.FAILED):
        message = "how it ended is not known: the host has started anew, or it was broken off"
        return replace(attempt, at=now, end=End.LOST, message=message)
    return replace(attempt, at=now, end=End(state), message=message)


def pause(attempt: Attempt, retry: float) -> float:
    """Seconds from the end of an attempt to the next one."""
    if attempt.end is End.RETURNED:
        return retry
    return min(retry, FIRST_RETRY * 2.0 ** min(attempt.tries - 1, 30))


def told(wanted: TargetSupervisor, attempt: Attempt, retry: float) -> str:
    """How it ended, and when it is tried again, for the device's log."""
    minutes = pause(attempt, retry) / 60
    when = f"{minutes / 60:.0f} h" if minutes >= 120 else f"{max(1.0, minutes):.0f} min"
    said = {
        End.RETURNED: "was tried, and the old one is back",
        End.FAILED: "could not be tried",
        End.REFUSED: "was not begun",
        End.LOST: "is not there",
    }[attempt.end or End.LOST]
    return (
        f"Supervisor {wanted.version} {said}: {attempt.message}. It is tried again in {when}, or "
        "when the target changes"
    )


def read_attempt(document: object) -> Attempt | None:
    """The attempt that was remembered; None for none, or one of another version's form."""
    try:
        fields = wire.mapping(document, "attempt")
        if not fields:
            return None
        return Attempt(
            image=wire.text(fields.get("image"), "image"),
            tries=max(1, wire.number(fields.get("tries"), "tries")),
            at=float(fields["at"]),
            end=End(fields["end"]) if fields.get("end") else None,
            message=wire.scalar(fields.get("message")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_host(answer: Mapping[str, Any]) -> HostState:
    """The host's answer to `supervisor`.

    Raises:
        wire.WireError: it is not of the form that it should have.
    """
    digests = answer.get("digests")
    names = [str(each) for each in digests] if isinstance(digests, list) else []
    ended = wire.mapping(answer.get("result"), "result")
    result = tuple(wire.scalar(ended.get(key)) for key in ("image", "state", "message"))
    return HostState(
        images=frozenset([*names, wire.scalar(answer.get("image"))]),
        is_updating=wire.flag(answer.get("updating")),
        result=(result[0], result[1], result[2]) if ended else None,
        takes_tags=wire.flag(answer.get("tags")),
    )
