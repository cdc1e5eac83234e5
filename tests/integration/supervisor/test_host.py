"""What a fleet's variables do to a device's host: a real supervisor, with a host's real door."""

import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.host_door import HostDoor
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.http_api import Api

CONFIG_TXT = "# mine\ndtparam=audio=on\n[pi4]\narm_boost=1\n[all]\ngpu_mem=16\n"
FOREVER = "n=0; while true; do n=$((n+1)); echo line $n; sleep 1; done"


@pytest.fixture
def door(device: Device) -> Iterator[HostDoor]:
    one = HostDoor(device.home / "host")
    device.environment["HOST_DOOR"] = str(one.path)
    device.write_config(device.config | {"deviceType": "raspberrypi3"})
    (device.boot / "config.txt").write_text(CONFIG_TXT)
    yield one
    one.close()


def config_txt(device: Device) -> str:
    return (device.boot / "config.txt").read_text()


def test_config_txt_is_changed_and_the_host_restarted_when_no_lock_is_in_the_way(
    device: Device, door: HostDoor, cloud: Cloud, registry: Registry
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("the service runs", device.service)
    locks = device.home / "runtime/services" / str(device.app_id) / "main"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "updates.lock").write_text("")
    cloud.config = {
        "RESIN_HOST_CONFIG_gpu_mem": "128",
        "BALENA_HOST_CONFIG_dtoverlay": '"w1-gpio,gpiopin=4","spi1-1cs"',
        "RESIN_HOST_CONFIG_kernel": "other.img",
        "RESIN_SUPERVISOR_NEW_THING": "1",
    }
    wait_until(
        "it waits for the lock", lambda: "A restart for dtoverlay, gpu_mem waits" in device.log()
    )
    assert config_txt(device) == (
        "# mine\ndtparam=audio=on\n[pi4]\narm_boost=1\n[all]\n#gantry-off# gpu_mem=16\n"
        "# gantry: set by variables of the fleet; change them there\n[all]\ngpu_mem=128\n"
        "dtoverlay=w1-gpio\ndtparam=gpiopin=4\ndtoverlay=spi1-1cs\n# gantry: end\n"
    )
    assert (device.boot / "config.txt.before-gantry").read_text() == CONFIG_TXT
    assert door.calls == []
    changed = "Host: config.txt changed: dtoverlay, gpu_mem"
    wait_until("it is told", lambda: changed in cloud.messages(isSystem=True))
    # The need of a restart outlives the supervisor; without the lock it comes to be.
    device.kill()
    assert device.process is not None
    device.process.wait(60)
    (locks / "updates.lock").unlink()
    device.start()
    wait_until("the host is restarted", lambda: door.calls == ["--no-block reboot"])
    wait_until(
        "what happened is in the fleet's log",
        lambda: (
            {
                "Configuration variables that are not known, and kept: RESIN_SUPERVISOR_NEW_THING",
                "The host is restarted for dtoverlay, gpu_mem",
            }
            <= set(cloud.messages(isSystem=True))
        ),
    )
    [refusal] = {each for each in cloud.messages(isSystem=True) if "kernel" in each}
    assert "RESIN_HOST_CONFIG_kernel: kernel may not be changed" in refusal
    assert device.service() is not None


def test_a_variable_that_goes_leaves_the_host_as_it_was(
    device: Device, door: HostDoor, cloud: Cloud
) -> None:
    cloud.config = {
        "RESIN_HOST_CONFIG_gpu_mem": "128",
        "RESIN_SUPERVISOR_PERSISTENT_LOGGING": "true",
        "RESIN_HOST_HOSTNAME": "robot-7",
        "RESIN_SUPERVISOR_VPN_CONTROL": "false",
    }
    device.write_config(device.config | {"hostname": "mine"})
    device.start()
    wait_until("the host is restarted", lambda: "--no-block reboot" in door.calls)
    assert (device.config["persistentLogging"], device.config["hostname"]) == (True, "robot-7")
    assert device.config["somethingNew"] == {"kept": True}
    assert "--no-block stop gantry-vpn.service" in door.calls
    # Its power goes before it has restarted.
    device.kill()
    assert device.process is not None
    device.process.wait(60)
    cloud.config = {}
    device.start()
    wait_until("config.txt is as it was", lambda: config_txt(device) == CONFIG_TXT)
    wait_until("so is the host's name", lambda: device.config["hostname"] == "mine")
    assert "persistentLogging" not in device.config
    wait_until("the tunnel is back", lambda: "--no-block start gantry-vpn.service" in door.calls)


def test_without_a_door_the_reason_is_told_and_applications_run(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    device.environment["HOST_DOOR"] = str(device.home / "none")
    device.write_config(device.config | {"deviceType": "raspberrypi3"})
    (device.boot / "config.txt").write_text(CONFIG_TXT)
    cloud.config = {"RESIN_HOST_CONFIG_gpu_mem": "128"}
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("the service runs", device.service)
    wait_until(
        "the reason is in the fleet's log",
        lambda: any("door" in each and "is shut" in each for each in cloud.messages(isSystem=True)),
    )
    assert "gpu_mem=128" in config_txt(device)


def test_the_host_is_restarted_for_a_service_before_it_starts(
    device: Device, door: HostDoor, cloud: Cloud, registry: Registry
) -> None:
    labels = {"labels": {"io.balena.update.requires-reboot": "1"}}
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("the service runs", lambda: len(device.containers(running=True)) == 1)
    (old,) = device.containers()
    image = registry.push(FOREVER + " # new")
    cloud.apps = device.app("bbb2", {"main": {"image": image, **labels}})
    wait_until("the new container is there", lambda: len(device.containers()) == 2)
    wait_until("the host is restarted", lambda: door.calls == ["--no-block reboot"])
    assert [each.id for each in device.containers(running=True)] == [old.id]
    said = "The host is restarted for service 'main'"
    wait_until("it is told", lambda: said in cloud.messages(isSystem=True))

    # This machine's boot stays the same, so it is not another for the supervisor: it tries twice
    # more, and lets the service start then.
    for tries in (2, 3):
        device.signal(signal.SIGKILL)
        device.start()
        wait_until(f"restart {tries}", lambda tries=tries: len(door.calls) == tries)  # type: ignore[misc]
    device.signal(signal.SIGKILL)
    device.start()
    wait_until(
        "the new one runs", lambda: old.id not in {e.id for e in device.containers(running=True)}
    )
    wait_until("it runs alone", lambda: [e.status for e in device.containers()] == ["running"])
    assert door.calls == ["--no-block reboot"] * 3
    assert "no other boot came of it" in device.log()


def test_logs_and_figures_are_told_as_variables_say(
    device: Device, door: HostDoor, cloud: Cloud, registry: Registry
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    cloud.config = {
        "RESIN_SUPERVISOR_LOG_CONTROL": "false",
        "BALENA_SUPERVISOR_HARDWARE_METRICS": "false",
    }
    device.start()
    wait_until("the service runs", device.service)
    wait_until("it is reported", lambda: "apps" in cloud.reported())
    names = ("cpu_usage", "memory_usage", "storage_total")
    wait_until(
        "figures are taken back",
        lambda: [cloud.reported().get(each, "") for each in names] == [None] * 3,
    )
    assert cloud.reported()["os_variant"] == "prod"
    container = device.service()
    assert container is not None

    def written() -> list[str]:
        return [line for line in container.logs().decode().splitlines() if line]

    wait_until("it has spoken", lambda: len(written()) >= 8)
    assert cloud.messages(serviceName="main") == []
    cloud.config = {}
    wait_until("it is heard", lambda: cloud.messages(serviceName="main"))
    # What was said while logs were off is not told afterwards.
    assert "line 1" not in cloud.messages(serviceName="main")
    assert "line 2" not in cloud.messages(serviceName="main")


def test_an_announcement_leads_to_nothing_when_the_variable_says_so(
    device: Device, door: HostDoor, cloud: Cloud
) -> None:
    cloud.config = {"BALENA_SUPERVISOR_INSTANT_UPDATE_TRIGGER": "false"}
    device.start()
    wait_until("it is reported", cloud.reported)
    wait_until("it has heard the announcement of its own target", lambda: len(cloud.polls) >= 1)
    polls = len(cloud.polls)
    cloud.config = {**cloud.config, "RESIN_SUPERVISOR_DELTA": "1"}
    # The same stream carries news: the next one that is asked for by hand is the first that comes.
    key = Api(device).key
    assert device_post(device, "/v1/update", key) == 202
    assert device_post(device, "/v1/update", key, {"force": True}) == 204
    wait_until("it has polled", lambda: len(cloud.polls) > polls)
    assert len(cloud.polls) == polls + 1


def device_post(device: Device, path: str, key: str, body: dict[str, Any] | None = None) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"http://127.0.0.1:{device.port}{path}"
    return httpx2.post(url, headers=headers, json=body or {}).status_code


def test_while_the_api_is_away_the_led_tells_and_its_return_is_noticed(
    device: Device, door: HostDoor, cloud: Cloud
) -> None:
    led = door.led()
    device.start()
    wait_until("it is reported", cloud.reported)
    cloud.stop()
    wait_until("the LED flashes", lambda: "255" in (led / "brightness").read_text())
    before = len(cloud.polls)
    cloud.start()
    wait_until("it polls again", lambda: len(cloud.polls) > before)
    wait_until(
        "the LED is given back", lambda: "actpwr" in (led / "trigger").read_text() and not door.busy
    )


def test_a_burst_of_lines_arrives_whole_and_in_order(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """2 MB at once, eight times what the supervisor holds."""
    script = f"for n in $(seq 1 20000); do echo $n {'x' * 90}; done; while true; do sleep 1; done"
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(script)}})
    device.start()
    last = f"20000 {'x' * 90}"
    wait_until("all of it is there", lambda: last in cloud.messages(serviceName="main"), 240)
    numbers = [int(each.split()[0]) for each in cloud.messages(serviceName="main")]
    assert numbers == list(range(1, 20001))
    assert not any("dropped" in each for each in cloud.messages(isSystem=True))
