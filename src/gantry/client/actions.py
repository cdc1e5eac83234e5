"""Actions on devices over the api: at once to the supervisor, or kept until the device comes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gantry.client.errors import NotFoundError
from gantry.client.records import Device, first
from gantry.client.transport import Transport

Rows = Callable[[str, Mapping[str, str]], list[dict[str, Any]]]

# The api gives a supervisor 50 s.
_SECONDS = 65.0
_ACTION = {"$expand": "device($select=device_name,uuid)"}


class ActionStatus(StrEnum):
    """How far an action is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Nothing more comes of it."""
        return self not in (ActionStatus.PENDING, ActionStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done by a device. Times are ISO 8601, UTC. `result` is what its supervisor
    answered with `result_status` (of HTTP), or why it did not."""

    id: int
    device: str
    device_uuid: str
    action: str
    service: str | None
    force: bool
    status: str
    created_at: str
    expires_at: str | None
    started_at: str | None
    ended_at: str | None
    result_status: int | None
    result: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a device is to do. `service`: with it alone; `force`: whatever locks hold."""

    action: str
    service: str | None = None
    force: bool = False


class Actions:
    """What `ApiClient.actions` offers; it raises what that does."""

    def __init__(self, http: Transport, rows: Rows) -> None:
        self._http = http
        self._rows = rows

    def create(self, device: Device, wish: Wish, expires_at: str | None = None) -> Action:
        """Have it done when the device is in reach: now, or until `expires_at` (ISO 8601)."""
        parameters: dict[str, Any] = {"service": wish.service} if wish.service else {}
        parameters |= {"force": True} if wish.force else {}
        body: dict[str, Any] = {
            "device": device.id,
            "action": wish.action,
            "parameters": parameters,
        }
        body |= {"expires_at": expires_at} if expires_at else {}
        made = self._http.request("POST", "/v7/device_action", json=body).json()
        return self.get(made["id"])

    def get(self, action_id: int) -> Action:
        """One of them."""
        rows = self._rows("device_action", _ACTION | {"$filter": f"id eq {action_id}"})
        if not rows:
            raise NotFoundError(f"no action {action_id}: `gantry actions` has those that you see")
        return _action(rows[0])

    def list(self, device: Device | None = None, *, over: bool = True) -> list[Action]:
        """The latest first; of one device where it is named; without those that are over."""
        wanted = [f"device eq {device.id}"] if device else []
        wanted += [] if over else ["status in ('pending','running')"]
        query = _ACTION | {"$orderby": "id desc"}
        query |= {"$filter": " and ".join(wanted)} if wanted else {}
        return [_action(row) for row in self._rows("device_action", query)]

    def cancel(self, action_id: int) -> None:
        """Take it back. The api refuses it for what has begun."""
        self.get(action_id)
        body = {"status": ActionStatus.CANCELLED}
        self._http.request("PATCH", f"/v7/device_action({action_id})", json=body)

    def ask_now(self, device: Device, path: str, data: Mapping[str, Any]) -> str:
        """A request to the device's supervisor, which answers or is not there; what it says."""
        body = {"uuid": device.uuid, "method": "POST", "data": dict(data)}
        return self._http.request("POST", f"/supervisor{path}", json=body, timeout=_SECONDS).text

    @contextmanager
    def journal(self, device: Device, options: Mapping[str, Any]) -> Iterator[Iterator[str]]:
        """Lines of the host's journal; `options` as the supervisor's `/v2/journal-logs` has
        them. With `follow` it may be silent for as long as it likes."""
        body = {"uuid": device.uuid, "method": "POST", "data": dict(options)}
        silence = None if options.get("follow") else _SECONDS
        url = f"{self._http.url}/supervisor/v2/journal-logs"
        with self._http.stream(url, body=body, silence=silence) as lines:
            yield lines


def _action(row: Mapping[str, Any]) -> Action:
    """From a row of `device_action` with its expansion."""
    device = first(row["device"])
    parameters = row["parameters"] or {}
    result = row["result"] or {}
    return Action(
        id=row["id"],
        device=device.get("device_name", ""),
        device_uuid=device.get("uuid", ""),
        action=row["action"],
        service=parameters.get("service"),
        force=bool(parameters.get("force")),
        status=row["status"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        result_status=result.get("status"),
        result=result.get("text"),
    )
