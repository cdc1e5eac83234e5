"""Tries at passwords and codes, counted over all replicas; after too many the door is closed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address

from sqlalchemy.orm import Session

from gantry.api.database import Database
from gantry.api.errors import TooManyRequestsError
from gantry.api.queries import logins

# The family's rule: ten tries, then an hour.
TRIES = 10
BLOCK = timedelta(hours=1)
# Of one name from all places together, and of all names from one place: ten places share out the
# tries at a password, or ten names are tried with the most common ones.
WIDE_TRIES = 100
# Who has logged in from a place within this time is no stranger there: the two above do not hold
# for them, so that nobody can keep them out from elsewhere.
KNOWN_FOR = timedelta(days=30)

EVERYWHERE = ""


@dataclass(frozen=True, slots=True)
class Door:
    """What is tried (a name), and the place it is tried from."""

    name: str
    place: str


def place_of(address: str) -> str:
    """What counts as one place: an IPv4 address, or the 64 bits of an IPv6 network.

    Whoever has one IPv6 address has all of its network (RFC 6177).
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64] or "unknown"
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


def knock(database: Database, door: Door) -> int:
    """Count a try before it is judged, so that tries side by side all count; how many there were.

    Raises:
        TooManyRequestsError: too many have failed; an hour must pass.
    """
    since = datetime.now(UTC) - BLOCK
    with database.transaction() as session:
        if door.place != EVERYWHERE:
            _look_around(session, door, since)
        tries, last = logins.count_attempt(session, door.name, door.place, since, TRIES)
    if tries > TRIES:
        raise _closed(f"{TRIES} tries as {door.name!r} failed", last)
    return tries


def _look_around(session: Session, door: Door, since: datetime) -> None:
    around = logins.around(session, door.name, door.place, since, TRIES)
    if logins.is_known(session, door.name, door.place, datetime.now(UTC) - KNOWN_FOR):
        return
    if around.of_name >= WIDE_TRIES:
        raise _closed(f"too many tries as {door.name!r} failed, from several places", around.oldest)
    if around.of_place >= WIDE_TRIES:
        raise _closed("too many tries from your address failed, as several users", around.oldest)


def _closed(what: str, since: datetime) -> TooManyRequestsError:
    wait = max(1, int((since + BLOCK - datetime.now(UTC)).total_seconds()))
    return TooManyRequestsError(f"{what}: try again in {-(-wait // 60)} minutes", wait)


def opened(session: Session, door: Door) -> None:
    """A try was right: start counting anew."""
    logins.succeeded(session, door.name, door.place)


def sweep(session: Session) -> None:
    """Drop the counters that say nothing any more."""
    now = datetime.now(UTC)
    logins.forget_before(session, now - 2 * BLOCK, now - KNOWN_FOR)
