"""Times as one types them."""

import re
from datetime import UTC, datetime, timedelta

from gantry.client.errors import UsageError

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def end_of(text: str | None) -> datetime | None:
    """When something ends: so long from now, or a day or time, local where it names no zone.

    Raises:
        UsageError: it is neither, or is over.
    """
    if text is None:
        return None
    now = datetime.now(UTC)
    try:
        if match := re.fullmatch(r"([0-9]{1,6})([mhdw])", text):
            until = now + int(match[1]) * _UNITS[match[2]]
        else:
            until = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time: 30d, 12h, 2w or 2030-01-31 are") from error
    if until <= now:
        raise UsageError(f"{text} is over")
    return until
