"""Update strategies, order, locks and room on a real engine."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    wait_until,
)

FOREVER = "trap 'exit 0' TERM; echo begun $NAME; while true; do sleep 0.2; done"


class Timeline:
    """What the engine said of a device's containers: kind of event and service, in order."""

    def __init__(self, engine: docker.DockerClient, instance: str) -> None:
        self.events: list[tuple[str, str]] = []
        filters = {"type": "container", "label": f"io.gantry.instance={instance}"}
        self._stream = engine.events(decode=True, filters=filters)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._stream:
            attributes = event["Actor"]["Attributes"]
            self.events.append((event["Action"], attributes["io.balena.service-name"]))

    def close(self) -> None:
        self._stream.close()
        self._thread.join(10)

    def of(self, *kinds: str) -> list[tuple[str, str]]:
        return [each for each in list(self.events) if each[0] in kinds]


@pytest.fixture
def timeline(device: Device) -> Iterator[Timeline]:
    one = Timeline(device.engine, device.instance)
    yield one
    one.close()


def label(strategy: str, **more: str) -> dict[str, Any]:
    return {"labels": {"io.balena.update.strategy": strategy, **more}}


def runs_only(device: Device, image: str) -> Callable[[], bool]:
    """Whether exactly one container is there, and runs this image."""

    def check() -> bool:
        found = device.containers()
        return [(e.attrs["Config"]["Image"], e.status) for e in found] == [(image, "running")]

    return check


@pytest.mark.parametrize("strategy", ["kill-then-download", "delete-then-download"])
def test_the_old_one_goes_before_the_new_image_comes(
    device: Device, cloud: Cloud, registry: Registry, strategy: str
) -> None:
    first = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": first, **label(strategy)}})
    device.start()
    wait_until("the first release", runs_only(device, first))
    # An image that does not exist: what happens before its download stays as it is.
    missing = first.partition("@")[0] + "@sha256:" + "0" * 64
    cloud.apps = device.app("bbb2", {"main": {"image": missing, **label(strategy)}})
    wait_until(
        "the download is tried",
        lambda: any("Failed to download" in each for each in cloud.messages(isSystem=True)),
    )
    assert device.containers() == []
    assert (first in image_names(device.engine)) is (strategy == "kill-then-download")
    second = registry.push(FOREVER + " # two")
    cloud.apps = device.app("ccc3", {"main": {"image": second, **label(strategy)}})
    wait_until("the second release", runs_only(device, second))
    wait_until("the first image goes", lambda: first not in image_names(device.engine))


def test_hand_over_by_the_marker_file(
    device: Device, cloud: Cloud, registry: Registry, timeline: Timeline
) -> None:
    first = registry.push(FOREVER)
    long = label("hand-over", **{"io.balena.update.handover-timeout": "3600000"})
    cloud.apps = device.app("aaa1", {"main": {"image": first, **long}})
    device.start()
    wait_until("the first release", runs_only(device, first))
    # It is in nobody's way that an earlier hand-over's marker lies there.
    runtime = device.home / "runtime" / "services" / str(device.app_id) / "main"
    (runtime / "handover-complete").touch()
    second = registry.push(
        "while ! [ -e /tmp/balena/go ]; do sleep 0.1; done; : > "
        "$RESIN_SERVICE_HANDOVER_COMPLETE_PATH;" + FOREVER
    )
    cloud.apps = device.app("bbb2", {"main": {"image": second, **long}})
    wait_until("both run", lambda: len(device.containers(running=True)) == 2)
    time.sleep(2.0)
    assert len(device.containers(running=True)) == 2
    (runtime / "go").touch()
    wait_until("the second release alone", runs_only(device, second))
    assert timeline.of("start", "die") == [("start", "main"), ("start", "main"), ("die", "main")]


def test_hand_over_by_time_waits_for_a_new_one_that_runs(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    first = registry.push(FOREVER)
    short = label("hand-over", **{"io.balena.update.handover-timeout": "10000"})
    cloud.apps = device.app("aaa1", {"main": {"image": first, **short}})
    device.start()
    old = wait_until("the first release", device.service)
    crashing = registry.push("sleep 1; exit 1")
    cloud.apps = device.app("bbb2", {"main": {"image": crashing, **short}})
    wait_until("both are there", lambda: len(device.containers()) == 2)
    time.sleep(20.0)
    old.reload()
    assert old.status == "running"
    good = registry.push(FOREVER + " # three")
    cloud.apps = device.app("ccc3", {"main": {"image": good, **short}})
    wait_until("the third release alone", runs_only(device, good))


def test_a_lock_holds_an_update_back_until_it_is_given_back_or_overridden(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(
        "trap 'exit 0' TERM; if [ -n \"$LOCK\" ]; then set -C; : > $BALENA_APP_LOCK_PATH && "
        "echo locked; fi; while true; do sleep 0.2; done"
    )
    services: dict[str, dict[str, Any]] = {
        "main": {"image": image, "environment": {"LOCK": "1", "NAME": "1"}},
        "other": {"image": image, "environment": {"NAME": "1"}},
    }
    cloud.apps = device.app("aaa1", services)
    device.start()
    wait_until("it has locked", lambda: "locked" in cloud.messages(serviceName="main"))
    before = {each.id for each in device.containers()}
    assert len(before) == 2

    def update(number: str) -> None:
        for each in services.values():
            each["environment"] = {**each["environment"], "NAME": number}
        cloud.apps = device.app("aaa1", services)

    update("2")
    wait_until(
        "the lock is told of",
        lambda: any("is locked by service main since" in e for e in cloud.messages(isSystem=True)),
    )
    time.sleep(4.0)
    assert {each.id for each in device.containers()} == before
    lock = device.home / "runtime" / "services" / str(device.app_id) / "main" / "updates.lock"
    lock.unlink()

    def replaced(old: set[str | None]) -> Callable[[], bool]:
        return lambda: (
            len(device.containers(running=True)) == 2
            and not old & {each.id for each in device.containers()}
        )

    wait_until("both are replaced", replaced(before))
    # The new container could lock as soon as it ran.
    wait_until(
        "it has locked again", lambda: cloud.messages(serviceName="main").count("locked") == 2
    )
    before = {each.id for each in device.containers()}
    cloud.config = {"BALENA_SUPERVISOR_OVERRIDE_LOCK": "1"}
    update("3")
    wait_until("both are replaced though locked", replaced(before))


def test_the_lock_of_a_process_that_crashed_holds_nothing_back(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """The engine starts the container again, whose folder is the same: its next life can lock, and
    the next release replaces it between two of them."""
    crashing = registry.push(
        "set -C; : > $BALENA_APP_LOCK_PATH || exit 1; echo locked; sleep 1; exit 3"
    )
    cloud.apps = device.app("aaa1", {"main": {"image": crashing}})
    device.start()
    wait_until(
        "it has locked anew after a crash",
        lambda: cloud.messages(serviceName="main").count("locked") > 1,
    )
    good = registry.push(FOREVER)
    cloud.apps = device.app("bbb2", {"main": {"image": good}})
    wait_until("the next release alone", runs_only(device, good))


def test_a_forced_update_counts_no_lock(device: Device, cloud: Cloud, registry: Registry) -> None:
    image = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": image, **api_label()}})
    device.start()
    old = wait_until("it runs", device.service)
    lock = device.home / "runtime" / "services" / str(device.app_id) / "main" / "updates.lock"
    lock.touch()
    cloud.apps = device.app(
        "aaa1", {"main": {"image": image, "environment": {"NAME": "2"}, **api_label()}}
    )
    wait_until(
        "the lock is told of",
        lambda: any("Updates are locked" in each for each in cloud.messages(isSystem=True)),
    )
    environment = dict(each.split("=", 1) for each in old.attrs["Config"]["Env"])
    key = environment["BALENA_SUPERVISOR_API_KEY"]

    url = f"http://127.0.0.1:{device.port}/v1/update?apikey={key}"
    assert httpx2.post(url, json={"force": True}).status_code == 204
    wait_until("it is replaced", lambda: device.service() and device.service() != old)


def api_label() -> dict[str, Any]:
    return {"labels": {"io.balena.features.supervisor-api": "1"}}


def test_a_supervisor_that_is_killed_amid_an_update_leaves_no_lock(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """What it held ends when it starts again, and the update goes on."""
    stubborn = registry.push("trap '' TERM; echo up $NAME; while true; do sleep 0.2; done")
    slow = {"composition": {"stop_grace_period": "20s"}}
    cloud.apps = device.app("aaa1", {"main": {"image": stubborn, **slow}})
    device.start()
    old = wait_until("it runs", device.service)
    wait_until("it is up", lambda: cloud.messages(serviceName="main"))
    cloud.apps = device.app(
        "aaa1", {"main": {"image": stubborn, "environment": {"NAME": "2"}, **slow}}
    )
    lock = device.home / "runtime" / "services" / str(device.app_id) / "main" / "updates.lock"
    wait_until("the supervisor holds the lock", lock.exists)
    assert device.signal(signal.SIGKILL) == -signal.SIGKILL
    assert lock.exists()
    device.start()
    wait_until("it is replaced", lambda: device.service() and device.service() != old)
    wait_until("the lock is given back", lambda: not lock.exists())


def test_services_stop_before_what_they_depend_on(
    device: Device, cloud: Cloud, registry: Registry, timeline: Timeline
) -> None:
    image = registry.push(FOREVER)

    def services(name: str) -> dict[str, dict[str, Any]]:
        environment = {"environment": {"NAME": name}}
        return {
            "db": {"image": image, **environment},
            "mid": {"image": image, "composition": {"depends_on": ["db"]}, **environment},
            "web": {"image": image, "composition": {"depends_on": ["mid"]}, **environment},
        }

    cloud.apps = device.app("aaa1", services("1"))
    device.start()
    wait_until("all run", lambda: len(device.containers(running=True)) == 3)
    wait_until("all started", lambda: len(timeline.of("start")) == 3)
    assert timeline.of("start") == [("start", "db"), ("start", "mid"), ("start", "web")]
    timeline.events.clear()
    cloud.apps = device.app("bbb2", services("2"))
    wait_until("all were replaced", lambda: len(timeline.of("start")) == 3)
    stops = [("die", "web"), ("die", "mid"), ("die", "db")]
    starts = [("start", "db"), ("start", "mid"), ("start", "web")]
    assert timeline.of("die", "start") == stops + starts
    timeline.events.clear()
    cloud.apps = {}
    wait_until("all is removed", lambda: not device.containers())
    wait_until("all is told", lambda: len(timeline.of("destroy")) == 3)
    assert timeline.of("die") == stops


def test_a_one_shot_runs_once_and_who_waits_for_it_starts_then(
    device: Device, cloud: Cloud, registry: Registry, timeline: Timeline
) -> None:
    job = registry.push("sleep 1; echo done $NAME")
    image = registry.push(FOREVER)

    def services(name: str) -> dict[str, dict[str, Any]]:
        waits = {"depends_on": {"job": {"condition": "service_completed_successfully"}}}
        return {
            "job": {
                "image": job,
                "environment": {"NAME": name},
                "composition": {"restart": "no"},
            },
            "main": {"image": image, "composition": waits},
        }

    cloud.apps = device.app("aaa1", services("1"))
    device.start()
    main = wait_until("main runs", device.service)
    assert timeline.of("start", "die")[:3] == [("start", "job"), ("die", "job"), ("start", "main")]
    assert device.signal(signal.SIGTERM) == 0
    device.start()
    cloud.apps = device.app("bbb2", services("2"))
    wait_until("the job's second run", lambda: "done 2" in cloud.messages(serviceName="job"))
    app = f"uuid{device.app_id}"
    wait_until("it is done", lambda: cloud.reported()["apps"][app].get("release_uuid") == "bbb2")
    assert device.service() == main
    assert cloud.messages(serviceName="job") == ["done 1", "done 2"]


def test_a_new_target_replaces_a_download(device: Device, cloud: Cloud, registry: Registry) -> None:
    first = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": first}})
    device.start()
    wait_until("the first release", runs_only(device, first))
    big = registry.push(FOREVER, ballast=300_000_000)
    cloud.apps = device.app("bbb2", {"main": {"image": big}})
    wait_until(
        "the download begins",
        lambda: f"Downloading image '{big}'" in cloud.messages(isSystem=True),
    )
    third = registry.push(FOREVER + " # three")
    cloud.apps = device.app("ccc3", {"main": {"image": third}})
    wait_until("the third release", runs_only(device, third))
    wait_until("nothing else is left", lambda: big not in image_names(device.engine))


def test_a_new_target_amid_a_replacement_leaves_a_service_running(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """The next release's image does not come: one that was there before runs meanwhile."""
    stubborn = registry.push("trap '' TERM; echo up; while true; do sleep 0.2; done")
    slow = {"composition": {"stop_grace_period": "4s"}}
    cloud.apps = device.app("aaa1", {"main": {"image": stubborn, **slow}})
    device.start()
    wait_until("it is up", lambda: cloud.messages(serviceName="main"))
    second = registry.push(FOREVER + " # two")
    cloud.apps = device.app("bbb2", {"main": {"image": second, **slow}})
    wait_until("it is being stopped", lambda: "Killing service 'main'" in cloud.messages())
    missing = stubborn.partition("@")[0] + "@sha256:" + "0" * 64
    cloud.apps = device.app("ccc3", {"main": {"image": missing, **slow}})
    wait_until("the second release runs", runs_only(device, second))
    time.sleep(2.0)
    assert runs_only(device, second)()


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Callable[[int], None]]:
    """A file system of this size; the function changes it."""
    path.mkdir()
    options = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}m", path], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system")
def test_an_image_that_does_not_fit_is_refused_told_of_and_comes_when_there_is_room(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    """The supervisor's data is on the engine's disk; here it alone is on a small one."""
    with small_disk(device.home / "data", 100) as resize:
        first = registry.push(FOREVER)
        cloud.apps = device.app("aaa1", {"main": {"image": first}})
        device.start()
        wait_until("the first release", runs_only(device, first))
        big = registry.push(FOREVER + " # big", ballast=40_000_000)
        cloud.apps = device.app("bbb2", {"main": {"image": big}})
        wait_until(
            "it is told of",
            lambda: any("not enough room on the disk" in each for each in cloud.messages()),
        )
        assert f"Downloading image '{big}'" not in cloud.messages()
        assert runs_only(device, first)()
        resize(400)
        wait_until("the second release", runs_only(device, big))
