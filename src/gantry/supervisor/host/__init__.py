"""The host under the supervisor's container: the one doorway to it."""

from gantry.supervisor.host.doorway import (
    BLINK_SECONDS,
    Host,
    HostAwayError,
    HostError,
    HostRequestError,
    JournalQuery,
    VpnStatus,
    journal_query,
)

__all__ = [
    "BLINK_SECONDS",
    "Host",
    "HostAwayError",
    "HostError",
    "HostRequestError",
    "JournalQuery",
    "VpnStatus",
    "journal_query",
]
