"""What the supervisor may ask of its host, and how the host may refuse."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

BLINK_SECONDS = 15.0


class HostError(Exception):
    """The host did not do what it was asked; the message says what, why, and what to do."""


class HostAwayError(HostError):
    """Nobody is behind the door: the host's side is not installed, or does not run."""


class HostRequestError(HostError, ValueError):
    """What was asked cannot be done on any host; the message says what to ask instead."""


@dataclass(frozen=True, slots=True)
class JournalQuery:
    """Which lines of the host's journal, with the family's names and journalctl's meanings.

    `format` is one of journalctl's `--output`; `since` and `until` are times as journalctl takes
    them; `count` is how many of the newest.
    """

    all: bool = False
    follow: bool = False
    count: int | None = None
    unit: str | None = None
    container_id: str | None = None
    format: str = "short"
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class VpnStatus:
    """The tunnel to the cloud side: whether it is to be, and whether it is."""

    enabled: bool
    connected: bool


class Host(Protocol):
    """The one doorway to the host. Every method raises HostAwayError where nobody answers, and
    HostError where the host refuses. Whether update locks permit a restart is the caller's to ask;
    `set_host_config` asks itself."""

    async def reboot(self) -> None:
        """Have the host restarted. Returns once the host has taken it on, which is a moment before
        everything ends."""

    async def shutdown(self) -> None:
        """Have the host switched off; as `reboot`."""

    async def blink(self, seconds: float = BLINK_SECONDS) -> None:
        """Have the board's LED blink, so that somebody finds the device. Returns at once; a board
        without an LED does nothing."""

    async def host_config(self) -> dict[str, Any]:
        """The body of `GET /v1/device/host-config`: `{"network": {"hostname": …, "proxy": …}}`;
        `proxy` only where there is one."""

    async def set_host_config(self, patch: Mapping[str, Any], force: bool = False) -> None:
        """Change host name and proxy: the body of `PATCH /v1/device/host-config`. What is not
        named stays; what is empty goes back to its default.

        Raises:
            HostRequestError: the body is not in order; nothing was changed.
            LockedError: an application has an update lock, and `force` is not set.
        """

    def journal(self, query: JournalQuery) -> AsyncGenerator[bytes, None]:
        """Pieces of the host's journal as they come. Nothing is read ahead: who reads slowly slows
        the host's side down. The one who ends it closes the generator (`aclosing`)."""

    async def vpn_status(self) -> VpnStatus:
        """Whether the tunnel is to be and is."""


def journal_query(body: Mapping[str, Any]) -> JournalQuery:
    """The query in the body of `POST /v2/journal-logs`. Fields that are not known are passed over.

    Raises:
        HostRequestError: a value that journalctl would not take.
    """
    count = body.get("count")
    if count is not None:
        if isinstance(count, bool) or not str(count).isdecimal() or int(count) < 1:
            raise HostRequestError(f"count is {count!r}: give how many lines, 1 or more")
        count = int(count)
    return JournalQuery(
        all=_truthy(body.get("all")),
        follow=_truthy(body.get("follow")),
        count=count,
        unit=_word(body, "unit"),
        container_id=_word(body, "containerId"),
        format=_word(body, "format") or "short",
        since=_word(body, "since"),
        until=_word(body, "until"),
    )


def _truthy(value: object) -> bool:
    """As the family reads flags of its bodies."""
    return value in (True, 1) or str(value).lower() in ("true", "1", "on")


def _word(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise HostRequestError(f"{name} is {value!r}: give a text")
    text = str(value)
    if len(text) > 200 or not text.isprintable():
        raise HostRequestError(f"{name} is {text[:40]!r}: give one line of at most 200 characters")
    return text
