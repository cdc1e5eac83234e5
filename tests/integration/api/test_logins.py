"""Logging in: what sessions hold, tries that fail, passwords that change."""

import time
from typing import Any

import jwt
import psycopg
import pytest
from argon2 import PasswordHasher

from .conftest import ADMIN_PASSWORD, Api, Fleet

PASSWORD = "long enough"


def claims(token: str) -> dict[str, Any]:
    """What a client reads from a token."""
    told: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return told


def attempt(api: Api, username: str, password: str, address: str) -> Any:
    body = {"username": username, "password": password}
    return api.client().post("/login_", json=body, headers={"X-Forwarded-For": address})


def in_database(api: Api, statement: str, *values: object) -> list[tuple[Any, ...]]:
    url = api.config["database_url"].replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def test_a_session_goes_on_by_another_token_of_the_same_login(shared_api: Api) -> None:
    admin = shared_api.login()
    token = admin.headers["authorization"].split()[1]
    time.sleep(1.1)  # tokens tell seconds
    for path in ("/user/v1/refresh-token", "/whoami"):
        fresh = admin.get(path).text
        assert fresh != token
        assert claims(fresh)["authTime"] == claims(token)["authTime"]
        assert claims(fresh)["exp"] > claims(token)["exp"]
        assert "twoFactorRequired" not in claims(fresh)
        me = shared_api.client(fresh).get("/user/v1/whoami").json()
        assert me == admin.get("/user/v1/whoami").json()


def test_no_key_becomes_a_session_that_would_outlive_it(fleet: Fleet) -> None:
    device = fleet.register()
    key = fleet.user.post("/api-key/user/full", json={"name": "ci"}).json()
    for client in (fleet.api.client(key), device.client):
        for path in ("/user/v1/refresh-token", "/whoami", "/auth/totp/setup"):
            refused = client.get(path)
            assert (refused.status_code, refused.json()["error"]) == (
                401,
                "an API key may not do this: log in",
            )
    for credential in ("nonsense" * 5, "eyJ.nonsense.x"):
        assert fleet.api.client(credential).get("/whoami").status_code == 401
    assert fleet.api.client().get("/whoami").status_code == 401


def test_ten_wrong_passwords_close_the_door_for_this_name_from_there(shared_api: Api) -> None:
    client = shared_api.client()
    wrong = {"username": "nobody-here", "password": "wrong"}
    here = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1"}
    for _ in range(10):
        answer = client.post("/login_", json=wrong, headers=here)
        assert answer.status_code == 401
        assert answer.json()["error"] == "the user name or the password is wrong"
    answer = client.post("/login_", json=wrong, headers=here)
    assert answer.status_code == 429
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    there = {"X-Forwarded-For": "192.0.2.2"}
    assert client.post("/login_", json=wrong, headers=there).status_code == 401


def test_a_right_password_starts_the_count_anew(shared_api: Api) -> None:
    client = shared_api.client(None)
    here = {"X-Forwarded-For": "192.0.2.77"}
    right = {
        "username": shared_api.config["admin_username"],
        "password": shared_api.config["admin_password"],
    }
    for _ in range(2):
        for _ in range(9):
            client.post("/login_", json={**right, "password": "wrong"}, headers=here)
        assert client.post("/login_", json=right, headers=here).status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:3::1", "2001:db8:1:4::1", False),
        ("::ffff:192.0.2.40", "192.0.2.40", True),
        ("192.0.2.50, 192.0.2.41", "192.0.2.51, 192.0.2.41", True),
    ],
)
def test_what_counts_as_one_place(shared_api: Api, one: str, other: str, is_same: bool) -> None:
    name = f"place-{one}"
    for _ in range(10):
        assert attempt(shared_api, name, "wrong", one).status_code == 401
    assert attempt(shared_api, name, "wrong", other).status_code == (429 if is_same else 401)


def test_many_places_together_close_an_account_but_not_to_who_is_known(fleet: Fleet) -> None:
    api, username = fleet.api, fleet.application["slug"].split("/")[0]
    home = "192.0.2.100"
    assert attempt(api, username, PASSWORD, home).status_code == 200
    # Tries that were not judged any more do not count among the hundred.
    for place in range(10):
        for number in range(12 if place < 2 else 10):
            answer = attempt(api, username, "wrong", f"198.51.100.{place}")
            assert answer.status_code == (401 if number < 10 else 429)
    refused = attempt(api, username, PASSWORD, "198.51.100.200")
    assert refused.status_code == 429
    assert "from several places" in refused.json()["error"]
    assert 3000 < int(refused.headers["Retry-After"]) <= 3600
    assert attempt(api, username, "wrong", home).status_code == 401
    assert attempt(api, username, PASSWORD, home).status_code == 200
    # An hour later it is open.
    in_database(
        api,
        "update login_attempt set last_failure_at = last_failure_at - interval '61 minutes'"
        " where username = %s",
        username,
    )
    assert attempt(api, username, PASSWORD, "198.51.100.200").status_code == 200


def test_one_place_does_not_try_all_accounts(shared_api: Api, fleet: Fleet) -> None:
    known = fleet.application["slug"].split("/")[0]
    here = "203.0.113.77"
    assert attempt(shared_api, known, PASSWORD, here).status_code == 200
    for number in range(100):
        assert attempt(shared_api, f"name-{number}", "wrong", here).status_code == 401
    refused = attempt(shared_api, "name-100", "wrong", here)
    assert refused.status_code == 429
    assert "as several users" in refused.json()["error"]
    assert attempt(shared_api, known, PASSWORD, here).status_code == 200
    assert attempt(shared_api, "name-100", "wrong", "203.0.113.78").status_code == 401


def test_a_hash_of_other_parameters_is_replaced_at_the_next_login(fleet: Fleet) -> None:
    username = fleet.application["slug"].split("/")[0]
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    in_database(
        fleet.api, 'update "user" set password_hash = %s where username = %s', weak, username
    )
    stored = 'select password_hash from "user" where username = %s'
    assert attempt(fleet.api, username, "wrong", "192.0.2.120").status_code == 401
    assert in_database(fleet.api, stored, username) == [(weak,)]
    assert attempt(fleet.api, username, PASSWORD, "192.0.2.120").status_code == 200
    ((strong,),) = in_database(fleet.api, stored, username)
    assert strong.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    # It is the same password: no session ends.
    assert fleet.user.get("/user/v1/whoami").status_code == 200
    assert attempt(fleet.api, username, PASSWORD, "192.0.2.120").status_code == 200
    assert in_database(fleet.api, stored, username) == [(strong,)]


def test_a_new_password_is_set_with_the_old_one_and_ends_sessions(fleet: Fleet) -> None:
    api, username = fleet.api, fleet.application["slug"].split("/")[0]
    key = fleet.user.post("/api-key/user/full", json={"name": "stays"}).json()
    url = "/user/v1/change-password"
    wrong = fleet.user.post(url, json={"password": "wrong", "newPassword": "quite another"})
    assert wrong.status_code == 401
    short = fleet.user.post(url, json={"password": PASSWORD, "newPassword": "short"})
    assert (short.status_code, "8 characters" in short.json()["error"]) == (400, True)
    body = {"password": PASSWORD, "newPassword": "quite another"}
    assert api.client(key).post(url, json=body).status_code == 401
    me = fleet.user.get("/user/v1/whoami").json()
    refused = fleet.user.patch(f"/v7/user({me['id']})", json={"password": "quite another"})
    assert (refused.status_code, "with the old one" in refused.json()["error"]) == (403, True)
    other = api.login(username, PASSWORD)
    changed = fleet.user.post(url, json=body)
    assert changed.status_code == 200, changed.text
    for ended in (fleet.user, other):
        assert ended.get("/user/v1/whoami").status_code == 401
    assert api.client(changed.text).get("/user/v1/whoami").json() == me
    assert api.client(key).get("/user/v1/whoami").json() == me
    assert attempt(api, username, PASSWORD, "192.0.2.130").status_code == 401
    assert attempt(api, username, "quite another", "192.0.2.130").status_code == 200


def test_tries_at_the_old_password_count_as_logins(fleet: Fleet) -> None:
    body = {"password": "wrong", "newPassword": "quite another"}
    here = {"X-Forwarded-For": "192.0.2.140"}
    answers = [
        fleet.user.post("/user/v1/change-password", json=body, headers=here).status_code
        for _ in range(11)
    ]
    assert answers == [401] * 10 + [429]
    username = fleet.application["slug"].split("/")[0]
    assert attempt(fleet.api, username, PASSWORD, "192.0.2.140").status_code == 429


def test_the_password_of_the_first_account_is_the_fleet_s(shared_api: Api) -> None:
    body = {"password": ADMIN_PASSWORD, "newPassword": "quite another"}
    refused = shared_api.login().post("/user/v1/change-password", json=body)
    assert refused.status_code == 403
    assert "each start of the api restores it" in refused.json()["error"]
