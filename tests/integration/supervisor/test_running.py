"""Applications on a real engine: first start, update, variables, leftovers."""

import signal
import time
from typing import Any

from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    wait_until,
)

FOREVER = "echo begun $NAME; while true; do sleep 1; done"


def test_a_release_is_run_reported_and_logged(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(FOREVER)
    cloud.apps = device.app(
        "aaa1", {"main": {"image": image, "environment": {"OT_SMOOTHIE_ID": "AMA", "NAME": "x y"}}}
    )
    device.start()
    container = wait_until("the service runs", device.service)
    environment = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    assert environment["OT_SMOOTHIE_ID"] == "AMA"
    for prefix in ("RESIN", "BALENA"):
        assert environment[prefix] == "1"
        assert environment[f"{prefix}_DEVICE_UUID"] == device.config["uuid"]
        assert environment[f"{prefix}_APP_NAME"] == "bots"
        assert environment[f"{prefix}_APP_RELEASE"] == "aaa1"
        assert environment[f"{prefix}_SERVICE_NAME"] == "main"
        assert environment[f"{prefix}_DEVICE_NAME_AT_INIT"] == "quiet-robot"
        assert environment[f"{prefix}_DEVICE_ARCH"] == "amd64"
    assert "BALENA_SUPERVISOR_API_KEY" not in environment
    app = f"uuid{device.app_id}"

    def done() -> bool:
        release = cloud.reported().get("apps", {}).get(app, {})
        if release.get("release_uuid") != "aaa1":
            return False
        status: str = release["releases"]["aaa1"]["services"]["main"]["status"]
        return status == "Running"

    wait_until("the report", done)
    wait_until("the log", lambda: "begun x y" in cloud.messages(serviceName="main"))
    system = cloud.messages(isSystem=True)
    assert f"Downloading image '{image}'" in system
    assert "Started service 'main'" in system
    known = cloud.reported()
    for key in ("supervisor_version", "os_version", "memory_total"):
        assert known[key]


def test_the_old_release_runs_until_the_new_one_is_here(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    first = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": first}})
    device.start()
    old = wait_until("the first release", device.service)
    # A release with an image that does not exist: it waits, and what runs goes on running.
    missing = first.partition("@")[0] + "@sha256:" + "0" * 64
    second = registry.push(FOREVER + " # two")
    cloud.apps = device.app("bbb2", {"main": {"image": second}, "more": {"image": missing}})
    wait_until(
        "the failure is told",
        lambda: any("Failed to download" in each for each in cloud.messages(isSystem=True)),
    )
    assert [each.id for each in device.containers()] == [old.id]
    third = registry.push(FOREVER + " # three")
    cloud.apps = device.app("ccc3", {"main": {"image": third}})
    wait_until(
        "the third release alone",
        lambda: [each.attrs["Config"]["Image"] for each in device.containers(True)] == [third],
    )

    def names() -> set[str]:
        return {each for each in image_names(device.engine) if each in registry.pushed}

    wait_until("old images are gone", lambda: names() == {third})


def test_a_variable_restarts_its_service_only(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(FOREVER)
    services: dict[str, dict[str, Any]] = {
        "one": {"image": image},
        "two": {"image": image, "environment": {"NAME": "a"}},
    }
    cloud.apps = device.app("aaa1", services)
    device.start()
    one = wait_until("one", lambda: device.service("one"))
    two = wait_until("two", lambda: device.service("two"))
    services["two"]["environment"] = {"NAME": "b"}
    cloud.apps = device.app("aaa1", services)
    wait_until("b is logged", lambda: "begun b" in cloud.messages(serviceName="two"))
    assert device.service("one") == one
    assert device.service("two") != two
    # A new release of the same image and configuration: nothing is restarted, and it is reported.
    two = device.service("two")
    cloud.apps = device.app("bbb2", services)
    app = f"uuid{device.app_id}"
    wait_until(
        "the new release", lambda: cloud.reported()["apps"][app].get("release_uuid") == "bbb2", 15
    )
    assert (device.service("one"), device.service("two")) == (one, two)


def test_services_meet_by_name_keep_their_volumes_and_start_in_order(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    server = registry.push(
        "echo $NAME >> /keep/names; cat /keep/names; httpd -f -p 8000 -h /keep & wait"
    )
    client = registry.push(
        "while ! wget -qO- http://server:8000/names; do sleep 0.2; done; sleep 99"
    )
    check = {"test": "wget -qO- http://localhost:8000/names", "interval": "1s"}
    composition = {"volumes": ["keep:/keep"], "healthcheck": check}
    services = {
        "client": {
            "image": client,
            "composition": {"depends_on": {"server": {"condition": "service_healthy"}}},
        },
        "server": {"image": server, "environment": {"NAME": "n1"}, "composition": composition},
    }
    cloud.apps = device.app("aaa1", services, volumes={"keep": {}})
    device.start()
    wait_until("the client hears", lambda: "n1" in cloud.messages(serviceName="client"))
    services["server"]["environment"] = {"NAME": "n2"}
    cloud.apps = device.app("bbb2", services, volumes={"keep": {}})
    wait_until("kept", lambda: cloud.messages(serviceName="server") == ["n1", "n1", "n2"])
    volumes = device.engine.volumes.list(filters={"name": f"{device.app_id}_keep"})
    assert [each.name for each in volumes] == [f"{device.app_id}_keep"]
    cloud.apps = {}
    wait_until("all is removed", lambda: not device.containers())


def test_a_crash_loop_does_not_hold_up_the_next_release(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    bad = registry.push("echo crashing; exit 3")
    broken = registry.push("echo never")
    cloud.apps = device.app(
        "aaa1",
        {
            "main": {"image": bad},
            "odd": {"image": broken, "composition": {"entrypoint": ["/no/such/program"]}},
        },
    )
    device.start()
    wait_until("it crashes again", lambda: cloud.messages(serviceName="main").count("crashing") > 2)
    wait_until(
        "the other's failure is told",
        lambda: any("Starting service 'odd' failed" in each for each in cloud.messages()),
    )
    good = registry.push(FOREVER)
    cloud.apps = device.app("bbb2", {"main": {"image": good}})
    wait_until("the next release", device.service)
    wait_until("alone", lambda: len(device.containers()) == 1)


def test_a_stopped_service_is_started_again(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push("trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done")
    once = registry.push("echo once")
    cloud.apps = device.app(
        "aaa1", {"main": {"image": image}, "job": {"image": once, "composition": {"restart": "no"}}}
    )
    device.start()
    container = wait_until("it runs", device.service)
    container.stop(timeout=5)
    wait_until("it runs again", device.service)
    container = wait_until("it runs", device.service)
    container.remove(force=True)
    wait_until("it was made anew", lambda: device.service() and device.service() != container)
    time.sleep(1.0)
    assert cloud.messages(serviceName="job") == ["once"]


def test_sigterm_leaves_applications_running(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push("i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done")
    cloud.apps = device.app("aaa1", {"main": {"image": image}})
    device.start()
    container = wait_until("it runs", device.service)
    wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > 20)
    assert device.signal(signal.SIGTERM) == 0
    assert device.service() == container
    # Without network after a start, the last target is held; logs go on where they were.
    cloud.stop()
    container.stop(timeout=0)
    device.start()
    wait_until("it is started again without the api", device.service)
    cloud.start()
    wait_until("lines again", lambda: cloud.messages(serviceName="main").count("line 5") > 1)
    lines = cloud.messages(serviceName="main")
    second = lines.index("line 1", 1)
    assert lines[:second] == [f"line {n + 1}" for n in range(second)]
    assert lines[second:] == [f"line {n + 1}" for n in range(len(lines) - second)]
