"""What Prometheus is told of one api process.

Labels have few values: templates of routes and never paths, names of rules, kinds and states.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gantry.api.database import Database
from gantry.api.events import Hub
from gantry.api.queries import census
from gantry.gauges import Gauges

if TYPE_CHECKING:
    from prometheus_client.core import Metric

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STREAMS = ("text/event-stream", "application/x-ndjson")
KINDS = frozenset({"device", "application", "key", "user", "web", "gone", "action"})
# Several scrapers, and replicas, ask the database no more than this often for the same.
CENSUS_SECONDS = 15.0
# What is counted in the database: a name, what it is, its labels, and how it is counted.
_CENSUS = (
    (
        "gantry_devices",
        "Devices, by their heartbeat and the class of their application.",
        ("state", "class"),
        census.devices,
    ),
    (
        "gantry_devices_connected",
        "Devices that are connected to the VPN, by its server.",
        ("server",),
        census.connected,
    ),
    (
        "gantry_device_actions",
        "Actions on devices that are not over, by their status.",
        ("status",),
        census.actions,
    ),
    (
        "gantry_registry_bytes",
        "What images take in the registry, as the last look at it found.",
        ("of",),
        census.registry_bytes,
    ),
    (
        "gantry_registry_collected_at_seconds",
        "When the registry's space was collected last, in seconds since 1970.",
        (),
        census.registry_collected,
    ),
)


class Metrics(Gauges):
    """All figures of a process."""

    def __init__(self, database: Database) -> None:
        super().__init__("gantry_api")
        self.requests = self.counter(
            "requests", "Requests that were answered.", ("method", "route", "status")
        )
        self.seconds = self.histogram(
            "request_seconds", "Until an answer began.", ("method", "route")
        )
        self.in_flight = self.gauge(
            "requests_in_flight", "Requests that are being answered, without streams."
        )
        self.streams = self.gauge(
            "streams_open",
            "Answers that do not end: event streams of devices, revocations for logs.",
            ("route",),
        )
        self.notifications = self.counter(
            "notifications", "Announcements of the database that were heard.", ("kind",)
        )
        self.rules = self.counter(
            "rules_broken",
            "Requests that were refused because they broke a rule of the model (docs/rules.md).",
            ("rule",),
        )
        self.add(_DatabaseCollector(database))


class _DatabaseCollector(Collector):
    """What is looked up at a scrape: the pool, and the devices."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counted: Mapping[str, Mapping[tuple[str, ...], int]] | None = None
        self._at = 0.0

    def describe(self) -> Iterable["Metric"]:
        """Nothing: a registration asks no database."""
        return ()

    def collect(self) -> Iterable["Metric"]:
        """Figures of this moment. Without the database, those of devices are left out."""
        in_use = GaugeMetricFamily(
            "gantry_api_database_connections_in_use", "Connections of the pool that are taken."
        )
        in_use.add_metric((), self._in_use())
        yield in_use
        counted = self._census()
        up = GaugeMetricFamily("gantry_api_database_up", "Whether PostgreSQL answers.")
        up.add_metric((), counted is not None)
        yield up
        for name, sentence, labels, _ in _CENSUS:
            family = GaugeMetricFamily(name, sentence, labels=labels)
            for values, number in (counted or {}).get(name, {}).items():
                family.add_metric(values, number)
            yield family

    def _in_use(self) -> int:
        # A session has no connection before its first statement.
        with self._database.snapshot() as session:
            pool = session.get_bind().engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def _census(self) -> Mapping[str, Mapping[tuple[str, ...], int]] | None:
        with self._lock:
            now = time.monotonic()
            if self._counted is None or now - self._at > CENSUS_SECONDS:
                try:
                    with self._database.snapshot() as session:
                        self._counted = {name: count(session) for name, _, _, count in _CENSUS}
                except SQLAlchemyError:
                    self._counted = None
                self._at = now
            return self._counted


class CountingHub(Hub):
    """A hub that counts what it hears."""

    def __init__(self, url: str, busy: Callable[[], bool], metrics: Metrics) -> None:
        super().__init__(url, busy)
        self._metrics = metrics

    def wake(self, payload: str) -> None:
        """As the hub's."""
        kind = payload.partition(":")[0]
        self._metrics.notifications.labels(kind if kind in KINDS else "other").inc()
        super().wake(payload)


class Measured:
    """ASGI middleware: each request is counted, and the time until its answer begins."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, begun = self._metrics, time.perf_counter()
        status = 0
        stream = ""

        async def noted(message: Message) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                self._count(scope, status, time.perf_counter() - begun)
                if _is_stream(message):
                    stream = _route(scope)
                    metrics.streams.labels(stream).inc()
                    metrics.in_flight.dec()
            await send(message)

        metrics.in_flight.inc()
        try:
            await self._app(scope, receive, noted)
        except Exception:
            # The answer to it, 500, is made further out.
            if not status:
                self._count(scope, 500, time.perf_counter() - begun)
            raise
        finally:
            if stream:
                metrics.streams.labels(stream).dec()
            else:
                metrics.in_flight.dec()

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = _route(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)


def _route(scope: Scope) -> str:
    """The template of the route that serves a request; `none` where there is no such path."""
    return getattr(scope.get("route"), "path", None) or "none"


def _is_stream(message: Message) -> bool:
    for name, value in message.get("headers", ()):
        if name == b"content-type":
            return bool(value.decode("latin-1").startswith(STREAMS))
    return False
