"""Preloading: applications whose images came with the card run before any network."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import docker
import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until

FOREVER = "echo begun $NAME; while true; do sleep 1; done"


class Card:
    """Puts images and files there before the first boot."""

    def __init__(self, device: Device, registry: Registry) -> None:
        self.device = device
        self.registry = registry
        self.named: list[str] = []

    def image(self, script: str) -> str:
        """An image that the engine has by its digest, as one that was pulled."""
        reference = self.registry.push(script)
        self.device.engine.images.pull(reference)
        return reference

    def tagged(self, script: str) -> str:
        """An image that the engine has by a name without a digest, as one that was loaded."""
        reference = self.registry.push(script)
        name = f"registry.example.org/path/{self.device.app_id}"
        self.device.engine.images.pull(reference).tag(name)
        self.device.engine.images.remove(reference)
        self.named.append(f"{name}:latest")
        return name

    def write(self, document: object) -> None:
        (self.device.home / "mnt").mkdir(exist_ok=True)
        (self.device.home / "mnt" / "apps.json").write_text(json.dumps(document))

    def files(self) -> set[str]:
        return {each.name for each in (self.device.home / "mnt").glob("apps.json*")}


@pytest.fixture
def card(device: Device, registry: Registry, engine: docker.DockerClient) -> Iterator[Card]:
    one = Card(device, registry)
    yield one
    device.clean_up()
    for name in one.named:
        with suppress(docker.errors.ImageNotFound):
            engine.images.remove(name, force=True)


def environment_of(device: Device) -> dict[str, str]:
    container = device.service()
    assert container is not None
    return dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])


def test_the_oldest_form_is_read_and_begun_without_network(
    device: Device, cloud: Cloud, card: Card
) -> None:
    """With all rights, as applications of one Dockerfile have: not every machine grants them to
    containers, so this looks at what is made, and the next test at what runs."""
    image = card.tagged(FOREVER)
    entry = {
        "appId": str(device.app_id),
        "name": "myapplication",
        "commit": "c0ffee",
        "imageId": image,
        "env": {"NAME": "old"},
        "config": {"RESIN_SUPERVISOR_DELTA": "1", "RESIN_SUPERVISOR_POLL_INTERVAL": "5000"},
    }
    card.write([entry])
    cloud.stop()
    device.start()
    container = wait_until("it is made", device.containers)[0]
    assert container.attrs["Config"]["Image"] == f"{image}:latest"
    assert container.attrs["HostConfig"]["Privileged"]
    environment = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    assert environment["NAME"] == "old"
    assert environment["RESIN_APP_ID"] == str(device.app_id)
    assert environment["RESIN_APP_NAME"] == "myapplication"
    assert environment["RESIN_DEVICE_UUID"] == device.config["uuid"]
    assert "registered_at" not in device.config
    assert card.files() == {"apps.json.preloaded"}


def test_version_2_runs_without_network_also_when_all_else_is_lost(
    device: Device, cloud: Cloud, card: Card
) -> None:
    service = {
        "serviceName": "main",
        "imageId": 4,
        "image": card.tagged(FOREVER),
        "environment": {"NAME": "two"},
        "labels": {},
        "stop_grace_period": "1s",
    }
    app = {"name": "bots", "commit": "c0ffee", "releaseId": 3, "services": {"9": service}}
    card.write({"apps": {str(device.app_id): app}, "config": {}, "pinDevice": False})
    cloud.stop()
    device.start()
    wait_until("it runs", device.service)
    environment = environment_of(device)
    assert (environment["NAME"], environment["BALENA_APP_RELEASE"]) == ("two", "c0ffee")
    assert "registered_at" not in device.config
    # Power is lost, and the database with it: what came with the card still runs.
    device.kill()
    wait_until("it ended", device.has_ended)
    for each in (device.home / "data").iterdir():
        each.unlink()
    for container in device.containers():
        container.remove(force=True)
    device.start()
    wait_until("it runs again", device.service)
    # The fleet answers: what its target says goes on from there.
    cloud.apps = device.app("bbb2", {"main": {"image": card.image(FOREVER + " # two")}})
    cloud.start()
    wait_until(
        "the fleet's release alone",
        lambda: [each.labels["io.gantry.release"] for each in device.containers()] == ["bbb2"],
    )


def test_the_newest_form_is_the_same_container_before_and_after_registering(
    device: Device, cloud: Cloud, card: Card
) -> None:
    services = {"main": {"image": card.image(FOREVER), "environment": {"NAME": "new"}}}
    apps = device.app("aaa1", services)
    card.write({"apps": apps, "config": {}, "pinDevice": True})
    cloud.apps = apps
    cloud.stop()
    device.start()
    first = wait_until("it runs", device.service)
    key = device.config["deviceApiKey"]
    cloud.start()
    wait_until("it is registered", lambda: device.config.get("deviceId"))
    wait_until(
        "it is reported",
        lambda: (
            cloud.reported().get("apps", {}).get(f"uuid{device.app_id}", {}).get("release_uuid")
            == "aaa1"
        ),
    )
    assert (device.service(), device.config["deviceApiKey"]) == (first, key)
    number = apps[f"uuid{device.app_id}"]["releases"]["aaa1"]["id"]
    assert cloud.pins == [(device.config["uuid"], number)]
    # Before it asked for its target even once.
    assert cloud.order.index("pin") < cloud.order.index("state")
    # Once, and not again at the next start.
    device.signal(signal.SIGTERM)
    polls = len(cloud.polls)
    device.start()
    wait_until("it polls", lambda: len(cloud.polls) > polls)
    assert len(cloud.pins) == 1
    assert device.service() == first


def test_a_pin_that_the_api_refuses_is_told_once_and_holds_nothing_up(
    device: Device, cloud: Cloud, card: Card
) -> None:
    apps = device.app("aaa1", {"main": {"image": card.image(FOREVER)}})
    card.write({"apps": apps, "config": {}, "pinDevice": True})
    cloud.pin_status = 404
    cloud.apps = device.app("bbb2", {"main": {"image": card.image(FOREVER + " # two")}})
    device.start()
    wait_until(
        "the fleet's release",
        lambda: device.service() and environment_of(device)["BALENA_APP_RELEASE"] == "bbb2",
    )
    said = wait_until("told", lambda: [m for m in cloud.messages() if "not pinned" in m])
    assert "aaa1" in said[0]
    assert len(said) == len(cloud.pins) == 1


def test_a_pin_waits_for_an_api_that_fails(device: Device, cloud: Cloud, card: Card) -> None:
    apps = device.app("aaa1", {"main": {"image": card.image(FOREVER)}})
    card.write({"apps": apps, "config": {}, "pinDevice": True})
    cloud.pin_status = 500
    device.start()
    running = wait_until("it runs meanwhile", device.service)
    wait_until("it tries again", lambda: len(cloud.pins) > 1)
    assert "state" not in cloud.order
    cloud.pin_status = 200
    cloud.apps = apps
    wait_until("then it polls", lambda: "state" in cloud.order)
    assert device.service() == running


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{nonsense", "apps.json is not valid JSON"),
        ('[{"appId": "x"}]', "entry 0: appId is 'x'"),
        ('{"apps": {"abc": {"releases": {"c": {"services": {"main": {}}}}}}}', "image is None"),
        ('{"some": "thing"}', "apps.json"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_set_aside(
    device: Device, cloud: Cloud, card: Card, content: str, sentence: str
) -> None:
    card.write({})
    (device.home / "mnt" / "apps.json").write_text(content)
    cloud.apps = device.app("aaa1", {"main": {"image": card.image(FOREVER)}})
    device.start()
    wait_until("the fleet's release", device.service)
    assert card.files() == {"apps.json.broken"}
    assert sentence in device.log()
    wait_until("told", lambda: any("Preloaded applications" in m for m in cloud.messages()))


def test_another_fleets_application_is_left_out(device: Device, cloud: Cloud, card: Card) -> None:
    apps: dict[str, Any] = device.app("aaa1", {"main": {"image": card.image(FOREVER)}})
    [app] = apps.values()
    card.write({"apps": {"f" * 32: {**app, "id": 5}}, "config": {}, "pinDevice": True})
    device.start()
    wait_until("it polls", lambda: cloud.polls)
    time.sleep(1)
    assert not device.containers()
    assert not cloud.pins
    assert "Preloaded application 5 is not run" in device.log()
    assert card.files() == {"apps.json.preloaded"}


def test_a_file_that_comes_later_does_not_take_a_device_back(
    device: Device, cloud: Cloud, card: Card
) -> None:
    cloud.apps = device.app("bbb2", {"main": {"image": card.image(FOREVER)}})
    device.start()
    running = wait_until("the fleet's release", device.service)
    device.signal(signal.SIGTERM)
    card.write({"apps": device.app("aaa1", {"main": {"image": card.image("sleep 9")}})})
    polls = len(cloud.polls)
    device.start()
    wait_until("it polls", lambda: len(cloud.polls) > polls)
    time.sleep(1)
    assert device.containers() == [running]
    assert card.files() == {"apps.json.ignored"}
