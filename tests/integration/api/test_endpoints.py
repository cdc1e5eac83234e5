"""Every endpoint, before everybody: what each role is answered on the first tenant's things."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import pytest

from .conftest import Api, Fleet

USERS = ("owner", "colleague", "stranger", "administrator")
DEVICES = ("device", "other_device")
KEYS = ("provisioning", "other_provisioning")
SERVICES = ("git", "builder", "logs", "vpn", "deltas", "collector")
ROLES = ("nobody", *USERS, *DEVICES, *KEYS, *SERVICES)


@dataclass(frozen=True)
class Endpoint:
    """A request on the first tenant's things, and the status that each role gets."""

    method: str
    path: str
    statuses: Mapping[str, int]
    body: Any = field(default_factory=dict)
    # What the document calls the path, where it is not the same.
    template: str = ""

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.template or self.path.partition("?")[0]


def everybody(status: int) -> dict[str, int]:
    return dict.fromkeys(ROLES, status)


def actors(status: int, **others: int) -> dict[str, int]:
    """Of whoever is known; nobody, and services, which are known elsewhere, are not."""
    unknown = dict.fromkeys(("nobody", *SERVICES), 401)
    return {**everybody(status), **unknown, **others}


def users(status: int, **others: int) -> dict[str, int]:
    """Of people; devices and provisioning keys may not."""
    return actors(status, **{**dict.fromkeys((*DEVICES, *KEYS), 403), **others})


def members(status: int, **others: int) -> dict[str, int]:
    """Of the members of the organization; to other people it does not exist."""
    return users(status, **{"stranger": 404, "administrator": 404, **others})


def sessions(status: int, **others: int) -> dict[str, int]:
    """Of people who have logged in; a key of any kind is no login."""
    return actors(status, **{**dict.fromkeys((*DEVICES, *KEYS), 401), **others})


def administrators(status: int) -> dict[str, int]:
    """Of the fleet's administrators; other people may not."""
    return users(403, administrator=status)


def service(name: str, status: int) -> dict[str, int]:
    """Of one of our own services."""
    return {**everybody(401), **dict.fromkeys(SERVICES, 403), name: status}


STATE = "/device/v3/{device}/state"
KEY = {"name": "made by a test"}
PROVISIONING = "/api-key/application/{fleet}/provisioning"
BY_ACTOR = {"actorType": "application", "actorTypeId": "{fleet}"}

TABLE = (
    *(
        Endpoint("GET", path, everybody(200))
        for path in (
            "/ping",
            "/device-types/v1",
            "/config",
            "/config/vars",
            "/os/v1/config",
            "/metrics",
        )
    ),
    Endpoint("GET", "/connectivity-check", everybody(204)),
    # Not to be tried in vain ten times under one name.
    Endpoint("POST", "/login_", everybody(401), {"username": "{random}", "password": "wrong"}),
    Endpoint("GET", "/actor/v1/whoami", actors(200)),
    Endpoint("GET", "/user/v1/whoami", users(200)),
    Endpoint("GET", "/user/v1/refresh-token", sessions(200)),
    Endpoint("GET", "/whoami", sessions(200)),
    Endpoint(
        "POST",
        "/user/v1/change-password",
        # The first administrator's password is the fleet's.
        sessions(400, administrator=403),
        {"password": "long enough", "newPassword": "short"},
    ),
    Endpoint("GET", "/auth/totp/setup", sessions(200)),
    Endpoint("POST", "/auth/totp/verify", sessions(401), {"code": "000 000"}),
    Endpoint("POST", "/auth/totp/disable", sessions(401), {"password": "wrong"}),
    Endpoint("POST", "/auth/totp/recovery-codes", sessions(401), {"password": "wrong"}),
    Endpoint(
        "POST", "/auth/totp/reset", sessions(403, administrator=404), {"username": "nobody-there"}
    ),
    Endpoint("POST", "/api-key/user/full", sessions(200), KEY),
    Endpoint(
        "POST", PROVISIONING, members(200), KEY, PROVISIONING.replace("fleet", "application_id")
    ),
    Endpoint(
        "POST",
        "/api-key/device/{device_id}/device-key",
        members(200),
        KEY,
        "/api-key/device/{device_id}/device-key",
    ),
    Endpoint("POST", "/api-key/v1/", members(200), {**KEY, **BY_ACTOR}),
    Endpoint("POST", "/api-key/v2/", members(200), {**KEY, **BY_ACTOR}),
    Endpoint("POST", "/download-config", members(200), {"appId": "{fleet}"}),
    Endpoint(
        "POST",
        "/device/register",
        {**actors(403), "provisioning": 201, "other_provisioning": 404},
        {"application": "{fleet}", "uuid": "{random}"},
    ),
    Endpoint(
        "GET",
        STATE,
        members(200, device=200, **dict.fromkeys(("other_device", *KEYS), 404)),
        template="/device/v3/{uuid}/state",
    ),
    Endpoint(
        "GET",
        "/device/v2/{device}/state",
        members(200, device=200, **dict.fromkeys(("other_device", *KEYS), 404)),
        template="/device/v2/{uuid}/state",
    ),
    Endpoint(
        "PATCH",
        "/device/v2/{device}/state",
        actors(403, device=200, other_device=404),
        template="/device/v2/{uuid}/state",
    ),
    Endpoint(
        "PATCH",
        "/device/v3/state",
        actors(403, device=200, other_device=404),
        {"{device}": {"status": "Idle"}},
    ),
    Endpoint(
        "PATCH",
        "/device/v3/tags",
        actors(403, device=200, other_device=404),
        {"{device}": {"bench": "3"}},
    ),
    Endpoint(
        "GET",
        "/device/v3/{device}/events",
        actors(403, device=200, other_device=404),
        template="/device/v3/{uuid}/events",
    ),
    Endpoint(
        "GET",
        "/device/v3/{device}/ssh-keys?fingerprint=SHA256:x",
        actors(403, device=404, other_device=404),
        template="/device/v3/{uuid}/ssh-keys",
    ),
    Endpoint(
        "GET",
        "/device/v3/fleet/{fleet_uuid}/state",
        members(200, device=200, **dict.fromkeys(("other_device", *KEYS), 404)),
        template="/device/v3/fleet/{uuid}/state",
    ),
    Endpoint("POST", "/supervisor/ping", members(503), {"uuid": "{device}"}, "/supervisor/{path}"),
    # Nobody in particular gets a token that opens nothing; keys are sent otherwise here.
    Endpoint("GET", "/auth/v1/token?service={registry}", {**everybody(401), "nobody": 200}),
    Endpoint(
        "GET",
        "/auth/v1/public-keys/{username}",
        service("git", 200),
        template="/auth/v1/public-keys/{username}",
    ),
    Endpoint("GET", "/services/git/accounts", service("git", 200)),
    Endpoint(
        "POST",
        "/services/git/authorize",
        service("git", 200),
        {
            "username": "{username}",
            "owner": "{username}",
            "application": "testing",
            "action": "push",
        },
    ),
    Endpoint("POST", "/services/builder/releases", service("builder", 400)),
    Endpoint(
        "PATCH",
        "/services/builder/releases/999999",
        service("builder", 404),
        {"status": "failed"},
        "/services/builder/releases/{release_id}",
    ),
    Endpoint("POST", "/services/builder/supervisors", service("builder", 400)),
    Endpoint("POST", "/services/builder/recover", service("builder", 200), {"builder": "x"}),
    Endpoint("GET", "/registry/space", administrators(200)),
    Endpoint("POST", "/registry/run", administrators(201), {"kind": "survey"}),
    Endpoint("GET", "/registry/run/999999", administrators(404), template="/registry/run/{run_id}"),
    Endpoint("POST", "/services/builder/pushes", service("builder", 400)),
    Endpoint(
        "PUT",
        "/services/builder/pushes/999999",
        service("builder", 404),
        template="/services/builder/pushes/{push_id}",
    ),
    Endpoint(
        "DELETE",
        "/services/builder/pushes/999999",
        service("builder", 204),
        template="/services/builder/pushes/{push_id}",
    ),
    Endpoint("POST", "/services/collector/recover", service("collector", 204)),
    Endpoint("POST", "/services/collector/next", service("collector", 200)),
    *(
        Endpoint(
            method,
            f"/services/collector/runs/999999/{what}",
            service("collector", status),
            body,
            f"/services/collector/runs/{{run_id}}/{what}",
        )
        for method, what, status, body in (
            ("POST", "images", 404, {}),
            # A run that is over, or never was, holds nothing.
            ("POST", "sweep", 409, {"since": "2026-01-01T00:00:00+00:00"}),
            ("DELETE", "sweep", 204, {}),
            ("POST", "progress", 404, {"text": "half"}),
            ("POST", "end", 404, {"report": {}}),
        )
    ),
    Endpoint("GET", "/services/logs/authorize?device={device}&action=read", service("logs", 401)),
    Endpoint("GET", "/services/logs/revocations", service("logs", 200)),
    Endpoint(
        "POST",
        "/services/vpn/devices/authorize",
        service("vpn", 401),
        {"uuid": "{device}", "key": "wrong", "server": "vpn-1"},
    ),
    Endpoint(
        "POST",
        "/services/vpn/events",
        service("vpn", 204),
        {"server": "vpn-1", "boot": "first", "events": []},
    ),
    Endpoint(
        "PUT",
        "/services/vpn/servers/vpn-1",
        service("vpn", 200),
        {"boot": "first"},
        "/services/vpn/servers/{name}",
    ),
    # Nobody's credential is sent on.
    Endpoint(
        "POST",
        "/services/vpn/tunnels/authorize",
        service("vpn", 401),
        {"uuid": "{device}", "port": 80, "session": "{random}"},
    ),
    Endpoint(
        "POST",
        "/services/vpn/tunnels/end",
        service("vpn", 204),
        {"session": "{random}", "uuid": "{device}", "bytes_in": 1, "bytes_out": 1, "seconds": 1},
    ),
    Endpoint("GET", "/services/deltas/wanted", service("deltas", 200)),
    Endpoint("GET", "/services/vpn/changes", service("vpn", 200)),
    Endpoint("POST", "/services/vpn/check", service("vpn", 200), {"credentials": []}),
    Endpoint(
        "GET",
        "/services/vpn/public-urls/{device}",
        service("vpn", 404),
        template="/services/vpn/public-urls/{uuid}",
    ),
)


@pytest.fixture(scope="module")
def mine(make_fleet: Callable[[], Fleet]) -> Fleet:
    return make_fleet()


@pytest.fixture(scope="module")
def roles(mine: Fleet, make_fleet: Callable[[], Fleet]) -> dict[str, httpx.Client]:
    """A client of each role."""
    api, theirs = mine.api, make_fleet()
    name = f"user{secrets.token_hex(4)}"
    new = {"username": name, "password": "long enough"}
    assert api.login().post("/v7/user", json=new).status_code == 201
    member = {
        "is_member_of__organization": mine.application["organization"]["__id"],
        "username": name,
    }
    assert mine.user.post("/v7/organization_membership", json=member).status_code == 201
    return {
        "nobody": api.client(),
        "owner": mine.user,
        "colleague": api.login(name, "long enough"),
        "stranger": theirs.user,
        "administrator": api.login(),
        "device": mine.register().client,
        "other_device": theirs.register().client,
        "provisioning": api.client(mine.provisioning_key()),
        "other_provisioning": api.client(theirs.provisioning_key()),
        **{each: api.service(each) for each in SERVICES},
    }


@pytest.fixture(scope="module")
def names(mine: Fleet, roles: dict[str, httpx.Client], shared_api: Api) -> dict[str, Any]:
    """What stands in braces."""
    own = roles["device"].get("/actor/v1/whoami").json()
    return {
        "{fleet}": mine.id,
        "{fleet_uuid}": mine.uuid,
        "{device}": own["uuid"],
        "{device_id}": own["actorTypeId"],
        "{username}": mine.application["slug"].partition("/")[0],
        "{registry}": shared_api.client().get("/config").json()["registry"],
    }


def filled(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {filled(key, names): filled(each, names) for key, each in value.items()}
    if value == "{random}":
        return secrets.token_hex(16)
    if isinstance(value, str) and value in names:
        return names[value]
    return value


@pytest.mark.parametrize("endpoint", TABLE, ids=lambda each: " ".join(each.name))
def test_each_role_is_answered_as_the_table_has_it(
    endpoint: Endpoint, roles: dict[str, httpx.Client], names: dict[str, Any]
) -> None:
    found = {}
    path = endpoint.path
    for name, value in names.items():
        path = path.replace(name, str(value))
    for role, client in roles.items():
        options: dict[str, Any] = {}
        if endpoint.method != "GET":
            options["json"] = filled(endpoint.body, names)
        # Not read: some answers go on for ever.
        with client.stream(endpoint.method, path, **options) as answer:
            found[role] = answer.status_code
    assert found == dict(endpoint.statuses)


def test_every_endpoint_is_in_the_table(shared_api: Api) -> None:
    document = shared_api.client().get("/openapi.json").json()
    known = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        # The resource model has a table of its own: test_permissions.
        if not path.startswith(("/v7/", "/v6/"))
    }
    assert {each.name for each in TABLE} == known
