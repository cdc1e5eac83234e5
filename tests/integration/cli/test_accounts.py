"""`gantry account`, `gantry users` and `gantry api-key`, before a real api."""

import base64
import json
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gantry.api.services import totp

GANTRY = [sys.executable, "-W", "error", "-m", "gantry.cli.main"]
PASSWORD = "long enough"


def session_of(operator: Any) -> dict[str, str]:
    path = operator.home / "gantry" / "devbots" / "session.json"
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


def enable(operator: Any) -> tuple[bytes, list[str]]:
    """Enables a second factor as a person does; its secret, and the recovery codes."""
    arguments = ("--password-file", "-", "--code-file", "-")
    with subprocess.Popen(
        [*GANTRY, "account", "second-factor", "enable", *arguments],
        env=operator._environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(f"{PASSWORD}\n")
        running.stdin.flush()
        assert "give your authenticator this key" in running.stderr.readline()
        secret = base64.b32decode(running.stderr.readline().strip())
        assert running.stderr.readline().strip().startswith("otpauth://totp/Gantry:")
        running.stdin.write(totp.code_at(secret, int(time.time() // 30) - 1) + "\n")
        running.stdin.flush()
        codes = running.stdout.read().split()
        assert "the second factor is on" in running.stderr.read()
    assert running.returncode == 0
    return secret, codes


def log_in(operator: Any, *more: str, stdin: str = f"{PASSWORD}\n", **environment: str) -> Any:
    operator.environment = environment
    name = session_of(operator)["username"]
    arguments = ("login", name, "--url", operator.url, "--password-file", "-", *more)
    return operator.ended(*arguments, stdin=stdin)


def test_a_second_factor_from_enabling_to_disabling(operator: Any, tmp_path: Path) -> None:
    before = session_of(operator)["token"]
    secret, codes = enable(operator)
    assert len(codes) == 10
    assert session_of(operator)["token"] != before
    assert operator.run("whoami").startswith(session_of(operator)["username"])

    ended = log_in(operator)
    assert ended.returncode == 2
    assert "--code-file or GANTRY_CODE" in ended.stderr
    step = int(time.time() // 30)
    both = f"{PASSWORD}\n{totp.code_at(secret, step)}\n"
    ended = log_in(operator, "--code-file", "-", stdin=both)
    assert (ended.returncode, ended.stdout) == (0, "")
    again = log_in(operator, "--code-file", "-", stdin=both)
    assert again.returncode == 4
    assert again.stderr.startswith("gantry: the code is wrong or was used already")
    # The session that was there is still there.
    assert operator.run("whoami").startswith(session_of(operator)["username"])
    file = tmp_path / "code"
    file.write_text(codes[0] + "\n")
    assert log_in(operator, "--code-file", str(file)).returncode == 0
    assert log_in(operator, GANTRY_CODE=codes[1]).returncode == 0

    new = operator.run(
        *("account", "second-factor", "recovery-codes", "--password-file", "-"),
        stdin=f"{PASSWORD}\n",
    ).split()
    assert len(new) == 10
    assert log_in(operator, GANTRY_CODE=codes[2]).returncode == 4
    assert log_in(operator, GANTRY_CODE=new[0]).returncode == 0

    disable = ("account", "second-factor", "disable", "--password-file", "-")
    wrong = operator.ended(*disable, stdin="wrong\n")
    assert wrong.returncode == 4
    assert wrong.stderr == "gantry: the user name or the password is wrong\n"
    operator.run(*disable, stdin=f"{PASSWORD}\n")
    assert operator.run("whoami").startswith(session_of(operator)["username"])
    assert log_in(operator).returncode == 0


def test_codes_are_asked_for_at_a_terminal(operator: Any) -> None:
    _, codes = enable(operator)
    name = session_of(operator)["username"]
    command = " ".join([*GANTRY, "login", name, "--url", operator.url])
    # script(1) gives it a terminal.
    with subprocess.Popen(
        ["script", "-qec", command, "/dev/null"],
        env=operator._environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdin
        assert running.stdout
        shown = ""
        for question, answer in (("password of", PASSWORD), ("code of your", codes[0])):
            while question not in shown:
                shown += (character := running.stdout.read(1))
                assert character, shown
            time.sleep(0.3)  # the terminal stops echoing after the question
            running.stdin.write(f"{answer}\n")
            running.stdin.flush()
        shown += running.stdout.read()
    assert running.returncode == 0, shown
    assert f"as {name}" in shown
    assert PASSWORD not in shown
    assert codes[0] not in shown


def test_the_administrator_lets_somebody_in_again(api: Any, operator: Any, logs: Any) -> None:
    enable(operator)
    person = session_of(operator)["username"]
    refused = operator.ended("users", "reset-second-factor", person)
    assert refused.returncode == 4
    assert [each["username"] for each in operator.json("users", "list")] == [person]
    operator.login(logs)
    assert {"admin", person} <= {str(each["username"]) for each in operator.json("users", "list")}
    assert person in operator.run("users", "list")
    operator.run("users", "reset-second-factor", person)
    assert operator.ended("users", "reset-second-factor", person).returncode == 3
    operator.login(logs, person, PASSWORD)


def test_a_password_is_changed_with_the_old_one(operator: Any, logs: Any) -> None:
    name = session_of(operator)["username"]
    change = ("account", "password", "--password-file", "-", "--new-password-file", "-")
    assert operator.ended(*change, stdin="wrong\nquite another\n").returncode == 4
    short = operator.ended(*change, stdin=f"{PASSWORD}\nshort\n")
    assert (short.returncode, "8 characters" in short.stderr) == (1, True)
    operator.run(*change, stdin=f"{PASSWORD}\nquite another\n")
    assert operator.run("whoami").startswith(name)
    assert log_in(operator).returncode == 4
    operator.login(logs, name, "quite another")


def actor(operator: Any, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{operator.url}/actor/v1/whoami", headers=headers)


def test_api_keys(operator: Any, device: Any, tmp_path: Path) -> None:
    assert "no API keys" in operator.ended("api-key", "list").stderr
    key = operator.run("api-key", "create", "ci", "--expires", "30d").strip()
    assert actor(operator, key).json()["actorType"] == "user"
    file = tmp_path / "key"
    operator.run("api-key", "create", "flash", "-a", "robots", "-o", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert actor(operator, file.read_text().strip()).json()["actorType"] == "application"
    spare = operator.run("api-key", "create", "spare", "--device", device.name).strip()
    assert actor(operator, spare).json()["uuid"] == device.uuid

    (row,) = operator.json("api-key", "list")
    assert (row["name"], row["role"]) == ("ci", "user")
    assert not any(secret in operator.run("api-key", "list", "--all") for secret in (key, spare))
    owners = {str(row["name"]): row["owner"] for row in operator.json("api-key", "list", "--all")}
    assert str(owners["flash"]).endswith("/robots")
    assert owners["spare"] == device.name
    assert re.search(r"ci +user .*20\d\d-", operator.run("api-key", "list"))

    operator.run("api-key", "rm", str(row["id"]))
    assert actor(operator, key).status_code == 401
    assert operator.ended("api-key", "rm", str(row["id"])).returncode == 3


@pytest.mark.parametrize(
    ("expires", "said"),
    [("soon", "'soon' is no time"), ("2020-01-01", "2020-01-01 is over"), ("0d", "0d is over")],
)
def test_a_time_that_is_none(operator: Any, expires: str, said: str) -> None:
    ended = operator.ended("api-key", "create", "x", "--expires", expires)
    assert (ended.returncode, said in ended.stderr) == (2, True)
