"""A server of the VPN, as the api hears it."""

import json
import queue
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx

from .conftest import Api, Device


def token_of(client: httpx.Client) -> str:
    """The credential of a client."""
    return client.headers["authorization"].removeprefix("Bearer ")


class Server:
    """Tells what happens at a server of this name; `boot` changes when it starts anew."""

    def __init__(self, api: Api, name: str | None = None) -> None:
        self.name = name or f"vpn-{secrets.token_hex(3)}"
        self.client = api.service("vpn")
        self.boot = ""
        self.start()

    def start(self) -> None:
        """Start (anew), with no device."""
        self.boot = secrets.token_hex(4)
        self.beat([])

    def beat(self, connected: list[str] | None = None) -> None:
        """Tell that the server is there."""
        answer = self.client.put(
            f"/services/vpn/servers/{self.name}", json={"boot": self.boot, "connected": connected}
        )
        assert (answer.status_code, answer.json()) == (200, {}), answer.text

    def authorize(self, uuid: str, key: str) -> httpx.Response:
        """Ask whether a device may connect."""
        body = {"uuid": uuid, "key": key, "server": self.name}
        return self.client.post("/services/vpn/devices/authorize", json=body)

    def tell(self, *events: dict[str, Any]) -> None:
        """Tell a batch of events."""
        body = {"server": self.name, "boot": self.boot, "events": list(events)}
        answer = self.client.post("/services/vpn/events", json=body)
        assert answer.status_code == 204, answer.text

    def login(self, device: Device) -> str:
        """Let a device connect; the session."""
        answer = self.authorize(device.uuid, device.key)
        assert answer.status_code == 200, answer.text
        session = secrets.token_hex(6)
        self.tell(event(device.uuid, "connected", session))
        return session

    def tunnel(self, authorization: str | None, uuid: str, **more: Any) -> httpx.Response:
        """Ask whether somebody may reach a device."""
        body = {"uuid": uuid, "port": 22222, "session": secrets.token_hex(8), **more}
        headers = {"X-Gantry-Authorization": f"Bearer {authorization}"} if authorization else {}
        return self.client.post("/services/vpn/tunnels/authorize", json=body, headers=headers)


class Changes:
    """What a server hears, read by a thread."""

    def __init__(self, api: Api) -> None:
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._api = api
        self._open = threading.Event()
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._open.wait(20)

    def _read(self) -> None:
        client = self._api.service("vpn")
        with client.stream("GET", "/services/vpn/changes", timeout=120) as answer:
            self._open.set()
            for line in answer.iter_lines():
                if line.strip():
                    self.lines.put(json.loads(line))
        self.ended.set()

    def until(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """All that is heard until this one."""
        heard = []
        while wanted not in heard:
            heard.append(self.lines.get(timeout=20))
        return heard


def event(uuid: str, what: str, session: str, ago: float = 0.0) -> dict[str, Any]:
    """Something that happened to a connection, so many seconds ago."""
    at = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    return {
        "uuid": uuid,
        "address": "100.64.0.9",
        "event": what,
        "at": at,
        "session": session,
    }


def state(user: httpx.Client, uuid: str) -> tuple[bool, str | None]:
    """Whether a device is connected, and since when that is so."""
    query = f"/v7/device(uuid='{uuid}')?$select=is_connected_to_vpn,last_vpn_event"
    (row,) = user.get(query).json()["d"]
    return row["is_connected_to_vpn"], row["last_vpn_event"]


def audited(user: httpx.Client, device: Device, *actions: str) -> Iterator[dict[str, Any]]:
    """What the audit log has of a device, the oldest first."""
    query = f"/v7/audit_entry?$filter=resource eq 'device' and row eq {device.id}&$orderby=id"
    for each in user.get(query).json()["d"]:
        if each["action"] in actions:
            yield each
