"""Reaching devices: each way there before everybody, SSH keys, and the audit log of both."""

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import httpx2 as httpx
import psycopg
import pytest

from gantry.api.services import totp

from .conftest import Api, Device, Fleet
from .vpn import Changes, Server, audited, event, token_of

PASSWORD = "long enough"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
FINGERPRINT = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"

# What everybody is told who asks for a tunnel, for a request to the supervisor, for the journal and
# for an action, and who switches a public URL.
TABLE = {
    "owner": (200, 503, 503, 201, 200),
    "administrator of the organization": (200, 503, 503, 201, 200),
    "member of the organization": (200, 503, 503, 201, 200),
    "owner's key": (200, 503, 503, 201, 200),
    "other user": (404, 404, 404, 404, 404),
    "administrator of the platform": (404, 404, 404, 404, 404),
    "other user's key": (404, 404, 404, 404, 404),
    "who was a member": (404, 404, 404, 404, 404),
    "revoked key": (401, 401, 401, 401, 401),
    "expired key": (401, 401, 401, 401, 401),
    "ended session": (401, 401, 401, 401, 401),
    "session without its second factor": (401, 401, 401, 401, 401),
    "session with its second factor": (200, 503, 503, 201, 200),
    "the device": (403, 403, 403, 403, 403),
    # It sees no row of another.
    "another device": (403, 403, 403, 403, 404),
    "provisioning key": (403, 403, 403, 403, 403),
    "service key": (401, 401, 401, 401, 401),
    "nonsense": (401, 401, 401, 401, 401),
    "nobody": (401, 401, 401, 401, 401),
}


@pytest.fixture(scope="module")
def mine(make_fleet: Callable[[], Fleet]) -> Fleet:
    return make_fleet()


@pytest.fixture(scope="module")
def device(mine: Fleet) -> Device:
    return mine.register()


@dataclass
class Ported:
    """A device whose ports are not for everybody, and who is there."""

    fleet: Fleet
    device: Device
    server: Server
    clients: dict[str, httpx.Client]
    membership: int

    @property
    def path(self) -> str:
        return f"/v7/device({self.device.id})"

    def say(self, of_all: str | None, own: str | None) -> None:
        """Which ports are reached, of all devices and of this one."""
        for path, ports in (
            (f"/v7/application({self.fleet.application['id']})", of_all),
            (self.path, own),
        ):
            said = self.fleet.user.patch(path, json={"reachable_ports": ports})
            assert said.status_code == 200, said.text

    def ask(self, who: str, port: int) -> int:
        """What somebody is told who asks for a port."""
        self.server.beat()
        token = token_of(self.clients[who])
        return self.server.tunnel(token, self.device.uuid, port=port).status_code

    def key_opens(self, who: str) -> bool:
        """Whether the device's sshd is to take somebody's key."""
        client = self.clients[who]
        added = client.post("/v7/user__has__public_key", json={"public_key": KEY}).json()
        try:
            return asked(self.device, added["fingerprint"]).status_code == 200
        finally:
            client.delete(f"/v7/user__has__public_key({added['id']})")

    def publish(self, who: str) -> int:
        """What somebody is told who switches the public URL on; it is off again."""
        told = self.clients[who].patch(self.path, json={"is_web_accessible": True}).status_code
        self.fleet.user.patch(self.path, json={"is_web_accessible": False})
        return told

    def move(self, who: str) -> int:
        """What somebody is told who takes the device to where it is."""
        body = {"belongs_to__application": self.fleet.application["id"]}
        return self.clients[who].patch(self.path, json=body).status_code

    def make(self, role: str) -> None:
        """The administrator is this from now on."""
        query = f"/v7/organization_membership_role?$filter=name eq '{role}'"
        (found,) = self.fleet.user.get(query).json()["d"]
        body = {"organization_membership_role": found["id"]}
        path = f"/v7/organization_membership({self.membership})"
        assert self.fleet.user.patch(path, json=body).status_code == 200


@pytest.fixture(scope="module")
def ported(make_fleet: Callable[[], Fleet]) -> Ported:
    fleet = make_fleet()
    made = fleet.register()
    server = Server(fleet.api, "ports.invalid")
    server.login(made)
    name, administrator = new_user(fleet.api)
    membership = join(fleet, name, "administrator")
    clients = {
        "owner": fleet.user,
        "administrator": administrator,
        "member": member(fleet),
        "stranger": new_user(fleet.api)[1],
    }
    return Ported(fleet, made, server, clients, membership)


@pytest.fixture(scope="module")
def server(shared_api: Api, device: Device) -> Server:
    """The device is connected to it."""
    made = Server(shared_api, "nowhere.invalid")
    made.login(device)
    return made


def new_user(api: Api) -> tuple[str, httpx.Client]:
    name = f"user{secrets.token_hex(4)}"
    made = api.login().post("/v7/user", json={"username": name, "password": PASSWORD})
    assert made.status_code == 201, made.text
    return name, api.login(name, PASSWORD)


def join(fleet: Fleet, name: str, role: str) -> int:
    (found,) = fleet.user.get(f"/v7/organization_membership_role?$filter=name eq '{role}'").json()[
        "d"
    ]
    body = {
        "is_member_of__organization": fleet.application["organization"]["__id"],
        "username": name,
        "organization_membership_role": found["id"],
    }
    made = fleet.user.post("/v7/organization_membership", json=body)
    assert made.status_code == 201, made.text
    number: int = made.json()["id"]
    return number


def member(fleet: Fleet, role: str = "member") -> httpx.Client:
    name, client = new_user(fleet.api)
    join(fleet, name, role)
    return client


def user_key(client: httpx.Client) -> str:
    made = client.post("/api-key/user/full", json={"name": secrets.token_hex(4)})
    assert made.status_code == 200, made.text
    key: str = made.json()
    return key


def with_factor(fleet: Fleet) -> tuple[str, str]:
    """A member's session before and after the second factor."""
    name, client = new_user(fleet.api)
    join(fleet, name, "member")
    setup = client.get("/auth/totp/setup")
    secret = base64.b32decode(parse_qs(setup.text)["secret"][0])
    step = int(time.time() // 30)
    enabled = client.post("/auth/totp/verify", json={"code": totp.code_at(secret, step)})
    assert enabled.status_code == 200, enabled.text
    return token_of(fleet.api.login(name, PASSWORD)), enabled.text


def was_member(fleet: Fleet) -> str:
    name, client = new_user(fleet.api)
    membership = join(fleet, name, "member")
    path = f"/v7/organization_membership({membership})"
    assert fleet.user.delete(path).status_code == 200
    return token_of(client)


def revoked(fleet: Fleet, *, is_expired: bool) -> str:
    key = user_key(fleet.user)
    url = fleet.api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        hashed = "key_hash = encode(sha256(%s::bytea), 'hex')"
        if is_expired:
            end = "update api_key set expiry_date = now() - interval '1 second' where "
        else:
            end = "delete from api_key where "
        assert connection.execute(end + hashed, [key.encode()]).rowcount == 1
    return key


def ended(fleet: Fleet) -> str:
    client = member(fleet)
    token = token_of(client)
    body = {"password": PASSWORD, "newPassword": "longer than that"}
    assert client.post("/user/v1/change-password", json=body).status_code == 200
    return token


@pytest.fixture(scope="module")
def credentials(
    mine: Fleet, device: Device, make_fleet: Callable[[], Fleet]
) -> dict[str, str | None]:
    api, theirs = mine.api, make_fleet()
    before, after = with_factor(mine)
    return {
        "owner": token_of(mine.user),
        "administrator of the organization": token_of(member(mine, "administrator")),
        "member of the organization": token_of(member(mine)),
        "owner's key": user_key(mine.user),
        "other user": token_of(theirs.user),
        "administrator of the platform": token_of(api.login()),
        "other user's key": user_key(theirs.user),
        "who was a member": was_member(mine),
        "revoked key": revoked(mine, is_expired=False),
        "expired key": revoked(mine, is_expired=True),
        "ended session": ended(mine),
        "session without its second factor": before,
        "session with its second factor": after,
        "the device": device.key,
        "another device": mine.register().key,
        "provisioning key": mine.provisioning_key(),
        "service key": api.config["service_keys"]["vpn"],
        "nonsense": "x" * 40,
        "nobody": None,
    }


@pytest.mark.parametrize("who", TABLE)
def test_who_reaches_a_device(
    who: str, credentials: dict[str, str | None], device: Device, server: Server, mine: Fleet
) -> None:
    credential = credentials[who]
    client = mine.api.client(credential)
    found = (
        server.tunnel(credential, device.uuid).status_code,
        client.post("/supervisor/v1/blink", json={"uuid": device.uuid}).status_code,
        client.post("/supervisor/v2/journal-logs", json={"uuid": device.uuid}).status_code,
        client.post(
            "/v7/device_action", json={"device": device.id, "action": "identify"}
        ).status_code,
        client.patch(f"/v7/device({device.id})", json={"is_web_accessible": False}).status_code,
    )
    assert found == TABLE[who]


def test_everybody_is_in_the_table(credentials: dict[str, str | None]) -> None:
    assert set(credentials) == set(TABLE)


def test_a_tunnel_and_its_end(mine: Fleet, device: Device, server: Server) -> None:
    session = secrets.token_hex(8)
    answer = server.tunnel(token_of(mine.user), device.uuid, port=8080, session=session)
    told = answer.json()
    me = mine.user.get("/user/v1/whoami").json()
    address = server.authorize(device.uuid, device.key).json()["address"]
    assert 6 * 86400 < told.pop("seconds") <= 7 * 86400
    assert told == {
        "uuid": device.uuid,
        "device_id": device.id,
        "user": me["username"],
        "address": address,
        "server": "nowhere.invalid",
        "credential": f"user:{me['id']}:1",
    }
    end = {
        "session": session,
        "uuid": device.uuid,
        "bytes_in": 10,
        "bytes_out": 2000,
        "seconds": 1.5,
    }
    for _ in range(2):
        assert server.client.post("/services/vpn/tunnels/end", json=end).status_code == 204
    noted = audited(mine.user, device, "open tunnel", "close tunnel")
    entries = [each for each in noted if each["session"] == session]
    assert [each["action"] for each in entries] == ["open tunnel", "close tunnel"]
    assert {each["actor_name"] for each in entries} == {f"user {me['username']}"}
    assert entries[0]["changes"] == {"port": 8080, "session": session}
    del end["uuid"]
    assert entries[1]["changes"] == end


def test_by_the_beginning_of_a_uuid(mine: Fleet, server: Server) -> None:
    start = secrets.token_hex(5)
    one, other = (mine.register(uuid=start + end * 22) for end in "ab")
    for each in (one, other):
        server.login(each)
    token = token_of(mine.user)
    assert server.tunnel(token, (start + "a")[:11]).json()["uuid"] == one.uuid
    assert server.tunnel(token, other.uuid).json()["uuid"] == other.uuid
    both = server.tunnel(token, start)
    assert (both.status_code, "several devices" in both.text) == (404, True)
    for wrong in (start[:6], start + "%", "_" * 8, start.upper() + "G"):
        assert server.tunnel(token, wrong).status_code == 400


@pytest.mark.parametrize("port", [0, 65536, -1, "ssh", None])
def test_ports(mine: Fleet, device: Device, server: Server, port: Any) -> None:
    assert server.tunnel(token_of(mine.user), device.uuid, port=port).status_code == 400


def test_a_device_that_is_not_there(mine: Fleet, server: Server) -> None:
    device, token = mine.register(), token_of(mine.user)
    never = server.tunnel(token, device.uuid)
    assert (never.status_code, "never been connected" in never.text) == (409, True)
    session = server.login(device)
    server.tell(event(device.uuid, "disconnected", session))
    gone = server.tunnel(token, device.uuid)
    assert (gone.status_code, "not connected to the VPN since" in gone.text) == (409, True)
    server.login(device)
    assert server.tunnel(token, device.uuid).status_code == 200
    mine.user.patch(f"/v7/device({device.id})", json={"is_active": False})
    assert server.tunnel(token, device.uuid).status_code == 403
    # What was refused is in no log of what was done.
    assert len(list(audited(mine.user, device, "open tunnel"))) == 1


def asked(device: Device, fingerprint: str = FINGERPRINT, uuid: str = "") -> httpx.Response:
    path = f"/device/v3/{uuid or device.uuid}/ssh-keys"
    return device.client.get(path, params={"fingerprint": fingerprint})


def test_ssh_keys(make_fleet: Callable[[], Fleet], mine: Fleet) -> None:
    fleet = make_fleet()
    device = fleet.register()
    nobody = asked(device)
    assert nobody.status_code == 404
    added = fleet.user.post(
        "/v7/user__has__public_key", json={"public_key": f"{KEY} me@home", "title": "home"}
    )
    fingerprint = added.json()["fingerprint"]
    name = fleet.application["slug"].partition("/")[0]
    for _ in range(2):
        answer = asked(device, fingerprint)
        assert (answer.status_code, answer.json()) == (200, {"user": name, "line": KEY})
    # sshd asks twice for one login.
    (entry,) = audited(fleet.user, device, "accept ssh key")
    assert entry["actor_name"] == f"user {name}"
    assert entry["changes"] == {"fingerprint": fingerprint, "title": "home"}
    # On devices of others it opens nothing, and they hear nothing of it.
    other = mine.register()
    assert asked(other, fingerprint).status_code == 404
    assert asked(other, fingerprint, uuid=device.uuid).status_code == 404
    assert not list(audited(mine.user, other, "accept ssh key"))
    path = f"/device/v3/{device.uuid}/ssh-keys"
    query = {"fingerprint": fingerprint}
    assert fleet.user.get(path, params=query).status_code == 403
    assert fleet.api.client().get(path, params=query).status_code == 401
    # A colleague's key opens it for as long as they are one.
    colleague, client = new_user(fleet.api)
    assert fleet.user.delete(f"/v7/user__has__public_key({added.json()['id']})").status_code == 200
    assert asked(device, fingerprint).status_code == 404
    client.post("/v7/user__has__public_key", json={"public_key": KEY})
    assert asked(device, fingerprint).status_code == 404
    membership = join(fleet, colleague, "member")
    assert asked(device, fingerprint).json()["user"] == colleague
    path = f"/v7/organization_membership({membership})"
    assert fleet.user.delete(path).status_code == 200
    assert asked(device, fingerprint).status_code == 404
    fleet.user.patch(f"/v7/device({device.id})", json={"is_active": False})
    assert asked(device, fingerprint).status_code == 401


# Lists of the application and of the device, and which of TRIED a member then reaches.
TRIED = (1, 79, 80, 81, 7999, 8000, 8010, 8011, 22222, 65535)
PORTS = [
    (None, None, set(TRIED)),
    ("80,8000-8010", None, {80, 8000, 8010}),
    ("80,8000-8010", "22222", {22222}),
    ("", None, set()),
    ("", "1-65535", set(TRIED)),
    (None, "", set()),
]


@pytest.mark.parametrize(("of_all", "own", "reached"), PORTS)
def test_which_ports_whom(
    ported: Ported, of_all: str | None, own: str | None, reached: set[int]
) -> None:
    ported.say(of_all, own)
    for who in ("administrator", "owner"):
        assert {ported.ask(who, port) for port in TRIED} == {200}
    told = {port: ported.ask("member", port) for port in TRIED}
    assert told == {port: 200 if port in reached else 403 for port in TRIED}
    # The ways that lead to a port by another name: a shell, and a page for everybody.
    assert (ported.key_opens("member"), ported.key_opens("administrator")) == (
        22222 in reached,
        True,
    )
    page = {who: ported.publish(who) for who in ("member", "administrator")}
    assert page == {"member": 200 if 80 in reached else 403, "administrator": 200}
    # Who may not reach everything does not take the device to where they may.
    assert (ported.move("member") == 403) is ((of_all, own) != (None, None))


def test_who_says_which_ports(ported: Ported) -> None:
    ported.say("80", None)
    for path in (f"/v7/application({ported.fleet.application['id']})", ported.path):
        for ports in (None, "1-65535"):
            body = {"reachable_ports": ports}
            refused = ported.clients["member"].patch(path, json=body)
            assert (refused.status_code, "only administrators" in refused.text) == (403, True)
            outside = ported.clients["stranger"].patch(path, json=body)
            assert outside.status_code == 404
        for wrong in ("ssh", "0", "65536", "90-80", "80-", "1,,2"):
            body = {"reachable_ports": wrong}
            assert ported.clients["owner"].patch(path, json=body).status_code == 400, wrong
        kept = {"reachable_ports": " 8000-8010, 80,80 "}
        assert ported.clients["administrator"].patch(path, json=kept).status_code == 200
        (row,) = ported.clients["member"].get(f"{path}?$select=reachable_ports").json()["d"]
        assert row["reachable_ports"] == "80,8000-8010"
    refused = ported.server.tunnel(token_of(ported.clients["member"]), ported.device.uuid)
    assert "other members reach ports 80,8000-8010 of it" in refused.text


def test_who_reaches_less_asks_anew(ported: Ported) -> None:
    ported.say(None, None)
    changes = Changes(ported.fleet.api)
    names = {}
    for who in ("member", "administrator", "owner"):
        asked = ported.server.tunnel(token_of(ported.clients[who]), ported.device.uuid)
        names[who] = asked.json()["credential"]
    ported.say(None, "80")
    heard = changes.until({"credential": names["member"]})
    ported.say("80", "80")
    heard += changes.until({"credential": names["member"]})
    assert not [
        each for each in heard if each.get("credential") in (names["owner"], names["administrator"])
    ]
    # Who is an administrator no more asks anew too.
    ported.make("member")
    changes.until({"credential": names["administrator"]})
    assert ported.ask("administrator", 22222) == 403
    ported.make("administrator")
    assert ported.ask("administrator", 22222) == 200
