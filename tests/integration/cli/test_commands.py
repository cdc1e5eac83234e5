"""Every command that asks the api."""

import json
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest


def test_log_in_ask_who_one_is_log_out(api: Any, tmp_path: Path, operator: Any) -> None:
    session = operator.home / "gantry" / "devbots" / "session.json"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    kept = json.loads(session.read_text())
    assert operator.run("whoami") == f"{kept['username']} at devbots ({api.url})\n"
    operator.run("logout")
    assert not session.exists()
    ended = operator.ended("whoami")
    assert ended.returncode == 4
    assert ended.stderr == "gantry: not logged in to devbots: `gantry login --fleet devbots`\n"


def test_a_wrong_password_keeps_no_session(api: Any, operator: Any) -> None:
    operator.run("logout")
    arguments = ("login", "admin", "--url", api.url, "--password-file", "-")
    ended = operator.ended(*arguments, stdin="wrong\n")
    assert ended.returncode == 4
    assert "check user name and password" in ended.stderr
    assert operator.ended("devices").returncode == 4


def test_a_session_that_ended_says_what_to_do(operator: Any) -> None:
    session = operator.home / "gantry" / "devbots" / "session.json"
    session.write_text(json.dumps(json.loads(session.read_text()) | {"token": "not.a.token"}))
    ended = operator.ended("devices")
    assert ended.returncode == 4
    assert "`gantry login --fleet devbots`" in ended.stderr


def test_a_session_is_renewed_when_it_is_a_day_old(operator: Any) -> None:
    session = operator.home / "gantry" / "devbots" / "session.json"
    kept = json.loads(session.read_text())
    time.sleep(1.1)  # tokens tell seconds: one of the same second is the same
    operator.run("whoami")
    assert json.loads(session.read_text()) == kept
    os.utime(session, (0, 0))
    operator.run("whoami")
    renewed = json.loads(session.read_text())
    assert renewed["token"] != kept["token"]
    assert renewed | {"token": kept["token"]} == kept
    assert stat.S_IMODE(session.stat().st_mode) == 0o600


def test_nobody_there(operator: Any) -> None:
    session = operator.home / "gantry" / "devbots" / "session.json"
    fields = json.loads(session.read_text()) | {"url": "http://127.0.0.1:9"}
    session.write_text(json.dumps(fields))
    ended = operator.ended("devices")
    assert ended.returncode == 5
    assert ended.stderr.startswith("gantry: http://127.0.0.1:9 cannot be reached")
    assert ended.stderr.count("\n") == 1


def test_keys(operator: Any, tmp_path: Path) -> None:
    ssh = operator.home / ".ssh"
    ssh.mkdir()
    assert operator.ended("key", "add").returncode == 3
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh / "id_ed25519")]
    subprocess.run([*command, "-C", "me@laptop"], check=True)
    operator.run("key", "add")
    assert "has this key already" in operator.ended("key", "add").stderr
    (found,) = operator.json("key", "list")
    assert found["title"] == "me@laptop"
    assert "SHA256:" in operator.run("key", "list")
    private = operator.ended("key", "add", str(ssh / "id_ed25519"))
    assert private.returncode == 2
    assert "private key" in private.stderr
    operator.run("key", "rm", str(found["id"]))
    assert operator.json("key", "list") == []
    operator.run("key", "rm", str(found["id"]), code=3)


def test_fleets_and_their_remotes(operator: Any) -> None:
    user = json.loads(operator.run("whoami", "--json"))["username"]
    (found,) = operator.json("fleets")
    assert found["slug"] == f"{user}/robots"
    assert found["device_type"] == "raspberrypi3-64"
    host = "devbots.gantry.internal"
    expected = [
        f"git remote add robots {user}@{host}:{user}/robots.git",
        f"git remote add robots ssh://{user}@{host}:2222/{user}/robots.git",
    ]
    assert operator.run("remote", "-a", "robots").splitlines() == expected
    assert operator.run("git-remote", "-a", "robots").splitlines() == expected
    made = operator.run("fleets", "create", "second", "--type", "intel-nuc")
    assert made == f"git remote add second ssh://{user}@{host}:2222/{user}/second.git\n"
    assert operator.ended("fleets", "create", "third", "--type", "toaster").returncode == 2
    twice = operator.ended("fleets", "create", "second")
    assert twice.returncode == 1
    assert "exists already" in twice.stderr


def test_devices_and_releases(operator: Any, robots: Any, device: Any) -> None:
    release = robots.release()
    (shown,) = operator.json("devices")
    assert shown["name"] == device.name
    assert shown["commit"] is None
    assert shown["target_commit"] == release["commit"]
    assert f"none → {release['commit'][:7]}" in operator.run("devices")
    state = {device.uuid: {"apps": {robots.uuid: {"release_uuid": release["commit"]}}}}
    answer = device.client.patch("/device/v3/state", json=state)
    assert answer.status_code == 200, answer.text
    assert operator.json("devices", "-a", "robots")[0]["commit"] == release["commit"]
    (built,) = operator.json("releases")
    assert built["status"] == "success"
    assert built["is_target"] is True
    assert release["commit"][:7] in operator.run("releases", "-a", "robots", "-n", "3")
    operator.run("releases", "log", "999999", code=3)


def test_a_device_that_is_no_more_is_removed(operator: Any, device: Any) -> None:
    assert "--yes" in operator.ended("devices", "rm", device.name).stderr
    assert [each["name"] for each in operator.json("devices")] == [device.name]
    operator.run("devices", "rm", device.uuid[:9], "--yes")
    assert operator.json("devices") == []
    assert device.client.get(f"/device/v3/{device.uuid}/state").status_code == 401
    operator.run("devices", "rm", device.name, "--yes", code=3)


def test_variables(operator: Any, device: Any) -> None:
    app = ("-a", "robots")
    operator.run("env", "set", "OT_SMOOTHIE_ID=AMA", "B=x=y z", *app)
    assert "already" in operator.ended("env", "set", "B=x=y z", *app).stderr
    operator.run("env", "set", "B=2", "-d", device.name)
    values = {each["name"]: each["value"] for each in operator.json("env", "list", *app)}
    assert values == {"OT_SMOOTHIE_ID": "AMA", "B": "x=y z"}
    of_device = operator.json("env", "list", "-d", device.uuid[:8])
    assert [(each["name"], each["value"]) for each in of_device] == [
        ("B", "2"),
        ("OT_SMOOTHIE_ID", "AMA"),
    ]
    operator.run("env", "rm", "B", "-d", device.name)
    operator.run("env", "rm", "B", "-d", device.name, code=3)
    operator.run("env", "set", "novalue", *app, code=2)
    refused = operator.ended("env", "set", "RESIN_UUID=1", *app)
    assert refused.returncode == 1
    assert "RESIN_UUID" in refused.stderr


def test_config_json(operator: Any, tmp_path: Path, api: Any) -> None:
    path = tmp_path / "config.json"
    operator.run("config", "generate", "--fleet", "robots", "-o", str(path))
    config = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert config["applicationName"] == "robots"
    assert config["apiEndpoint"] == "https://api.devbots.gantry.internal:8443"
    body = {
        "user": config["userId"],
        "application": config["applicationId"],
        "uuid": "0123456789abcdef" * 2,
        "device_type": config["deviceType"],
        "api_key": "k" * 32,
    }
    assert api.client(config["apiKey"]).post("/device/register", json=body).status_code == 201
    printed = json.loads(operator.run("config", "generate", "-a", "robots"))
    assert printed["apiKey"] != config["apiKey"]
    wrong = operator.ended("config", "generate", "-a", "robots", "--device-type", "intel-nuc")
    assert wrong.returncode == 1


def test_references(operator: Any, device: Any) -> None:
    for reference in (device.name, device.uuid, device.uuid[:7]):
        operator.run("logs", reference)
    missing = operator.ended("logs", "nobody's")
    assert missing.returncode == 3
    assert "nobody's" in missing.stderr
    operator.run("remote", "-a", "none", code=3)


def test_others_see_nothing(
    operator: Any, device: Any, api: Any, logs: Any, tmp_path: Path
) -> None:
    other = operator.__class__(tmp_path / "other", api.url)
    other.home.mkdir()
    name = f"x{device.uuid[:8]}"
    api.login().post("/v7/user", json={"username": name, "password": "long enough"})
    other.login(logs, name, "long enough")
    assert other.json("devices") == []
    other.run("logs", device.uuid, code=3)


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("logs",), ("logs", "x", "--since", "tomorrowish")]
)
def test_usage(operator: Any, arguments: tuple[str, ...]) -> None:
    operator.run(*arguments, code=2)
