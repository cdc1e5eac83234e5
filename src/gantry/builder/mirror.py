"""Where a base's packages come from: the Debian archive's mirror, and how fresh its security
updates are.

A mirror may be between two of its states: the signed index (InRelease) is of one day, the list of
packages of another. apt refuses that, and rightly. The security pocket is there under two names,
though, its codename's (bookworm-security) and its suite's (oldstable-security), and the other name
may still have its last state whole: signed, but past the week that Debian gives it. That one is
taken, if it is not too old, and said. What is looked at here only chooses a line of sources.list:
apt checks the signature and the age of what that line names.

The format of an index is https://wiki.debian.org/DebianRepository/Format; standard library only.
"""

import hashlib
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException

MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
# Debian's security index is valid for a week. An older state than a month is refused by apt.
OLDER_STATE = timedelta(days=30)
TIMEOUT_SECONDS = 20.0
LARGEST_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Index:
    """What is needed of an InRelease file; `lists` are SHA-256 in hex by path."""

    suite: str
    codename: str
    date: datetime
    architectures: frozenset[str]
    lists: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Security:
    """The security pocket as a base gets it.

    `source` is its line of sources.list. `state` is the day (2026-10-29) of the older state that
    is taken, or empty: the mirror's newest. `current` says that the mirror was seen to have its
    newest state whole. `preferences` is for apt, `warning` for people; either may be empty.
    """

    source: str
    state: str = ""
    current: bool = False
    preferences: str = ""
    warning: str = ""


def parse_index(text: str) -> Index:
    """Read an InRelease file; its signature is apt's to check.

    Raises:
        ValueError: it is none.
    """
    fields: dict[str, str] = {}
    lists: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith(" "):
            words = line.split()
            if section == "SHA256" and len(words) == 3:
                lists[words[2]] = words[0]
        elif ": " in line or line.endswith(":"):
            section, _, value = line.partition(":")
            fields[section] = value.strip()
    try:
        return Index(
            suite=fields["Suite"],
            codename=fields["Codename"],
            date=parsedate_to_datetime(fields["Date"]).replace(tzinfo=UTC),
            architectures=frozenset(fields["Architectures"].split()),
            lists=lists,
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"not an index of the Debian archive: {error}") from error


def security_of(suite: str, debian_arch: str, now: datetime | None = None) -> Security:
    """The security pocket of `suite` for an architecture by Debian's name.

    When the mirror does not answer, this is the usual line: apt will say what is wrong.
    """
    usual = f"{suite}-security"
    source = f"deb {SECURITY_MIRROR} {usual} main"
    try:
        index = _index(usual)
        if debian_arch not in index.architectures:
            return Security(source, current=True, warning=_unsupported(suite, debian_arch))
        if _whole(usual, index, debian_arch):
            return Security(source, current=True)
        other = index.suite
        # It becomes part of a line of sources.list, and nothing has checked it yet.
        if not re.fullmatch(r"[a-z][a-z-]*", other) or other == usual:
            return Security(source)
        older = _index(other)
        age = (now or datetime.now(UTC)) - older.date
        if older.codename != usual or age > OLDER_STATE:
            return Security(source)
        if not _whole(other, older, debian_arch):
            return Security(source)
    except (HTTPException, OSError, ValueError):
        return Security(source)
    seconds = int(OLDER_STATE.total_seconds())
    state = older.date.date().isoformat()
    return Security(
        source=f"deb [valid-until-min={seconds}] {SECURITY_MIRROR} {other} main",
        state=state,
        preferences=_only(usual),
        warning=(
            f"the Debian archive's mirror is between two states for {debian_arch}: security "
            f"updates up to {state} are taken, its last whole state; the base is made anew when "
            "the mirror is whole"
        ),
    )


def _fetch(path: str) -> bytes:
    url = f"{SECURITY_MIRROR}/dists/{path}"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - ours
        content: bytes = response.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(f"{url} is larger than {LARGEST_BYTES} bytes")
    return content


def _index(name: str) -> Index:
    return parse_index(_fetch(f"{name}/InRelease").decode("utf-8", "replace"))


def _whole(name: str, index: Index, debian_arch: str) -> bool:
    """Whether the list of packages is the one that the index names."""
    path = f"main/binary-{debian_arch}/Packages.xz"
    return hashlib.sha256(_fetch(f"{name}/{path}")).hexdigest() == index.lists.get(path)


def _only(codename: str) -> str:
    """After Debian's next release the suite's name means another Debian: never that one."""
    return (
        f"Package: *\nPin: release n={codename}\nPin-Priority: 500\n\n"
        "Package: *\nPin: release l=Debian-Security\nPin-Priority: -1\n"
    )


def _unsupported(suite: str, debian_arch: str) -> str:
    return (
        f"Debian gives no security updates of {suite} for {debian_arch} any more: "
        "the base has its last point release"
    )
