"""What an operator is told of a server that is full, and how often."""

import time
from collections.abc import Callable

EVERY_SECONDS = 60.0
# What can be done about it, whatever it is that is full.
ADVICE = (
    "give it more memory (gantry:memory: {vpn: MiB}) or the fleet one more server "
    "(gantry:vpn: {servers: N})"
)


class Full:
    """Prints that there is no room for more, once a minute at most: others hear it all the time."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda text: print(text, flush=True))
        self._said = -EVERY_SECONDS

    def tell(self, what: str) -> None:
        """`what` is there, and it is as much as there may be."""
        now = time.monotonic()
        if now - self._said >= EVERY_SECONDS:
            self._said = now
            self._say(f"full: {what}, as many as it has room for; {ADVICE}")
