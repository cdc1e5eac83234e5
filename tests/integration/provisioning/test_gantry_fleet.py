"""What the playbooks learn of a fleet, and the keys that are made for its devices."""

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import HOST, Api
from tests.integration.provisioning.conftest import Module


def test_the_facts_hold_no_secret_and_make_no_key(
    gantry_fleet: Module, api: Api, application: str
) -> None:
    before = provisioning_keys(api)
    answer = gantry_fleet(fleet="devbots", application=application)
    assert answer["changed"] is False
    assert "config" not in answer
    assert provisioning_keys(api) == before
    fleet = answer["fleet"]
    assert fleet["name"] == f"admin/{application}"
    assert fleet["api_url"] == f"https://api.{HOST}:8443"
    assert fleet["host"] == HOST
    assert fleet["device_type"] == "raspberrypi3"
    assert fleet["supervisors"]["aarch64"].startswith(
        f"registry.{HOST}:8443/gantry/aarch64-supervisor:"
    )
    # What runs 32-bit programs for ARMv7, and nothing else.
    assert fleet["device_types"] == {
        "raspberry-pi2": "armv7hf",
        "raspberrypi3": "armv7hf",
        "raspberrypi3-64": "aarch64",
        "raspberrypi4-64": "aarch64",
    }


def test_a_key_registers_one_device_and_ends_after_a_day(
    gantry_fleet: Module, api: Api, application: str
) -> None:
    options: dict[str, Any] = {
        "fleet": "devbots",
        "application": application,
        "device_type": "raspberrypi4-64",
        "new_key": True,
        "key_name": "provisioning of 192.0.2.10",
    }
    before = provisioning_keys(api)
    dry = gantry_fleet(check=True, **options)
    assert dry["changed"] is True
    assert "config" not in dry
    assert provisioning_keys(api) == before

    config = gantry_fleet(**options)["config"]
    assert config["deviceType"] == "raspberrypi4-64"
    [key] = set(provisioning_keys(api)) - set(before)
    name, expires = key
    assert name == "provisioning of 192.0.2.10"
    left = dt.datetime.fromisoformat(expires) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23) < left <= dt.timedelta(hours=24)
    registered = api.client(config["apiKey"]).post(
        "/device/register",
        json={
            "uuid": "ab" * 16,
            "application": config["applicationId"],
            "device_type": config["deviceType"],
        },
    )
    assert registered.status_code == 201, registered.text


def test_a_device_is_forgotten_once(gantry_fleet: Module, api: Api, application: str) -> None:
    config = gantry_fleet(fleet="devbots", application=application, new_key=True, key_name="k")
    uuid = "cd" * 16
    body = {
        "uuid": uuid,
        "application": config["config"]["applicationId"],
        "device_type": "raspberrypi3",
    }
    answer = api.client(config["config"]["apiKey"]).post("/device/register", json=body)
    assert answer.status_code == 201, answer.text
    assert gantry_fleet(fleet="devbots", forget=uuid, check=True)["changed"] is True
    assert gantry_fleet(fleet="devbots", forget=uuid)["changed"] is True
    assert gantry_fleet(fleet="devbots", forget=uuid)["changed"] is False


def test_a_config_json_is_asked_of_nobody(gantry_fleet: Module, tmp_path: Path) -> None:
    config = {
        "apiEndpoint": "https://api.elsewhere.example:8443",
        "applicationId": "2167",
        "deviceType": "raspberrypi3-64",
        "apiKey": "secret",
        "balenaRootCA": base64.b64encode(b"PEM").decode(),
        "pubnubSubscribeKey": "kept",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    answer = gantry_fleet(config_file=str(path))
    assert answer["fleet"]["application_id"] == 2167
    assert answer["fleet"]["host"] == "elsewhere.example"
    assert answer["fleet"]["ca"] == "PEM"
    assert answer["config"]["pubnubSubscribeKey"] == "kept"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fleet": "usertestingbots"}, "gantry login --fleet usertestingbots"),
        ({"fleet": "devbots", "application": "nobody/none"}, "no application"),
        ({"config": {"applicationId": 1}}, "lacks apiEndpoint"),
        ({"config": {"apiEndpoint": "http://x", "applicationId": 1}}, "no https URL"),
        ({"config": {"apiEndpoint": "https://x", "applicationId": "a"}}, "config.json: "),
        (
            {"config": {"apiEndpoint": "https://x", "applicationId": 1, "deviceType": "toaster"}},
            "unknown device type 'toaster'",
        ),
        ({"config_file": "/nowhere/config.json"}, "/nowhere/config.json"),
        ({}, "one of the following is required"),
    ],
)
def test_refusals_are_sentences(gantry_fleet: Module, options: dict[str, Any], said: str) -> None:
    answer = gantry_fleet(**options)
    assert answer["failed"] is True
    assert said in answer["msg"]


def provisioning_keys(api: Api) -> list[tuple[str, str]]:
    """Name and end of each provisioning key."""
    rows = api.login().get("/v7/api_key?$select=name,expiry_date").json()["d"]
    return [(row["name"], row["expiry_date"]) for row in rows if row["expiry_date"]]
