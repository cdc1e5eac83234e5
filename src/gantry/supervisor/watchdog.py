"""Loops promise when they will turn again; one that does not keep its promise is stuck."""

import time

# Beyond what was promised: slow cards, busy machines, the time-outs of a request.
_GRACE = 180.0


class Promise:
    """One loop's word. Times are monotonic, in seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._due = time.monotonic() + _GRACE

    def within(self, seconds: float) -> None:
        """The loop turned, and will turn again within so many seconds."""
        self._due = time.monotonic() + seconds + _GRACE

    def complaint(self) -> str | None:
        """What is wrong, if it has not turned in time."""
        late = time.monotonic() - self._due
        return f"the {self._name} loop is {late + _GRACE:.0f} s late" if late > 0 else None
