"""How a service is replaced, as its labels say.

The labels are the family's: https://docs.balena.io/learn/deploy/release-strategy/update-strategies/
"""

from collections.abc import Mapping
from enum import StrEnum

_NAMES = ("io.balena.update.strategy", "io.resin.update.strategy")
_TIMEOUTS = ("io.balena.update.handover-timeout", "io.resin.update.handover-timeout")
_DEFAULT_TIMEOUT = 60.0  # seconds
# https://github.com/balena-os/balena-supervisor/pull/2381
REQUIRES_REBOOT = "io.balena.update.requires-reboot"


class Strategy(StrEnum):
    """In which order a new container comes and an old one goes."""

    DOWNLOAD_THEN_KILL = "download-then-kill"
    KILL_THEN_DOWNLOAD = "kill-then-download"
    DELETE_THEN_DOWNLOAD = "delete-then-download"
    HAND_OVER = "hand-over"

    @property
    def kills_first(self) -> bool:
        """Whether the old container goes before the new image comes."""
        return self in (Strategy.KILL_THEN_DOWNLOAD, Strategy.DELETE_THEN_DOWNLOAD)


def read_strategy(labels: Mapping[str, str]) -> tuple[Strategy, float, tuple[str, ...]]:
    """The strategy, the time to hand over in seconds, and what in the labels is not understood:
    that counts as not said, as with the family."""
    notices = []
    strategy, timeout = Strategy.DOWNLOAD_THEN_KILL, _DEFAULT_TIMEOUT
    name, value = _label(labels, _NAMES)
    if value in tuple(Strategy):
        strategy = Strategy(value)
    elif value:
        notices.append(f"label {name} is {value!r:.80}: use one of {', '.join(Strategy)}")
    name, value = _label(labels, _TIMEOUTS)
    if value.isdecimal() and len(value) < 12:
        timeout = int(value) / 1000
    elif value:
        notices.append(f"label {name} is {value!r:.80}: give whole milliseconds")
    return strategy, timeout, tuple(notices)


def _label(labels: Mapping[str, str], names: tuple[str, str]) -> tuple[str, str]:
    """The first of these labels that is there, and its value."""
    for name in names:
        if labels.get(name):
            return name, labels[name].strip()
    return names[0], ""
