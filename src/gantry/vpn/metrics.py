"""What Prometheus is told of one VPN server.

Labels have few values: kinds and results, never devices, users or addresses.
"""

from collections.abc import Mapping
from enum import StrEnum

from gantry.gauges import Gauges


class Login(StrEnum):
    """How a login ended. `kept` went on without the api, which was away; `full`: no room."""

    ACCEPTED = "accepted"
    RENEWED = "renewed"
    KEPT = "kept"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"
    FULL = "full"


class Road(StrEnum):
    """What a way to a device is for."""

    PERSON = "person"
    SERVICE = "service"
    PEER = "peer"
    PUBLIC_URL = "public_url"


class Metrics(Gauges):
    """All figures of a process."""

    def __init__(self) -> None:
        super().__init__("gantry_vpn")
        self.connected = self.gauge("devices_connected", "Devices that are logged in.")
        self.room = self.gauge("devices_most", "Devices that there is room for.")
        self.waiting = self.gauge("logins_waiting", "Logins that are not answered yet.")
        self.unsent = self.gauge("events_unsent", "Events that the api has not taken yet.")
        self.openvpn_up = self.gauge("openvpn_up", "Whether openvpn runs.")
        self.api_up = self.gauge("api_up", "Whether the api took the last report.")
        self.logins = self.counter(
            "logins", "Logins of devices, and renewals of their keys.", ("result",)
        )
        self.login_seconds = self.histogram(
            "login_seconds", "From openvpn's question to our answer."
        )
        self.kills = self.counter("devices_cut", "Devices whose key ended while they were there.")
        self.starts = self.counter("openvpn_starts", "How often openvpn was started.")
        self.received = self.counter("received_bytes", "From devices, counted at their end.")
        self.sent = self.counter("sent_bytes", "To devices, counted at their end.")
        self.roads = self.gauge("tunnels_open", "Ways to devices that are open.", ("kind",))
        self.answers = self.counter(
            "tunnels",
            "Ways to devices that were asked for, by the status of the answer.",
            ("kind", "status"),
        )
        self.carried = self.counter(
            "tunnel_bytes",
            "Bytes that ways to devices carried, counted at their end.",
            ("kind", "direction"),
        )

    def count_bytes(self, environment: Mapping[str, str]) -> None:
        """What openvpn says of a connection that ended."""
        for counter, name in ((self.received, "bytes_received"), (self.sent, "bytes_sent")):
            value = environment.get(name, "")
            if value.isdecimal():
                counter.inc(int(value))
