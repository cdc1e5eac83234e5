"""config.json and provisioning: the same device, whenever the power goes."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.cloud import CloudError, Registration
from gantry.supervisor.config import ConfigError, ConfigFile, DeviceConfig
from gantry.supervisor.provision import ProvisioningStep, next_step, provision

FRESH: dict[str, Any] = {
    "applicationId": "2167",
    "apiKey": "provisioning",
    "userId": 141,
    "username": "gh_someone",
    "deviceType": "raspberrypi3-64",
    "apiEndpoint": "https://api.example:8443/",
    "vpnEndpoint": "vpn.example",
    "pubnubSubscribeKey": "sub-c",
    "pubnubPublishKey": "pub-c",
    "listenPort": "48484",
    "mixpanelToken": "aaaa",
    "new": {"key": [1]},
}


class PowerLostError(BaseException):
    """Nothing that runs may catch this."""


class Api:
    """Registers devices as the api does: the same answer for the same uuid and key."""

    def __init__(self) -> None:
        self.devices: dict[str, str] = {}
        self.lose_power_after = False

    async def register(self, body: dict[str, Any], key: str) -> Registration:
        assert key == "provisioning"
        if self.devices.setdefault(body["uuid"], body["api_key"]) != body["api_key"]:
            raise CloudError("409", 409)
        if self.lose_power_after:
            self.lose_power_after = False
            raise PowerLostError
        return Registration(7, body["uuid"], body["api_key"])


def test_ids_are_numbers_or_texts_and_unknown_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FRESH))
    file = ConfigFile(path)
    config = file.read()
    assert (config.application_id, config.user_id, config.listen_port) == (2167, 141, 48484)
    assert config.api_endpoint == "https://api.example:8443"
    assert config.poll_seconds == 900.0
    file.write(config.changed({"uuid": "u", "apiKey": None}))
    written = json.loads(path.read_text())
    assert "apiKey" not in written
    assert written == {**{k: v for k, v in FRESH.items() if k != "apiKey"}, "uuid": "u"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ("[]", "an object is expected"),
        ('{"applicationId": "x"}', "applicationId is 'x'"),
        ('{"balenaRootCA": "bm9uZQ=="}', "no certificate"),
        ('{"balenaRootCA": "/w=="}', "not base64"),
        ('{"listenPort": 70000}', "listenPort is 70000"),
        ('{"deviceId": "--5"}', "deviceId"),
        ('{"applicationId": "' + "9" * 5000 + '"}', "applicationId"),
        ('{"appUpdatePollInterval": ' + "9" * 400 + "}", "appUpdatePollInterval"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=part):
        ConfigFile(path).read()


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"put the fleet's config\.json there"):
        ConfigFile(tmp_path / "config.json").read()


def test_the_root_ca_is_decoded() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    config = DeviceConfig({"balenaRootCA": base64.b64encode(pem.encode()).decode()})
    assert config.root_ca == pem


def test_steps() -> None:
    assert next_step(DeviceConfig(FRESH)) is ProvisioningStep.GENERATE_IDENTITY
    with pytest.raises(ConfigError, match="apiEndpoint"):
        next_step(DeviceConfig({}))
    with pytest.raises(ConfigError, match="neither apiKey"):
        next_step(DeviceConfig({"apiEndpoint": "https://a"}))
    done = {"apiEndpoint": "https://a", "uuid": "u", "deviceApiKey": "k", "deviceId": "5"}
    assert next_step(DeviceConfig(done)) is ProvisioningStep.DONE
    with_key = DeviceConfig({**done, "apiKey": "p"})
    assert next_step(with_key) is ProvisioningStep.FORGET_PROVISIONING_KEY


POINTS = ["before write", "half written", "written", "renamed"]


@pytest.mark.parametrize("after_answer", [False, True])
@pytest.mark.parametrize("point", [f"{name} {n}" for n in (1, 2) for name in POINTS] + ["never"])
def test_power_lost_at_any_point_leads_to_one_device(
    tmp_path: Path, point: str, after_answer: bool
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FRESH))
    api = Api()
    api.lose_power_after = after_answer
    seen: dict[str, int] = {}

    def checkpoint(name: str) -> None:
        seen[name] = seen.get(name, 0) + 1
        if f"{name} {seen[name]}" == point:
            raise PowerLostError

    for _ in range(4):
        try:
            config = asyncio.run(provision(ConfigFile(path, checkpoint), lambda _config: api))
        except PowerLostError:
            assert ConfigFile(path).read().document["new"] == {"key": [1]}
            continue
        break
    assert list(api.devices) == [config.uuid]
    assert config.device_id == 7
    assert config.provisioning_key is None
    assert json.loads(path.read_text()) == config.document


def test_a_rename_that_fat_did_only_half_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    (tmp_path / "config.json.tmp").write_text(json.dumps(FRESH))
    assert ConfigFile(path).read().application_id == 2167


def test_a_conflict_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**FRESH, "uuid": "known"}))
    api = Api()
    api.devices["known"] = "another key"
    with pytest.raises(CloudError, match="remove uuid from config"):
        asyncio.run(provision(ConfigFile(path), lambda _config: api))


def test_an_update_sets_removes_and_keeps_keys(tmp_path: Path) -> None:
    file = ConfigFile(tmp_path / "config.json")
    file.path.write_text('{"uuid": "abc", "hostname": "old", "unknown": [1]}')
    assert file.update({"hostname": None, "persistentLogging": True})
    assert file.read().document == {"uuid": "abc", "unknown": [1], "persistentLogging": True}
    written = file.path.stat().st_ino
    assert not file.update({"persistentLogging": True, "hostname": None})
    assert file.path.stat().st_ino == written
