"""Wrong settings: a clear error, and nothing registered."""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import SETTINGS, Run

ROOT = Path(__file__).parents[3]


def refusal(stack: str, settings: dict[str, str]) -> str:
    """What the program's configuration module says of these settings, read by itself."""
    spec = importlib.util.spec_from_file_location("infra_config", ROOT / "infra" / "config.py")
    assert spec
    assert spec.loader
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    values = SETTINGS | {f"gantry:{key}": value for key, value in settings.items()}
    with pytest.raises(config.StackConfigError) as caught:
        config.load(stack, values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"htttpsPort": "8443"}, "gantry:htttpsPort: unknown key"),
        ({"httpsPort": "65536"}, "gantry:httpsPort: Input should be less than or equal to 65535"),
        ({"httpsPort": "many"}, "gantry:httpsPort: Input should be a valid integer"),
        ({"httpsPort": "2222"}, "httpsPort and gitPort are both 2222: they must differ"),
        ({"vpn": '{"port": 8443}'}, "httpsPort and vpn.port are both 8443: they must differ"),
        ({"gitPort": "1194"}, "gitPort and vpn.port are both 1194: they must differ"),
        ({"vpn": '{"port": 443, "sharePort": true}'}, "gantry:vpn: port is 443, and sharePort"),
        ({"vpn": '{"servers": 0}'}, "gantry:vpn.servers: Input should be greater than or equal"),
        ({"vpn": '{"connectionsPerMinute": -1}'}, "gantry:vpn.connectionsPerMinute: Input should"),
        ({"memory": '{"vpn": 128}'}, "gantry:memory.vpn: Input should be greater than or equal"),
        ({"vpn": '{"speed": 1}'}, "gantry:vpn.speed: unknown key"),
        ({"deltas": '{"workers": 0}'}, "gantry:deltas.workers: Input should be greater than or"),
        ({"deltas": '{"workers": 4, "cache": 3}'}, "gantry:deltas: cache is 3, and workers 4"),
        ({"deltas": '{"percent": 1}'}, "gantry:deltas.percent: unknown key"),
        ({"registry": '{"keepReleases": 0}'}, "gantry:registry.keepReleases: Input should be"),
        ({"registry": '{"often": 1}'}, "gantry:registry.often: unknown key"),
        (
            {"registry": '{"graceHours": 1}', "builds": '{"seconds": 7200}'},
            "registry.graceHours is 1, and a build may take builds.seconds 7200",
        ),
        ({"deviceType": "raspberry"}, "unknown device type 'raspberry': use one of raspberry-pi,"),
        ({"host": "Dev_Bots"}, "gantry:host: 'Dev_Bots' is not a host name"),
        ({"host": "bots.localhost"}, "devices resolve .localhost to themselves"),
        ({"bindAddress": "everywhere"}, "gantry:bindAddress: value is not a valid IPv4 or IPv6"),
        ({"memory": '{"apy": 64}'}, "gantry:memory.apy: unknown key"),
        ({"memory": '{"api": 1}'}, "gantry:memory.api: Input should be greater than or equal"),
        ({"storage": '{"kind": "tape"}'}, "gantry:storage: Input tag 'tape'"),
        ({"storage": "{"}, "gantry:storage is not an object"),
        (
            {"storage": '{"kind": "s3", "bucket": "some-bucket", "secretKey": "SECRET"}'},
            "accessKey and secretKey go together",
        ),
        ({"fleet": "other"}, "the fleet's name is the stack's"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], message: str) -> None:
    error = refusal("testbots", settings)
    assert message in error
    assert "SECRET" not in error


def test_every_fault_is_listed_and_nothing_registered(run: Run) -> None:
    refused = run("testbots", httpsPort="0", gitPort="x", colour="blue")
    assert all(f"gantry:{key}:" in str(refused.error) for key in ("httpsPort", "gitPort", "colour"))
    assert refused.resources == []


@pytest.mark.parametrize("name", ["Bots", "b", "bots_1", "1bots"])
def test_a_stack_must_be_a_fleets_name(name: str) -> None:
    assert "cannot be a fleet's name" in refusal(name, {})


def as_pulumi_tells(values: dict[str, Any]) -> dict[str, str]:
    """The settings of a stack's file as a program gets them: objects as JSON."""
    return {
        key.removeprefix("gantry:"): json.dumps(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def test_our_stacks_can_be_up_side_by_side(run: Run) -> None:
    files = sorted((ROOT / "stacks").glob("Pulumi.*bots.yaml"))
    assert {each.name.split(".")[1] for each in files} >= {
        "devbots",
        "testingbots",
        "usertestingbots",
    }
    taken: list[str] = []
    for each in files:
        values = yaml.safe_load(each.read_text())["config"]
        # As the Pulumi CLI writes it: only then does it change nothing but the salt's line.
        assert all(isinstance(value, str | dict) for value in values.values())
        fleet = run(each.name.split(".")[1], **as_pulumi_tells(values))
        assert fleet.error is None
        ports = (values["gantry:httpsPort"], values["gantry:gitPort"], values["gantry:vpn"]["port"])
        taken += [str(port) for port in ports]
    assert len(taken) == len(set(taken))


def test_the_salt_is_not_committed() -> None:
    committed = subprocess.run(
        ["git", "grep", "-l", "^encryptionsalt", "HEAD", "--", "stacks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert committed.stdout == ""


def test_the_entry_point_stays_small() -> None:
    assert len((ROOT / "infra" / "__main__.py").read_text().splitlines()) <= 40
