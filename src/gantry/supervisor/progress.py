"""How far a download is: in percent, and in bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# A layer is first received, then unpacked; on a Pi the latter takes a fair part of the time.
_RECEIVED = 0.7


class DownloadWay(StrEnum):
    """How an image comes."""

    DELTA = "delta"
    PULL = "pull"


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of a delta, or of the compressed layers of a pull, that are here: `done` of `total`,
    which is None where nobody knows it. What came before a cut or a restart counts where it is not
    fetched again. At the end of a pull some may be missing: the engine does not tell of all."""

    way: DownloadWay
    done: int
    total: int | None


# Hears of a download: its percentage, in which unpacking counts too, and its bytes.
Moved = Callable[[int, Received], None]


class PullProgress:
    """The percentage, from the engine's messages of one pull. It never goes back."""

    def __init__(self) -> None:
        self._layers: dict[str, float] = {}
        self.percent = 0

    def add(self, message: Mapping[str, Any]) -> int:
        """The percentage after this message."""
        layer = message.get("id")
        status = str(message.get("status", ""))
        if isinstance(layer, str) and not status.startswith("Pulling from"):
            done = self._fraction(status, message.get("progressDetail") or {})
            self._layers[layer] = max(done, self._layers.get(layer, 0.0))
        if self._layers:
            mean = sum(self._layers.values()) / len(self._layers)
            self.percent = max(self.percent, min(99, int(mean * 100)))
        return self.percent

    @staticmethod
    def _fraction(status: str, detail: Mapping[str, Any]) -> float:
        total = detail.get("total") or 0
        part = min(1.0, detail.get("current", 0) / total) if total else 0.0
        match status:
            case "Already exists" | "Pull complete":
                return 1.0
            case "Download complete" | "Verifying Checksum":
                return _RECEIVED
            case "Downloading":
                return part * _RECEIVED
            case "Extracting":
                return _RECEIVED + part * (1.0 - _RECEIVED)
            case _:
                return 0.0
