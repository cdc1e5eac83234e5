"""Accounts: logging in, keys, what the fleet's own services ask."""

import base64
import secrets
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from .conftest import HOST, Api, Fleet

REGISTRY = f"registry.{HOST}:8443"


def ssh_line(key: Any, comment: str = "me@laptop") -> str:
    line: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}"


def test_health_needs_no_key_and_everything_else_does(shared_api: Api) -> None:
    nobody = shared_api.client()
    assert nobody.get("/ping").text == "OK"
    assert nobody.get("/connectivity-check").status_code == 204
    assert {each["slug"] for each in nobody.get("/device-types/v1").json()} >= {"raspberrypi3-64"}
    assert nobody.get("/config").json()["gitServerPort"] == 2222
    for path in ("/v7/device", "/user/v1/whoami", "/services/git/accounts"):
        answer = nobody.get(path)
        assert answer.status_code == 401
        assert "Bearer" in answer.json()["error"] or "key" in answer.json()["error"]


def test_who_one_is(shared_api: Api, fleet: Fleet) -> None:
    admin = shared_api.login()
    me = admin.get("/user/v1/whoami").json()
    assert me["username"] == "admin"
    actor = admin.get("/actor/v1/whoami").json()
    assert (actor["actorType"], actor["actorTypeId"]) == ("user", me["id"])
    device = fleet.register()
    actor = device.client.get("/actor/v1/whoami").json()
    assert (actor["actorType"], actor["actorTypeId"]) == ("device", device.id)
    assert device.client.get("/user/v1/whoami").status_code == 403


def test_ssh_keys_are_checked_and_given_to_git(fleet: Fleet) -> None:
    username = fleet.application["slug"].split("/")[0]
    git = fleet.api.service("git")
    good = ssh_line(ed25519.Ed25519PrivateKey.generate(), "a b c")
    body = {"title": "laptop", "public_key": good}
    assert fleet.user.post("/v7/user__has__public_key", json=body).status_code == 201
    again = fleet.user.post("/v7/user__has__public_key", json={**body, "title": "other"})
    assert again.status_code == 409
    assert "already, as 'laptop'" in again.json()["error"]
    curve = ssh_line(ec.generate_private_key(ec.SECP256R1()))
    assert fleet.user.post("/v7/user__has__public_key", json={"public_key": curve}).is_success
    short = ssh_line(rsa.generate_private_key(65537, 1024))  # noqa: S505 - to be refused
    refused = fleet.user.post("/v7/user__has__public_key", json={"public_key": short})
    assert (refused.status_code, "1024 bits" in refused.json()["error"]) == (400, True)
    for wrong in ("", "ssh-ed25519", "ssh-ed25519 AAAA", good + "\nssh-rsa AAAA", "ssh-dss AAAA x"):
        refused = fleet.user.post("/v7/user__has__public_key", json={"public_key": wrong})
        assert refused.status_code == 400, wrong
    lines = git.get(f"/auth/v1/public-keys/{username}").text.splitlines()
    assert lines[0] == " ".join(good.split()[:2]) + " laptop"
    assert len(lines) == 2
    assert git.get("/auth/v1/public-keys/nobody-here").text == ""
    assert fleet.user.get(f"/auth/v1/public-keys/{username}").status_code == 401


def test_git_learns_accounts_and_who_may_push(fleet: Fleet) -> None:
    git = fleet.api.service("git")
    username, name = fleet.application["slug"].split("/")
    answer = git.get("/services/git/accounts")
    assert {"admin", username} <= set(answer.json())
    same = git.get("/services/git/accounts", headers={"If-None-Match": answer.headers["ETag"]})
    assert same.status_code == 304
    question = {"username": username, "owner": username, "application": name, "action": "push"}
    granted = git.post("/services/git/authorize", json=question)
    assert granted.json() == {
        "application_id": fleet.id,
        "application_uuid": fleet.uuid,
        "slug": f"{username}/{name}",
        "device_type": "raspberrypi3-64",
        "user_id": fleet.application["belongs_to__user"]["__id"],
    }
    for change in ({"username": "admin"}, {"application": "other"}, {"owner": "admin"}):
        refused = git.post("/services/git/authorize", json={**question, **change})
        assert refused.status_code == 404
        assert "may push to" in refused.json()["error"]
    refused = git.post("/services/git/authorize", json={**question, "username": "nobody-here"})
    assert refused.status_code == 403
    assert git.post("/services/git/authorize", json={"username": 1}).status_code == 400
    # Each service has its own doors.
    assert git.get("/services/logs/authorize?device=x&action=read").status_code == 403
    assert fleet.api.service("logs").get("/services/git/accounts").status_code == 403
    assert git.get("/services/logs/revocations").status_code == 403
    assert fleet.user.get("/services/logs/revocations").status_code == 401


def test_the_logs_service_learns_who_may_read_and_write(fleet: Fleet) -> None:
    logs = fleet.api.service("logs")
    device = fleet.register()
    stranger = fleet.api.login()

    def ask(who: Any, action: str) -> int:
        answer = logs.get(
            f"/services/logs/authorize?device={device.uuid}&action={action}",
            headers={"X-Gantry-Authorization": who.headers["authorization"]},
        )
        if answer.status_code == 200:
            told = answer.json()
            assert (told["device_id"], told["application_id"]) == (device.id, fleet.id)
            is_key = who is device.client
            assert told["credential"].startswith("key:" if is_key else "user:")
            assert told["seconds"] is None if is_key else 600_000 < told["seconds"] < 604_801
        return answer.status_code

    assert ask(device.client, "write") == 200
    assert ask(device.client, "read") == 200
    assert ask(fleet.user, "read") == 200
    assert ask(fleet.user, "write") == 403
    assert ask(stranger, "read") == 404
    assert ask(fleet.register().client, "write") == 404
    assert ask(fleet.api.client("nonsense" * 5), "read") == 401


def test_download_config_is_a_config_json_whose_key_registers(fleet: Fleet) -> None:
    made = fleet.user.post("/download-config", json={"appId": str(fleet.id)})
    assert made.status_code == 200, made.text
    config = made.json()
    assert config["applicationId"] == fleet.id
    assert config["apiEndpoint"] == f"https://api.{HOST}:8443"
    assert config["deviceType"] == "raspberrypi3-64"
    assert base64.b64decode(config["balenaRootCA"]).startswith(b"-----BEGIN CERTIFICATE")
    body = {
        "user": str(config["userId"]),
        "application": str(config["applicationId"]),
        "uuid": secrets.token_hex(31),
        "device_type": "raspberrypi4-64",
        "api_key": secrets.token_hex(16),
    }
    client = fleet.api.client(config["apiKey"])
    registered = client.post("/device/register", json=body)
    assert registered.status_code == 201, registered.text
    assert registered.json()["api_key"] == body["api_key"]
    wrong = {**body, "uuid": secrets.token_hex(16), "api_key": secrets.token_hex(16)}
    for change in (
        {"device_type": "intel-nuc"},
        {"device_type": "toaster"},
        {"uuid": "abc"},
        {"api_key": "short"},
    ):
        refused = client.post("/device/register", json={**wrong, **change})
        assert refused.status_code == 400, change
    assert client.post("/device/register", json={**wrong, "application": 1}).status_code == 404
    assert fleet.api.login().post("/download-config", json={"appId": fleet.id}).status_code == 404


def granted(
    fleet: Fleet, name: str, key: str, *scopes: str, service: str = REGISTRY, seconds: int = 14400
) -> list[dict[str, Any]]:
    """The access that a token holds, its signature and header checked."""
    answer = fleet.api.client().get(
        "/auth/v1/token",
        params=[("service", service), *(("scope", each) for each in scopes)],
        auth=(name, key),
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["token"], body["expires_in"]) == (body["access_token"], seconds)
    (der,) = jwt.get_unverified_header(body["token"])["x5c"]
    key_of_certificate: Any = load_der_x509_certificate(base64.b64decode(der)).public_key()
    claims = jwt.decode(
        body["token"],
        key_of_certificate,
        algorithms=["ES256"],
        audience=service,
        issuer=f"api.{HOST}",
    )
    assert claims["sub"] == name
    access: list[dict[str, Any]] = claims["access"]
    return access


@pytest.fixture
def other(fleet: Fleet) -> Fleet:
    """A fleet of the administrator's, foreign to the one under test."""
    admin = fleet.api.login()
    name = f"other{secrets.token_hex(4)}"
    body = {"app_name": name, "is_for__device_type": "raspberrypi3-64"}
    assert admin.post("/v7/application", json=body).status_code == 201
    return Fleet(fleet.api, admin, f"admin/{name}")


def test_registry_tokens_hold_what_each_may_and_no_more(fleet: Fleet, other: Fleet) -> None:
    own = fleet.release()["images"][0]["repository"]
    foreign = other.release()["images"][0]["repository"]
    supervisor = "gantry/aarch64-supervisor"
    scopes = [
        f"repository:{each}:pull,push"
        for each in (own, foreign, supervisor, "gantry/aarch64-raspios")
    ]
    device = fleet.register()
    username = fleet.application["slug"].split("/")[0]
    key = fleet.user.post("/api-key/user/full", json={}).json()
    session = fleet.user.headers["authorization"].split()[1]
    builder = fleet.api.config["service_keys"]["builder"]

    def pulls(*names: str) -> list[dict[str, Any]]:
        return [{"type": "repository", "name": each, "actions": ["pull"]} for each in names]

    gantry = (supervisor, "gantry/aarch64-raspios")
    assert granted(fleet, f"d_{device.uuid}", device.key, *scopes) == pulls(own, *gantry)
    assert granted(fleet, username, key, *scopes) == pulls(own, *gantry)
    assert granted(fleet, username, session, *scopes) == pulls(own, *gantry)
    assert granted(fleet, "provisioning", fleet.provisioning_key(), *scopes) == pulls(supervisor)
    # It holds no lease of a push.
    everything = granted(fleet, "builder", builder, *scopes, seconds=900)
    assert [each["actions"] for each in everything] == [["pull", "push"]] * 4
    deltas = fleet.api.config["service_keys"]["deltas"]
    names = (own, foreign, *gantry)
    assert granted(fleet, "deltas", deltas, *scopes) == pulls(*names)
    # At the delta server nothing is pushed, whoever comes.
    at = f"delta.{HOST}:8443"
    assert granted(fleet, "builder", builder, *scopes, service=at) == pulls(*names)
    assert granted(fleet, f"d_{device.uuid}", device.key, *scopes, service=at) == pulls(
        own, *gantry
    )


def test_registry_tokens_for_nobody_and_for_the_wrong_name(fleet: Fleet) -> None:
    nobody = fleet.api.client()
    device = fleet.register()
    url = "/auth/v1/token?scope=repository:v2/x:pull"
    token = nobody.get(url).json()["token"]
    assert jwt.decode(token, options={"verify_signature": False})["access"] == []
    for name, key in (
        ("d_" + secrets.token_hex(16), device.key),
        ("admin", device.key),
        ("builder", device.key),
        (f"d_{device.uuid}", "wrong" * 8),
        ("logs", fleet.api.config["service_keys"]["logs"]),
        ("builder", fleet.api.config["service_keys"]["deltas"]),
    ):
        assert nobody.get(url, auth=(name, key)).status_code == 401, name
    assert nobody.get(url, headers={"Authorization": "Basic !"}).status_code == 401
    assert nobody.get("/auth/v1/token?scope=repository:x").status_code == 400
    assert nobody.get("/auth/v1/token?service=other").status_code == 400


def test_bodies_have_a_limit(shared_api: Api) -> None:
    client = shared_api.client()
    huge = {"username": "x", "password": "p" * 600_000}
    answer = client.post("/login_", json=huge)
    assert answer.status_code == 413
    assert "512 kB" in answer.json()["error"]
    streamed = client.post(
        "/login_",
        content=(b"x" * 65_536 for _ in range(10)),
        headers={"Content-Type": "application/json"},
    )
    assert streamed.status_code == 413
    assert client.post("/login_", json={"username": 1}).status_code == 400
    assert client.post("/nothing/here").json() == {"error": "Not Found"}
