"""What the supervisor says of its own doing: on its output, and into the device's log."""

import logging
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Journal:
    """Writes a sentence in both places. `sink` takes message and service id."""

    def __init__(self, sink: Callable[[str, int | None], None]) -> None:
        self._sink = sink

    def write(self, message: str, service_id: int | None = None, is_error: bool = False) -> None:
        """Say what happened."""
        _LOG.log(logging.WARNING if is_error else logging.INFO, "%s", message)
        self._sink(message, service_id)
