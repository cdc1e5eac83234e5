"""The second factor: set up, asked for, replaced, removed."""

import base64
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2 as httpx
import pytest

from gantry.api.services import totp

from .conftest import SOURCES, Api, Fleet
from .test_logins import PASSWORD, claims, in_database


@dataclass
class Person:
    """Somebody with an authenticator."""

    fleet: Fleet
    username: str
    secret: bytes = b""
    last: int = 0

    @property
    def api(self) -> Api:
        return self.fleet.api

    def set_up(self, client: httpx.Client) -> None:
        answer = client.get("/auth/totp/setup")
        assert answer.status_code == 200, answer.text
        self.secret = base64.b32decode(parse_qs(answer.text)["secret"][0])

    def code(self) -> str:
        """A code that was not used yet: waits for the next step where none is left."""
        while True:
            now = int(time.time() // 30)
            for step in (now - 1, now, now + 1):
                if step > self.last:
                    self.last = step
                    return totp.code_at(self.secret, step)
            time.sleep(0.5)

    def wrong(self) -> str:
        """A code of no step that is taken now."""
        now = int(time.time() // 30)
        near = {totp.code_at(self.secret, step) for step in range(now - 5, now + 6)}
        return next(code for code in map("{:06}".format, range(100)) if code not in near)

    def login(self) -> httpx.Client:
        """A session that has not passed, where there is a second factor."""
        return self.api.login(self.username, PASSWORD)

    def verify(self, client: httpx.Client, code: str) -> httpx.Response:
        return client.post("/auth/totp/verify", json={"code": code})

    def passed(self, client: httpx.Client, code: str | None = None) -> httpx.Client:
        answer = self.verify(client, code or self.code())
        assert answer.status_code == 200, answer.text
        return self.api.client(answer.text)


@pytest.fixture
def person(fleet: Fleet) -> Person:
    return Person(fleet, fleet.application["slug"].split("/")[0])


@pytest.fixture
def careful(person: Person) -> Person:
    """A person whose second factor is on; `fleet.user` has passed it."""
    person.set_up(person.fleet.user)
    person.fleet.user = person.passed(person.fleet.user)
    return person


def token_of(client: httpx.Client) -> str:
    return client.headers["authorization"].split()[1]


def test_from_setting_up_to_disabling(person: Person) -> None:
    user = person.fleet.user
    assert "twoFactorRequired" not in claims(token_of(user))
    person.set_up(user)
    # Nothing is asked for until a code has shown that the authenticator has the secret.
    assert "twoFactorRequired" not in claims(token_of(person.login()))
    other = person.login()
    enabled = person.passed(user)
    assert claims(token_of(enabled))["twoFactorRequired"] is False
    assert enabled.get("/user/v1/whoami").status_code == 200
    for ended in (user, other):
        assert ended.get("/user/v1/whoami").status_code == 401
    again = enabled.get("/auth/totp/setup")
    assert (again.status_code, "disable it first" in again.json()["error"]) == (409, True)

    challenged = person.login()
    assert claims(token_of(challenged))["twoFactorRequired"] is True
    passed = person.passed(challenged)
    assert claims(token_of(passed))["twoFactorRequired"] is False
    assert claims(token_of(passed))["authTime"] == claims(token_of(challenged))["authTime"]
    assert claims(passed.get("/whoami").text)["twoFactorRequired"] is False
    # The token before it has not passed by that.
    assert challenged.get("/user/v1/whoami").status_code == 401

    wrong = passed.post("/auth/totp/disable", json={"password": "wrong"})
    assert wrong.status_code == 401
    answer = passed.post("/auth/totp/disable", json={"password": PASSWORD})
    assert "twoFactorRequired" not in claims(answer.text)
    assert person.api.client(answer.text).get("/user/v1/whoami").status_code == 200
    assert passed.get("/user/v1/whoami").status_code == 401
    assert "twoFactorRequired" not in claims(token_of(person.login()))
    none = person.login().post("/auth/totp/disable", json={"password": PASSWORD})
    assert (none.status_code, none.json()["error"]) == (400, "the account has no second factor")


def test_a_session_that_has_not_passed_does_nothing_but_verify(careful: Person) -> None:
    partial, fleet = careful.login(), careful.fleet
    device = fleet.register()
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/user/v1/whoami", None),
        ("GET", "/actor/v1/whoami", None),
        ("GET", "/user/v1/refresh-token", None),
        ("GET", "/whoami", None),
        ("GET", "/v7/device", None),
        ("GET", "/v7/$metadata", None),
        ("POST", "/v7/application", {"app_name": "more", "is_for__device_type": "raspberrypi3"}),
        ("DELETE", f"/v7/device({device.id})", None),
        ("POST", "/api-key/user/full", {"name": "x"}),
        ("POST", f"/api-key/application/{fleet.id}/provisioning", {}),
        ("POST", "/download-config", {"appId": fleet.id}),
        ("GET", f"/device/v3/{device.uuid}/state", None),
        ("POST", "/user/v1/change-password", {"password": PASSWORD, "newPassword": "long enough"}),
        ("GET", "/auth/totp/setup", None),
        ("POST", "/auth/totp/disable", {"password": PASSWORD}),
        ("POST", "/auth/totp/recovery-codes", {"password": PASSWORD}),
        ("POST", "/auth/totp/reset", {"username": careful.username}),
    ]
    for method, path, body in calls:
        refused = partial.request(method, path, json=body)
        assert refused.status_code == 401, path
        assert "POST /auth/totp/verify" in refused.json()["error"]
    basic = (careful.username, token_of(partial))
    registry = fleet.api.client().get("/auth/v1/token?scope=repository:v2/x:pull", auth=basic)
    assert registry.status_code == 401
    logs = fleet.api.service("logs").get(
        f"/services/logs/authorize?device={device.uuid}&action=read",
        headers={"X-Gantry-Authorization": partial.headers["authorization"]},
    )
    assert (logs.status_code, "second factor" in logs.json()["error"]) == (401, True)
    assert careful.passed(partial).get("/v7/device").json()["d"][0]["id"] == device.id


def test_keys_go_on_where_a_session_must_pass(careful: Person) -> None:
    key = careful.fleet.user.post("/api-key/user/full", json={"name": "ci"}).json()
    assert careful.api.client(key).get("/user/v1/whoami").status_code == 200


def test_a_code_is_taken_once(careful: Person) -> None:
    code = careful.code()
    assert careful.verify(careful.login(), code).status_code == 200
    again = careful.verify(careful.login(), code)
    assert (again.status_code, "used already" in again.json()["error"]) == (401, True)
    # Nor is an older one, which somebody has seen and nobody used.
    older = totp.code_at(careful.secret, careful.last - 1)
    assert careful.verify(careful.login(), older).status_code == 401


def test_of_two_at_once_one_takes_the_code(careful: Person) -> None:
    code, clients = careful.code(), [careful.login() for _ in range(6)]
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda each=each: answers.append(careful.verify(each, code).status_code)
        )
        for each in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [401] * 5


def test_ten_wrong_codes_close_the_door_and_recovery_codes_have_their_own(careful: Person) -> None:
    codes = careful.fleet.user.post("/auth/totp/recovery-codes", json={"password": PASSWORD})
    partial = careful.login()
    for number in range(10):
        here = {"X-Forwarded-For": f"192.0.2.{number}"}
        wrong = partial.post("/auth/totp/verify", json={"code": careful.wrong()}, headers=here)
        assert wrong.status_code == 401, wrong.text
    closed = careful.verify(partial, careful.code())
    assert closed.status_code == 429
    assert 3500 < int(closed.headers["Retry-After"]) <= 3600
    assert careful.passed(partial, codes.json()["codes"][0]).get("/v7/device").status_code == 200


def test_recovery_codes_replace_the_authenticator_once_each(careful: Person) -> None:
    user, ask = careful.fleet.user, {"password": PASSWORD}
    assert user.post("/auth/totp/recovery-codes", json={"password": "x"}).status_code == 401
    former = user.post("/auth/totp/recovery-codes", json=ask).json()["codes"]
    codes = user.post("/auth/totp/recovery-codes", json=ask).json()["codes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([a-z2-7]{4}-){3}[a-z2-7]{4}", code) for code in codes)
    assert careful.verify(careful.login(), former[0]).status_code == 401
    stored = str(in_database(careful.api, "select * from second_factor"))
    assert not any(code in stored or code.replace("-", "") in stored for code in codes)
    assert careful.passed(careful.login(), codes[0]).get("/v7/device").status_code == 200
    assert careful.verify(careful.login(), codes[0]).status_code == 401
    # As people type them.
    typed = codes[1].replace("-", " ").upper()
    passed = careful.passed(careful.login(), typed)
    answer = passed.post("/auth/totp/disable", json=ask)
    assert answer.status_code == 200
    none = careful.login().post("/auth/totp/recovery-codes", json=ask)
    assert (none.status_code, none.json()["error"]) == (400, "the account has no second factor")


def test_nothing_is_verified_before_it_is_set_up(person: Person) -> None:
    refused = person.verify(person.fleet.user, "123456")
    assert refused.status_code == 400
    assert "GET /auth/totp/setup first" in refused.json()["error"]
    person.set_up(person.fleet.user)
    first = person.secret
    person.set_up(person.fleet.user)
    assert person.secret != first
    assert person.verify(person.fleet.user, totp.code_at(first, int(time.time() // 30))).is_error
    assert person.verify(person.fleet.user, "aaaa-bbbb-cccc-dddd").status_code == 401
    assert person.passed(person.fleet.user).get("/v7/device").status_code == 200


def test_the_administrator_resets_what_somebody_has_lost(careful: Person) -> None:
    partial, ask = careful.login(), {"username": careful.username}
    for _ in range(10):
        careful.verify(partial, careful.wrong())
    admin = careful.api.login()
    assert careful.fleet.user.post("/auth/totp/reset", json=ask).status_code == 403
    key = admin.post("/api-key/user/full", json={"name": "x"}).json()
    assert careful.api.client(key).post("/auth/totp/reset", json=ask).status_code == 401
    assert admin.post("/auth/totp/reset", json={"username": "nobody"}).status_code == 404
    assert admin.post("/auth/totp/reset", json=ask).json() == ask
    again = admin.post("/auth/totp/reset", json=ask)
    assert (again.status_code, "no second factor of" in again.json()["error"]) == (404, True)
    for ended in (partial, careful.fleet.user):
        assert ended.get("/user/v1/whoami").status_code == 401
    user = careful.login()
    assert user.get("/user/v1/whoami").status_code == 200
    careful.set_up(user)
    assert careful.passed(user).get("/user/v1/whoami").status_code == 200


def test_who_runs_the_fleet_lets_an_administrator_in_again(careful: Person) -> None:
    def run(username: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gantry.api", "reset-second-factor", username]
        given = {"GANTRY_CONFIG": str(careful.api.file), "PYTHONPATH": str(SOURCES)}
        return subprocess.run(
            command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60
        )

    done = run(careful.username)
    assert (done.returncode, done.stderr) == (0, "")
    assert "with the password alone" in done.stdout
    assert careful.login().get("/user/v1/whoami").status_code == 200
    again = run(careful.username)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"there is no second factor of {careful.username!r}\n"


def test_a_new_password_asks_for_no_second_code(careful: Person) -> None:
    body = {"password": PASSWORD, "newPassword": "quite another"}
    changed = careful.fleet.user.post("/user/v1/change-password", json=body)
    assert claims(changed.text)["twoFactorRequired"] is False
    assert careful.api.client(changed.text).get("/user/v1/whoami").status_code == 200


def test_the_secret_is_encrypted_and_a_lost_data_key_is_said(api: Api, tmp_path: Path) -> None:
    fleet = Fleet(api, api.login(), "admin/devbots")
    person = Person(fleet, "admin")
    person.set_up(fleet.user)
    user = person.passed(fleet.user)
    ask = {"password": api.config["admin_password"]}
    codes = user.post("/auth/totp/recovery-codes", json=ask).json()["codes"]
    ((stored,),) = in_database(api, "select sealed_secret from second_factor")
    assert base64.b32encode(person.secret).decode() not in stored
    assert person.secret not in base64.b64decode(stored.removeprefix("v1."))
    api.stop()
    api.config["data_key"] = "another" * 8
    api.start()
    api.wait()
    refused = person.verify(api.login(), person.code())
    assert (refused.status_code, "recovery code" in refused.json()["error"]) == (409, True)
    assert person.passed(api.login(), codes[0]).get("/v7/device").status_code == 200
    assert base64.b32encode(person.secret).decode() not in api.log.read_text()
