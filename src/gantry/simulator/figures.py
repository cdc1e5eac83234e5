"""What a simulation measures. Its memory is bounded, however long it runs."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from gantry.supervisor.cloud import CloudError


class Kind(StrEnum):
    """What a device asks for."""

    REGISTER = "register"
    STATE = "state"
    REPORT = "report"
    EVENTS = "events"
    LOGS = "logs"


class Phase(StrEnum):
    """When it was asked for."""

    START = "start"
    STEADY = "steady"
    RELEASE = "release"


class Histogram:
    """Durations, in buckets 2 % apart: so exact are the quantiles, and the greatest is exact."""

    _LEAST = 1e-5  # seconds; what is quicker counts as this
    _STEP = math.log(1.02)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._buckets[round(math.log(max(seconds, self._LEAST) / self._LEAST) / self._STEP)] += 1
        self.count += 1
        self.most = max(self.most, seconds)

    def include(self, other: "Histogram") -> None:
        """All of another one's."""
        self._buckets += other._buckets
        self.count += other.count
        self.most = max(self.most, other.most)

    def quantile(self, share: float) -> float:
        """The duration, in seconds, that this share of all did not exceed; 0 when there is none."""
        left = math.ceil(share * self.count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(self.most, self._LEAST * math.exp(bucket * self._STEP))
        return self.most


def quantile(values: Sequence[float], share: float) -> float:
    """The least of `values` that this share of them does not exceed; 0 when there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class Release:
    """How a release came to the devices: seconds from `begun` until each saw and ran it."""

    begun: float
    seen: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)


class Figures:
    """All figures of one simulation. `clock` gives seconds."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.phase = Phase.START
        self.latencies: dict[tuple[Kind, Phase], Histogram] = {}
        self.requests: dict[Kind, Counter[int]] = {kind: Counter() for kind in Kind}
        self.announcements: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.releases: dict[str, Release] = {}
        self.streams = 0

    def now(self) -> float:
        """Seconds since the simulation began."""
        return time.monotonic() - self.begun

    @contextmanager
    def measured(self, kind: Kind) -> Iterator[None]:
        """A request: its time when it is answered, its error when it is not."""
        begun, phase = self.asked(kind), self.phase
        try:
            yield
        except CloudError as error:
            self.failed(kind, error)
            raise
        self.answered(kind, phase, self.now() - begun)

    def asked(self, kind: Kind) -> float:
        """A request begins; when."""
        now = self.now()
        self.requests[kind][int(now)] += 1
        return now

    def answered(self, kind: Kind, phase: Phase, seconds: float) -> None:
        """A request was answered as it should be."""
        self.latencies.setdefault((kind, phase), Histogram()).add(seconds)

    def failed(self, kind: Kind, error: CloudError) -> None:
        """A request was not. Counted by what was wrong: there are few kinds of that."""
        cause = type(error.__cause__).__name__ if error.__cause__ else "closed by the server"
        self.errors[f"{kind}: {error.status or cause}"] += 1

    def announced(self) -> None:
        """A device heard that its target changed."""
        self.announcements[int(self.now())] += 1

    def release(self, commit: str) -> Release:
        """A release; begun now when nobody saw it before."""
        return self.releases.setdefault(commit, Release(self.now()))

    def histogram(self, kind: Kind, *phases: Phase) -> Histogram:
        """The latencies of one kind of request, of all phases or of some."""
        found = Histogram()
        for (each, phase), histogram in self.latencies.items():
            if each is kind and (not phases or phase in phases):
                found.include(histogram)
        return found

    def peak(self, begin: float = 0.0) -> int:
        """The most requests that were begun in one second, since `begin`."""
        sums: Counter[int] = Counter()
        for seconds in self.requests.values():
            sums.update({second: each for second, each in seconds.items() if second >= begin - 1})
        return max(sums.values(), default=0)

    def total(self) -> int:
        """All requests so far."""
        return sum(sum(seconds.values()) for seconds in self.requests.values())
