"""How long a delta that is still being made is waited for. Pure."""

from dataclasses import dataclass

from gantry.contracts.deltas import DeltaAnswer

# So long is always waited, in seconds, however fast a pull would be: what runs goes on running
# meanwhile, and a delta that is fetched spares the fleet's line too.
LEAST = 30.0
# And so long at most, however slow a pull would be.
MOST = 1800.0
# Where it is not known how long a pull takes.
UNKNOWN = 300.0


@dataclass(frozen=True, slots=True)
class Patience:
    """`most` is what the device's variable says, in seconds, None where it says nothing; `rate` is
    how fast the device downloads, in bytes a second, None where that is not known."""

    most: float | None = None
    rate: float | None = None

    def limit(self, whole: int | None) -> float:
        """Seconds for which a delta is waited for that spares a pull of `whole` bytes: as long as
        the pull would take, so that at the worst waiting doubles an update's time."""
        if self.most is not None:
            return self.most
        if self.rate is None or whole is None:
            return UNKNOWN
        return min(max(whole / self.rate, LEAST), MOST)

    def verdict(self, answer: DeltaAnswer, waited: float) -> str | None:
        """Why one that is being made is waited for no longer, after so many seconds; None: it is.
        What the server expects counts, and so does the delta's own download."""
        limit = self.limit(answer.whole)
        told = answer.seconds or 0
        download = 0.0
        if self.most is None and self.rate is not None:
            download = (answer.size or 0) / self.rate
        if waited < limit and waited + told + download <= limit:
            return None
        said = f"it was not made within {waited:.0f} s"
        if told:
            said = f"it would be here in about {max(1.0, told + download):.0f} s"
        if self.most is None and self.rate is not None and answer.whole is not None:
            return f"{said}, and a pull takes about {max(1.0, answer.whole / self.rate):.0f} s"
        return f"{said}, and is waited for {limit:.0f} s at most"
