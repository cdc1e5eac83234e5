"""What a service tells Prometheus (https://prometheus.io/docs/instrumenting/): figures whose names
have one beginning, in a registry of their own.
"""

from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Buckets for what is answered."""


class Gauges:
    """Figures of one process, with what the system says of it. They begin at 0 when it starts."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A figure that goes up and down."""
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self._registry)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A figure that goes up; Prometheus knows it by this name and `_total`."""
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self._registry)

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = SECONDS,
    ) -> Histogram:
        """How often what took how long, or was how large."""
        return Histogram(
            f"{self._prefix}_{name}", text, labels, registry=self._registry, buckets=buckets
        )

    def add(self, collector: Collector) -> None:
        """Have this one asked too, at each look."""
        self._registry.register(collector)
