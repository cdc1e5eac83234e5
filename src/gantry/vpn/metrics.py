"""What Prometheus is told of one VPN server (https://prometheus.io/docs/instrumenting/).

Labels have few values: kinds and results, never devices, users or addresses.
"""

from collections.abc import Mapping
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

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Login(StrEnum):
    """How a login ended. `kept` went on without the api, which was away."""

    ACCEPTED = "accepted"
    RENEWED = "renewed"
    KEPT = "kept"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"


class Road(StrEnum):
    """What a way to a device is for."""

    PERSON = "person"
    SERVICE = "service"
    PEER = "peer"
    PUBLIC_URL = "public_url"


class Metrics:
    """All figures of a process. They begin at 0 when it starts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.connected = self._gauge("devices_connected", "Devices that are logged in.")
        self.waiting = self._gauge("logins_waiting", "Logins that are not answered yet.")
        self.unsent = self._gauge("events_unsent", "Events that the api has not taken yet.")
        self.openvpn_up = self._gauge("openvpn_up", "Whether openvpn runs.")
        self.api_up = self._gauge("api_up", "Whether the api took the last report.")
        self.logins = Counter(
            "gantry_vpn_logins",
            "Logins of devices, and renewals of their keys.",
            ("result",),
            registry=self._registry,
        )
        self.login_seconds = Histogram(
            "gantry_vpn_login_seconds",
            "From openvpn's question to our answer.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.kills = self._counter("devices_cut", "Devices whose key ended while they were there.")
        self.starts = self._counter("openvpn_starts", "How often openvpn was started.")
        self.received = self._counter("received_bytes", "From devices, counted at their end.")
        self.sent = self._counter("sent_bytes", "To devices, counted at their end.")
        self.roads = Gauge(
            "gantry_vpn_tunnels_open",
            "Ways to devices that are open.",
            ("kind",),
            registry=self._registry,
        )
        self.answers = Counter(
            "gantry_vpn_tunnels",
            "Ways to devices that were asked for, by the status of the answer.",
            ("kind", "status"),
            registry=self._registry,
        )
        self.carried = Counter(
            "gantry_vpn_tunnel_bytes",
            "Bytes that ways to devices carried, counted at their end.",
            ("kind", "direction"),
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)

    def count_bytes(self, environment: Mapping[str, str]) -> None:
        """What openvpn says of a connection that ended."""
        for counter, name in ((self.received, "bytes_received"), (self.sent, "bytes_sent")):
            value = environment.get(name, "")
            if value.isdecimal():
                counter.inc(int(value))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"gantry_vpn_{name}", text, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"gantry_vpn_{name}", text, registry=self._registry)
