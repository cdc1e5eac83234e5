"""A caller of a device's HTTP API, with whichever key a test wants."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx2

from tests.integration.supervisor.conftest import Device, wait_until

# SIGTERM ends it at once, so that no test waits for a container to stop.
FOREVER = "trap 'exit 0' TERM; echo begun; while true; do sleep 0.1; done"
KEYED = {"io.balena.features.supervisor-api": "1"}


class Api:
    """Asks with the device's own key unless another one is given."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def keys(self) -> dict[str, Any]:
        """What the supervisor wrote into its database."""
        database = sqlite3.connect(self.device.home / "data" / "database.sqlite")
        query = "SELECT value FROM fact WHERE name = 'supervisor_keys'"
        row = database.execute(query).fetchone()
        database.close()
        return json.loads(row[0]) if row else {}

    @property
    def key(self) -> str:
        """The key that opens everything."""
        return str(self.keys()["everything"])

    def key_of(self, app_id: int | None = None) -> str:
        """An application's key."""
        return str(self.keys()["applications"][str(app_id or self.device.app_id)])

    def ask(self, method: str, path: str, key: str | None = None, **how: Any) -> httpx2.Response:
        """`{app}` in a path is the device's application."""
        url = f"http://127.0.0.1:{self.device.port}{path.replace('{app}', str(self.device.app_id))}"
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx2.request(method, url, headers=headers, timeout=150.0, **how)

    def get(self, path: str, **how: Any) -> httpx2.Response:
        return self.ask("GET", path, **how)

    def post(self, path: str, **how: Any) -> httpx2.Response:
        return self.ask("POST", path, **how)

    def settled(self) -> dict[str, Any]:
        """The body of `GET /v2/state/status`, once all is as it must be."""

        def applied() -> dict[str, Any] | None:
            body: dict[str, Any] = self.get("/v2/state/status").json()
            wanted = body.get("appState") == "applied" and body["containers"] and body["release"]
            return body if wanted else None

        found: dict[str, Any] = wait_until("the state is applied", applied)
        return found

    def lock_file(self, service: str = "main") -> Path:
        """Where a service puts its update lock."""
        services = self.device.home / "runtime" / "services"
        return services / str(self.device.app_id) / service / "updates.lock"
