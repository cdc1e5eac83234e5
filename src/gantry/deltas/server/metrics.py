"""What Prometheus is told of the delta server.

Labels have few values: states and outcomes, never images.
"""

from enum import StrEnum

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.making import Made
from gantry.gauges import Gauges

SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 900, 1800)


class Outcome(StrEnum):
    """What became of a pair that was to be made. `gone`: the registry had an image no more;
    `deferred`: it gave way to one that somebody waits for."""

    MADE = "made"
    WHOLE = "whole"
    FAILED = "failed"
    GONE = "gone"
    DEFERRED = "deferred"


class Metrics(Gauges):
    """All figures of a process."""

    def __init__(self) -> None:
        super().__init__("gantry_deltas")
        self.waiting = self.gauge("waiting", "Deltas that wait to be made.")
        self.working = self.gauge("working", "Deltas that are being made.")
        self.stored = self.gauge("stored_bytes", "Of all deltas that are kept.")
        self.cached = self.gauge("layer_cache_bytes", "Of unpacked layers that are kept.")
        self.api_up = self.gauge("api_up", "Whether the api told last time what is wanted.")
        self.pairs = self.gauge("pairs", "Pairs by their state.", ("state",))
        self.outcomes = self.counter(
            "made", "Pairs that were to be made, by what became of them.", ("outcome",)
        )
        for each in Outcome:
            self.outcomes.labels(each)
        self.seconds = self.histogram(
            "make_seconds",
            "From a worker's start with a pair to the delta, with fetching.",
            buckets=SECONDS,
        )
        self.sent = self.counter("sent_bytes", "Of deltas, to those who fetch them.")
        self.downloads = self.counter("downloads", "Deltas that were sent to their last byte.")
        self.saved = self.counter(
            "saved_bytes", "What pulls would have fetched more than the deltas that were fetched."
        )

    def made(self, made: Made) -> None:
        """A delta was made."""
        self.outcomes.labels(Outcome.MADE).inc()
        self.seconds.observe(made.seconds)

    def downloaded(self, size: int, whole: int) -> None:
        """A delta was fetched to its last byte."""
        self.downloads.inc()
        self.saved.inc(max(0, whole - size))

    def count(self, states: dict[str, int], stored: int) -> None:
        """What the index says."""
        self.stored.set(stored)
        for each in DeltaState:
            if each is not DeltaState.UNKNOWN:
                self.pairs.labels(each).set(states.get(each, 0))
