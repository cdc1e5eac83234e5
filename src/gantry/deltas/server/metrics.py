"""What Prometheus is told of the delta server (https://prometheus.io/docs/instrumenting/).

Labels have few values: states and outcomes, never images.
"""

from enum import StrEnum

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.making import Made

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 900, 1800)


class Outcome(StrEnum):
    """What became of a pair that was to be made. `gone`: the registry had an image no more;
    `deferred`: it gave way to one that somebody waits for."""

    MADE = "made"
    WHOLE = "whole"
    FAILED = "failed"
    GONE = "gone"
    DEFERRED = "deferred"


class Metrics:
    """All figures of a process. They begin at 0 when it starts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.waiting = self._gauge("waiting", "Deltas that wait to be made.")
        self.working = self._gauge("working", "Deltas that are being made.")
        self.stored = self._gauge("stored_bytes", "Of all deltas that are kept.")
        self.cached = self._gauge("layer_cache_bytes", "Of unpacked layers that are kept.")
        self.api_up = self._gauge("api_up", "Whether the api told last time what is wanted.")
        self.pairs = Gauge(
            "gantry_deltas_pairs", "Pairs by their state.", ("state",), registry=self._registry
        )
        self.outcomes = Counter(
            "gantry_deltas_made",
            "Pairs that were to be made, by what became of them.",
            ("outcome",),
            registry=self._registry,
        )
        for each in Outcome:
            self.outcomes.labels(each)
        self.seconds = Histogram(
            "gantry_deltas_make_seconds",
            "From a worker's start with a pair to the delta, with fetching.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.sent = self._counter("sent_bytes", "Of deltas, to those who fetch them.")
        self.downloads = self._counter("downloads", "Deltas that were fetched to their last byte.")
        self.saved = self._counter(
            "saved_bytes", "What pulls would have fetched more than the deltas that were fetched."
        )
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)

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

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"gantry_deltas_{name}", text, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"gantry_deltas_{name}", text, registry=self._registry)
