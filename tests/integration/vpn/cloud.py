"""The cloud side of these tests: a real api, and what is done with it."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.integration.api.conftest import Api, Device, Fleet
from tests.integration.vpn.network import Client, Net, Server, wait_until


@dataclass
class Cloud:
    """An api and what tests do with it. `url` is where servers reach it."""

    api: Api
    net: Net
    fleet: Fleet
    _made: list[Server | Client] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.net.gateway}:{self.api.config['listen_port']}"

    def server(self, name: str = "vpn-1", **changes: Any) -> Server:
        """A new VPN server, which devices can log in to."""
        made = Server(self.net, self.url, name, **changes)
        self._made.append(made)
        return made.start()

    def client(self, device: Device, server: str = "vpn-1", *more: str, key: str = "") -> Client:
        """A machine with this device's login, on which nothing runs yet."""
        made = Client(self.net, server, device.uuid, key or device.key, *more)
        self._made.append(made)
        return made

    def device(self, **more: Any) -> Device:
        """A new device of the fleet's."""
        return self.fleet.register(**more)

    def person(self) -> str:
        """A credential of the fleet's owner: a new API key."""
        name = secrets.token_hex(4)
        answer = self.fleet.user.post("/api-key/user/full", json={"name": name})
        assert answer.status_code == 200, answer.text
        key: str = answer.json()
        self._names[key] = name
        return key

    def stranger(self) -> Fleet:
        """Another user with an application."""
        return new_fleet(self.api)

    def row(self, device: Device) -> dict[str, Any]:
        """What the api says of a device."""
        fields = "is_connected_to_vpn,last_vpn_event,is_web_accessible"
        answer = self.fleet.user.get(f"/v7/device({device.id})?$select={fields}")
        assert answer.status_code == 200, answer.text
        row: dict[str, Any] = answer.json()["d"][0]
        return row

    def is_connected(self, device: Device) -> bool:
        return bool(self.row(device)["is_connected_to_vpn"])

    def wait_connected(self, *devices: Device, timeout: float = 60) -> float:
        """Until the api says that all are; the seconds."""
        return wait_until(lambda: all(map(self.is_connected, devices)), timeout)

    def wait_gone(self, *devices: Device, timeout: float = 60) -> float:
        """Until the api says that none is; the seconds."""
        return wait_until(lambda: not any(map(self.is_connected, devices)), timeout)

    def revoke_device(self, device: Device) -> None:
        """End all keys of a device."""
        who = device.client.get("/actor/v1/whoami").json()["id"]
        self._delete(f"/v7/api_key?$filter=is_of__actor eq {who}")

    def revoke_person(self, key: str) -> None:
        """End a key of `person`."""
        self._delete(f"/v7/api_key?$filter=name eq '{self._names[key]}'")

    def _delete(self, path: str) -> None:
        answer = self.fleet.user.delete(path)
        assert answer.status_code == 200, answer.text

    def audited(self, device: Device, action: str) -> list[dict[str, Any]]:
        """What the audit log has of a device, the oldest first."""
        query = f"resource eq 'device' and row eq {device.id} and action eq '{action}'"
        answer = self.fleet.user.get(f"/v7/audit_entry?$filter={query}&$orderby=id")
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["d"]
        return rows

    def set_public(self, device: Device, *, on: bool) -> None:
        """Switch a public URL."""
        answer = self.fleet.user.patch(f"/v7/device({device.id})", json={"is_web_accessible": on})
        assert answer.status_code == 200, answer.text

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Without the api for a while."""
        self.api.stop()
        try:
            yield
        finally:
            self.api.start()
            self.api.wait()
            user = self.fleet.user.headers["Authorization"].removeprefix("Bearer ")
            self.fleet.user = self.api.client(user)

    def remove_all(self) -> None:
        for each in self._made:
            each.remove()
        self._made.clear()


def new_fleet(api: Api) -> Fleet:
    """A new user with an application."""
    name = f"user{secrets.token_hex(4)}"
    made = api.login().post("/v7/user", json={"username": name, "password": "long enough"})
    assert made.status_code == 201, made.text
    user = api.login(name, "long enough")
    body = {"app_name": "robots", "is_for__device_type": "raspberrypi3-64"}
    assert user.post("/v7/application", json=body).status_code == 201
    return Fleet(api, user, f"{name}/robots")
